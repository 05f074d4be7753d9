"""The .NET host: `dotnet app.dll`, the frameworks that the application asks for, and those that the image has.

Mirrors dotnet/runtime `src/native/corehost` (`fxr/fx_muxer.cpp`, `fxr/fx_resolver.cpp`, `fx_resolver.messages.cpp`). The words of
3.1 are held to the real host; those of 5 to 10 are as public issue threads record them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from analyzers.errors import Rejected
from analyzers.facts import Kind
from analyzers.finding import Attempt, Outcome, Step, show
from analyzers.handover.place import Refusal, Surroundings
from analyzers.kernel import Execution
from analyzers.lookup import variable
from analyzers.oci import load_json
from analyzers.readers import RUNTIME_CONFIG
from analyzers.rootfs import Node, Rootfs
from analyzers.trail import show_path

_FRAMEWORK_MISSING = 150
_NO_SDK = 145
_NO_HOST = 131
_WITH_ARGUMENT = frozenset(
    b"--additionalprobingpath --additional-deps --depsfile --fx-version --roll-forward --roll-forward-on-no-candidate-fx "
    b"--runtimeconfig".split()
)
_ARCHITECTURES = {"amd64": "x64", "arm64": "arm64", "386": "x86", "arm": "arm", "s390x": "s390x", "ppc64le": "ppc64le"}
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?\Z")
_ROLL_FORWARD = ("disable", "latestpatch", "minor", "latestminor", "major", "latestmajor")
_FRAMEWORKS = 20


class Version(NamedTuple):
    """A version of a framework; a release comes after its previews."""

    major: int
    minor: int
    patch: int
    release: bool


class Wanted(NamedTuple):
    """What an application asks of its host."""

    frameworks: tuple[tuple[str, str], ...]
    """(name, version as written), in order."""
    roll_forward: str
    invariant: bool
    """Says itself that it wants no culture data."""


def parse_version(text: str) -> Version | None:
    found = _VERSION.match(text)
    return None if found is None else Version(int(found[1]), int(found[2]), int(found[3]), found[4] is None)


def read_runtime_config(text: bytes) -> Wanted | None:
    """A `runtimeconfig.json`; None where it is not plain JSON or the application brings its own framework."""
    try:
        document = load_json(text)
    except Rejected:
        return None
    options = document.get("runtimeOptions") if isinstance(document, dict) else None
    if not isinstance(options, dict) or "includedFrameworks" in options or "applyPatches" in options:
        return None
    listed = options.get("frameworks") or ([options["framework"]] if options.get("framework") else [])
    frameworks = _frameworks(listed)
    roll_forward = options.get("rollForward", "Minor")
    if frameworks is None or not isinstance(roll_forward, str) or "rollForwardOnNoCandidateFx" in options:
        return None
    properties = options.get("configProperties")
    invariant = isinstance(properties, dict) and properties.get("System.Globalization.Invariant") in (True, "true")
    return Wanted(frameworks, roll_forward.lower(), invariant)


def _frameworks(listed: Any) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(listed, list) or not 0 < len(listed) <= _FRAMEWORKS:
        return None
    found = []
    for each in listed:
        name, version = (each.get("name"), each.get("version")) if isinstance(each, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(version, str) or "rollForward" in each:
            return None
        found.append((name, version))
    return tuple(found)


def fits(wanted: Version, found: Version, roll_forward: str) -> bool:
    """Whether a host may take `found` where `wanted` is asked for (framework-version-resolution.md)."""
    if found < wanted:
        return False
    if roll_forward == "disable":
        return found == wanted
    if roll_forward == "latestpatch":
        return found[:2] == wanted[:2]
    return roll_forward in ("major", "latestmajor") or found.major == wanted.major


class _Command(NamedTuple):
    """The muxer's command line."""

    application: bytes
    roll_forward: bytes
    config: bytes


def start_dotnet(place: Surroundings, executed: Execution, family: str) -> Refusal | None:
    """What the host refuses; None when it starts the application, or when that cannot be told."""
    command = _read(executed.argv)
    if command is None or executed.program is None:
        return None
    return _Host(place, executed, executed.program, command).run()


def _read(argv: Sequence[bytes]) -> _Command | None:
    """None for commands of the SDK, and for options that choose frameworks in ways not followed."""
    words = list(argv[1:])
    if words[:1] == [b"exec"]:
        del words[0]
    said: dict[bytes, bytes] = {}
    while words and words[0].startswith(b"-"):
        if words[0] not in _WITH_ARGUMENT or len(words) < 2:
            return None
        said[words[0]] = words[1]
        del words[:2]
    if not words or b"--fx-version" in said or b"--roll-forward-on-no-candidate-fx" in said:
        return None
    if not words[0].endswith((b".dll", b".exe")):
        return None
    return _Command(words[0], said.get(b"--roll-forward", b""), said.get(b"--runtimeconfig", b""))


