""".NET: the host, the shared frameworks, and what they load themselves."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

TABLE = (
    Rule(
        "dotnet.framework-absent",
        Severity.FATAL,
        "No installed .NET framework fits the application",
        "The host takes a framework of the version that NAME.runtimeconfig.json asks for, or a later one as far "
        "as rollForward allows.",
        "Use the runtime image of the version the application was built for, or publish it self-contained.",
        "dotnet/runtime docs/design/features/framework-version-resolution.md",
        Reason.RUNTIME,
    ),
    Rule(
        "dotnet.application-absent",
        Severity.FATAL,
        "The .NET application to be started is not there",
        "What is no file is taken for a command of the SDK, and a runtime image has no SDK.",
        "Copy the published application to the path that the command names, or mend the path; capital letters "
        "count.",
        "dotnet/runtime src/native/corehost/fxr/fx_muxer.cpp",
        Reason.RUNTIME,
    ),
    Rule(
        "dotnet.host-incomplete",
        Severity.FATAL,
        "The .NET host lacks a part of itself",
        "dotnet loads host/fxr/VERSION/libhostfxr.so from beside itself.",
        "Copy the whole directory of the runtime.",
        "dotnet/runtime src/native/corehost/fxr_resolver.cpp",
        Reason.RUNTIME,
    ),
    Rule(
        "dotnet.no-icu",
        Severity.LATER,
        "ICU is not in the image and invariant mode is off",
        "The runtime loads libicuuc by dlopen when culture data is first wanted, which is nearly always at the start, and aborts "
        "without it.",
        "Install libicu (Debian: libicu72 or its like; Alpine: icu-libs), or set DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1.",
        "dotnet/runtime docs/design/features/globalization-invariant-mode.md, failures 37",
    ),
)  # fmt: skip
