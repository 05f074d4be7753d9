"""The .NET host's choice of a framework, and the words of hosts that cannot be had here, as issue threads record them."""

from __future__ import annotations

import pytest

from analyzers.finding import Reason, Report, Severity, State
from analyzers.handover.dotnet import fits, parse_version, read_runtime_config
from analyzers.judges import judge_image
from analyzers.layer import LayerReader
from analyzers.oci import ImageConfig
from tests.conftest import absent
from tests.make.dotnet import config
from tests.make.elves import ToolAbsent, c
from tests.make.layers import Item, file, folder, program, tar_of

DEBIAN = file('ID=debian\nVERSION_ID="12"\n')


def report(host: str, frameworks: tuple[str, ...], items: dict[str, Item], env: tuple[str, ...] = ()) -> Report:
    try:
        dotnet = c("int main(void) { return 0; }\n", "-static")
    except ToolAbsent as error:
        absent(str(error))
    root: dict[str, Item | bytes | str] = {
        "usr/share/dotnet/dotnet": program(dotnet),
        f"usr/share/dotnet/host/fxr/{host}/libhostfxr.so": file("x"),
        **{f"usr/share/dotnet/shared/{each}": folder() for each in frameworks},
        "etc/os-release": DEBIAN,
        **items,
    }
    reader = LayerReader()
    reader.feed(tar_of(root))
    return judge_image("sha256:0", ImageConfig(cmd=("/usr/share/dotnet/dotnet", "/app/app.dll"), env=env), [reader.finish()])


def app(settings: Item) -> dict[str, Item]:
    return {"app/app.dll": file("x"), "app/app.runtimeconfig.json": settings}


@pytest.mark.parametrize(
    ("wanted", "found", "roll_forward", "expected"),
    [
        ("8.0.0", "8.0.4", "minor", True),
        ("8.0.5", "8.0.4", "latestmajor", False),
        ("8.0.0", "9.0.0", "minor", False),
        ("8.0.0", "9.0.0", "major", True),
        ("8.0.0", "9.0.0", "latestmajor", True),
        ("3.0.0", "3.1.5", "minor", True),
        ("3.0.0", "3.1.5", "latestminor", True),
        ("3.0.0", "3.1.5", "latestpatch", False),
        ("3.1.0", "3.1.5", "disable", False),
        ("3.1.5", "3.1.5", "disable", True),
        ("9.0.0", "9.0.0-preview.1", "minor", False),
        ("9.0.0-preview.1", "9.0.0", "minor", True),
    ],
)
def test_roll_forward(wanted: str, found: str, roll_forward: str, expected: bool) -> None:
    asked, there = parse_version(wanted), parse_version(found)
    assert asked is not None
    assert there is not None
    assert fits(asked, there, roll_forward) is expected


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b'{"runtimeOptions": 1}', b'{"runtimeOptions": {"includedFrameworks": []}}', b"[" * 100_000,
     b'{"runtimeOptions": {"framework": {"name": 1, "version": "1"}}}', b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_a_config_that_is_odd_or_self_contained_claims_nothing(text: bytes) -> None:
    assert read_runtime_config(text) is None


def test_row_36_the_words_of_a_host_of_8() -> None:
    found = report("8.0.4", ("Microsoft.NETCore.App/8.0.4",), app(config("9.0.0")))
    assert found.verdict.reason is Reason.RUNTIME
    assert found.verdict.exit_code == 150
    assert found.verdict.message == "Framework: 'Microsoft.NETCore.App', version '9.0.0' (x64)"
    assert found.verdict.lines == (
        "You must install or update .NET to run this application.",
        "",
        "App: /app/app.dll",
        "Architecture: x64",
        "Framework: 'Microsoft.NETCore.App', version '9.0.0' (x64)",
        ".NET location: /usr/share/dotnet",
        "",
        "The following frameworks were found:",
        "  8.0.4 at [/usr/share/dotnet/shared/Microsoft.NETCore.App]",
        "",
        "Learn more:",
        "https://aka.ms/dotnet/app-launch-failed",
        "",
        "To install missing framework, download:",
        "https://aka.ms/dotnet-core-applaunch?framework=Microsoft.NETCore.App&framework_version=9.0.0&arch=x64&rid=linux-x64&os=debian.12",
    )
    (fatal,) = [each for each in found.findings if each.severity is Severity.FATAL]
    assert fatal.why.endswith("/app/app.dll asks for Microsoft.NETCore.App 9.0.0 with rollForward minor, and /usr/share/dotnet "
                              "has 8.0.4 of it.")  # fmt: skip
    assert fatal.remedies[0] == "Use a base with .NET 9.0, such as dotnet/runtime:9.0."


def test_row_36_the_words_of_a_host_of_7_and_a_web_application_on_a_plain_runtime() -> None:
    found = report("7.0.5", ("Microsoft.NETCore.App/7.0.5",), app(config("7.0.0", "7.0.0")))
    assert found.verdict.lines[4:10] == (
        "Framework: 'Microsoft.AspNetCore.App', version '7.0.0' (x64)",
        ".NET location: /usr/share/dotnet/",
        "",
        "No frameworks were found.",
        "",
        "Learn about framework resolution:",
    )
    assert found.verdict.lines[-1].endswith("&rid=debian.12-x64")


def test_an_application_that_is_not_there_is_taken_for_a_command_of_the_sdk() -> None:
    found = report("8.0.4", ("Microsoft.NETCore.App/8.0.4",), {"srv/App.dll": file("x")})
    assert found.verdict.exit_code == 145
    assert found.verdict.message == "The application '/app/app.dll' does not exist."
    with_sdk = report("8.0.4", ("Microsoft.NETCore.App/8.0.4",), {"usr/share/dotnet/sdk/8.0.100/x": file("x")})
    assert with_sdk.verdict.state is State.STARTS


def test_row_37_is_silent_where_icu_is_or_the_environment_says_invariant() -> None:
    plain = app(config("8.0.0"))
    frameworks = ("Microsoft.NETCore.App/8.0.4",)

    def told(items: dict[str, Item], *env: str) -> list[Severity]:
        found = report("8.0.4", frameworks, items, env)
        assert found.verdict.state is State.STARTS
        return [each.severity for each in found.findings if each.rule == "dotnet.no-icu"]

    assert told(plain) == [Severity.LATER]
    assert told(plain, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1") == []
    assert told({**plain, "usr/lib/libicuuc.so.72": file("x")}) == []
    assert told({**plain, "app/libicuuc.so.72.1": file("x")}) == []
    assert told(app(config("8.0.0", configProperties={"System.Globalization.Invariant": True}))) == []