class _Host:
    """One run of the host."""

    def __init__(self, place: Surroundings, executed: Execution, program: Node, command: _Command) -> None:
        self.place = place
        self.executed = executed
        self.command = command
        self.root = program.path.rpartition(b"/")[0]
        self.by = show_path(program.path)

    def run(self) -> Refusal | None:
        rootfs, command = self.place.rootfs, self.command
        release = host_release(rootfs, self.root)
        if release is None:
            return self._without_host()
        found = rootfs.resolve(command.application, cwd=self.place.cwd, creds=self.executed.creds)
        if found.unknown:
            return None
        if found.node is None:
            return self._absent(release)
        if found.node.entry.kind != Kind.FILE:
            return None
        wanted = self._wanted(found.node)
        return None if wanted is None else self._resolve(release, found.node, wanted)

    def _without_host(self) -> Refusal | None:
        found = self.place.rootfs.resolve(b"/" + self.root + b"/host/fxr")
        if found.node is not None or found.unknown or self.place.rootfs.partial:
            return None
        text = f"A fatal error occurred. The folder [{show_path(self.root)}/host/fxr] does not exist"
        step = Step("runtime", show_path(self.root) + "/host/fxr", self.by, ok=False)
        why = f"{show_path(self.root)}/host/fxr is not there."
        cause = "dotnet.host-incomplete"
        return Refusal((text.encode(),), _NO_HOST, cause, self.root, b"host/fxr", (step,), why=why)

    def _absent(self, release: Version) -> Refusal | None:
        """No file: a command of the SDK, which the image does not have."""
        name = self.command.application
        rootfs = self.place.rootfs
        if rootfs.partial or rootfs.resolve(b"/" + self.root + b"/sdk").node is not None:
            return None
        said = b"      The application '" + name + b"' does not exist."
        lines: tuple[bytes, ...]
        if release.major < 5:
            lines = (
                b"  It was not possible to find any installed .NET Core SDKs",
                b"  Did you mean to run .NET Core SDK commands? Install a .NET Core SDK from:",
                b"      https://aka.ms/dotnet-download",
            )
        else:
            lines = (
                b"The command could not be loaded, possibly because:",
                b"  * You intended to execute a .NET application:",
                said,
                b"  * You intended to execute a .NET SDK command:",
                b"      No .NET SDKs were found.",
                b"",
                b"Download a .NET SDK:",
                b"https://aka.ms/dotnet/download",
                b"",
                b"Learn about SDK resolution:",
                b"https://aka.ms/dotnet/sdk-not-found",
            )  # fmt: skip
        base = name.rpartition(b"/")[2]
        other = next((node for node in rootfs.named(base)), None)
        why = f"A file of that name lies at {show_path(other.path)}." if other else f"No file of the image is named {show(base)}."
        message = lines[0].strip() if release.major < 5 else said.strip()
        step = Step("application", show(name), self.by, ok=False)
        return Refusal(lines, _NO_SDK, "dotnet.application-absent", b"", name, (step,), message=message, why=why)

    def _wanted(self, application: Node) -> Wanted | None:
        rootfs, config = self.place.rootfs, self.command.config
        path = config or b"/" + application.path.rpartition(b".")[0] + RUNTIME_CONFIG
        node = rootfs.resolve(path, cwd=self.place.cwd, creds=self.executed.creds).node
        text = None if node is None else rootfs.text(node)
        wanted = None if text is None else read_runtime_config(text)
        if wanted is None or variable(self.place.env, b"DOTNET_ROLL_FORWARD_ON_NO_CANDIDATE_FX") is not None:
            return None
        said = self.command.roll_forward or variable(self.place.env, b"DOTNET_ROLL_FORWARD") or b""
        roll_forward = show(said).lower() or wanted.roll_forward
        return wanted._replace(roll_forward=roll_forward) if roll_forward in _ROLL_FORWARD else None

    def _resolve(self, release: Version, application: Node, wanted: Wanted) -> Refusal | None:
        for name, text in wanted.frameworks:
            version = parse_version(text)
            there = installed(self.place.rootfs, self.root, name)
            if version is None or there is None:
                return None
            if not any(fits(version, each, wanted.roll_forward) for _, each in there):
                return self._refuse(release, application, name, text, [written for written, _ in there], wanted.roll_forward)
        return None

    def _refuse(
        self, release: Version, application: Node, name: str, version: str, there: Sequence[str], roll_forward: str
    ) -> Refusal:
        shared = f"{show_path(self.root)}/shared/{name}"
        lines, message = self._words(release, application, name, version, there, shared)
        has = f"has {', '.join(there)}" if there else "has none"
        why = (
            f"{show_path(application.path)} asks for {name} {version} with rollForward {roll_forward}, and "
            f"{show_path(self.root)} {has} of it."
        )
        tried = tuple(
            Attempt("shared framework", f"{shared}/{each}", Outcome.UNUSABLE, detail="another version") for each in there
        )
        step = Step("framework", f"{name} {version}", show_path(application.path), ok=False, attempts=tried)
        wanted = parse_version(version)
        remedies: tuple[str, ...] = ()
        if wanted is not None:
            image = "aspnet" if "AspNetCore" in name else "runtime"
            remedies = (
                f"Use a base with .NET {wanted.major}.{wanted.minor}, such as dotnet/{image}:{wanted.major}.{wanted.minor}.",
            )
            if there:
                remedies += ("Or set DOTNET_ROLL_FORWARD=Major, at your own risk, if what is there is newer.",)
        cause = "dotnet.framework-absent"
        encoded = tuple(line.encode() for line in lines)
        return Refusal(
            encoded,
            _FRAMEWORK_MISSING,
            cause,
            application.path,
            name.encode(),
            (step,),
            message=message.encode(),
            why=why,
            remedies=remedies,
        )

    def _words(
        self, release: Version, application: Node, name: str, version: str, there: Sequence[str], shared: str
    ) -> tuple[list[str], str]:
        """(lines, the one that says it) as the host of this release prints them."""
        machine = _ARCHITECTURES.get(self.place.architecture, self.place.architecture)
        system = _system(self.place.rootfs)
        link = f"https://aka.ms/dotnet-core-applaunch?framework={name}&framework_version={version}&arch={machine}"
        if release.major < 6:
            message = f"The framework '{name}', version '{version}' was not found."
            lines = ["It was not possible to find any compatible framework version", message]
            lines += ["  - The following frameworks were found:"] if there else ["  - No frameworks were found."]
            lines += [f"      {each} at [{shared}]" for each in there]
            lines += ["", "You can resolve the problem by installing the specified framework and/or SDK.", ""]
            return [*lines, "The specified framework can be found at:", f"  - {link}&rid={system}-{machine}"], message
        newer = release.major >= 8
        message = f"Framework: '{name}', version '{version}' ({machine})"
        lines = ["You must install or update .NET to run this application.", "", f"App: {show_path(application.path)}"]
        lines += [f"Architecture: {machine}", message, f".NET location: {show_path(self.root)}" + ("" if newer else "/"), ""]
        lines += ["The following frameworks were found:"] if there else ["No frameworks were found."]
        lines += [f"  {each} at [{shared}]" for each in there]
        lines += ["", "Learn more:" if newer else "Learn about framework resolution:", "https://aka.ms/dotnet/app-launch-failed"]
        lines += ["", "To install missing framework, download:"]
        rid = "linux-musl" if system.startswith("alpine") else "linux"
        lines.append(f"{link}&rid={rid}-{machine}&os={system}" if newer else f"{link}&rid={system}-{machine}")
        return lines, message


