"""What a .NET application meets once it runs: no ICU although it did not say that it can do without (failures 37)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzers.finding import Finding
from analyzers.handover.dotnet import host_release, read_runtime_config
from analyzers.lookup import variable
from analyzers.readers import RUNTIME_CONFIG
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.start import Start
from analyzers.trail import show_path

_ICU = re.compile(rb"libicuuc\.so(?:\.[0-9.]+)?")
_FOLDERS = (
    b"lib", b"usr/lib", b"usr/lib/x86_64-linux-gnu", b"usr/lib/aarch64-linux-gnu", b"lib64", b"usr/lib64", b"usr/local/lib",
)  # fmt: skip
_LINE = (
    "Process terminated. Couldn't find a valid ICU package installed on the system. Please install libicu (or icu-libs) using "
    "your package manager and try again. Alternatively you can set the configuration flag System.Globalization.Invariant to true "
    "if you want to run with no globalization support. Please see https://aka.ms/dotnet-missing-libicu for more information."
)
_OLD_LINE = (
    "Process terminated. Couldn't find a valid ICU package installed on the system. Set the configuration flag "
    "System.Globalization.Invariant to true if you want to run with no globalization support."
)


def dotnet_findings(rootfs: Rootfs, start: Start) -> Iterator[Finding]:
    """For the application that `dotnet` starts, or that is started by a host of its own."""
    executed = start.execution
    if executed is None or executed.program is None:
        return
    application = _application(rootfs, start)
    node = None if application is None else rootfs.resolve(b"/" + application + RUNTIME_CONFIG).node
    text = None if node is None else rootfs.text(node)
    wanted = None if text is None else read_runtime_config(text)
    if node is None or wanted is None or wanted.invariant or _set_to_invariant(start) or _has_icu(rootfs, node.path):
        return
    release = host_release(rootfs, executed.program.path.rpartition(b"/")[0])
    rule = RULES["dotnet.no-icu"]
    yield Finding(
        rule.id,
        rule.severity,
        _OLD_LINE if release is not None and release.major < 6 else _LINE,
        show_path(node.path),
        rootfs.layer_of(node),
        why=rule.why,
        remedies=(rule.remedy,),
        assumptions=(
            "That the application wants culture data, as nearly every one does.",
            "That no ICU of its own lies beside it.",
        ),
    )


def _application(rootfs: Rootfs, start: Start) -> bytes | None:
    """Canonical path of the application without its ending."""
    executed = start.execution
    if executed is None or executed.program is None:
        return None
    program = executed.program.path
    if program.rpartition(b"/")[2] != b"dotnet":
        return program
    name = next((word for word in executed.argv[1:] if word.endswith(b".dll")), None)
    found: Node | None = None if name is None else rootfs.resolve(name, cwd=start.cwd).node
    return None if found is None else found.path.removesuffix(b".dll")


def _set_to_invariant(start: Start) -> bool:
    value = variable(start.env, b"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT") or b""
    return value.lower() in (b"1", b"true")


def _has_icu(rootfs: Rootfs, config: bytes) -> bool:
    """In a directory that loaders look in, or beside the application."""
    for folder in (*_FOLDERS, config.rpartition(b"/")[0]):
        found = rootfs.resolve(b"/" + folder).node
        if found is not None and any(_ICU.fullmatch(node.path.rpartition(b"/")[2]) for node in rootfs.children(found.path)):
            return True
    return False