def _system(rootfs: Rootfs) -> str:
    """`debian.12` from os-release: what the host calls this system; Alpine without its patch number."""
    node = rootfs.resolve(b"/etc/os-release").node or rootfs.resolve(b"/usr/lib/os-release").node
    text = None if node is None else rootfs.text(node)
    if text is None:
        return "linux"
    fields = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?', text.decode("utf-8", "replace"), re.MULTILINE))
    version = fields.get("VERSION_ID", "")
    if fields.get("ID") == "alpine":
        version = ".".join(version.split(".")[:2])
    return show(f"{fields.get('ID', 'linux')}.{version}".rstrip(".").encode())


def host_release(rootfs: Rootfs, root: bytes) -> Version | None:
    """The newest host beside a muxer: its words are its own, whatever the frameworks."""
    found = [each for _, each in _versions(rootfs, root + b"/host/fxr") or ()]
    return max(found, default=None)


def installed(rootfs: Rootfs, root: bytes, name: str) -> list[tuple[str, Version]] | None:
    """The versions of a shared framework, rising; None where a layer may hide one."""
    return None if rootfs.partial else _versions(rootfs, root + b"/shared/" + name.encode())


def _versions(rootfs: Rootfs, directory: bytes) -> list[tuple[str, Version]]:
    found = rootfs.resolve(b"/" + directory).node
    if found is None or found.entry.kind != Kind.DIRECTORY:
        return []
    versions = []
    for node in rootfs.children(found.path):
        text = show(node.path.rpartition(b"/")[2])
        version = parse_version(text) if node.entry.kind == Kind.DIRECTORY else None
        if version is not None:
            versions.append((text, version))
    return sorted(versions, key=lambda each: each[1])
