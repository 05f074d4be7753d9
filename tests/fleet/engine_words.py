"""What a real engine said, in the words of a prediction: state, stage, possible reasons, lines and exit status.

Normalised are only the words of the daemon and runtime before the error, container IDs, and where the engine mounts
roots. A container that started is known by the mark its program prints first.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import msgspec

from analyzers.finding import Reason, Report, Stage, State, show
from analyzers.profile import HostProfile
from tests.engine import Engine, RunResult

MARK = "hello"
"""What every program of the fleet writes to its standard output before anything else."""
_PREFIXES = re.compile(
    r"^docker: |Error response from daemon: |failed to create task for container: |failed to create shim task: "
    r"|OCI runtime create failed: |runc create failed: |unable to start container process: "
)
_ROOT = re.compile(r"/[^ ]*?/overlay2/[0-9a-f]+/merged")
_FIRST_WORDS = re.compile(
    r"^\S*env: ('|‘|can't execute ')|^\S+: (0: cannot open |can't open ')"
    r"|^\S*(ba)?sh: /.*: (Permission denied|No such file or directory)$"
)
"""What env and shells say that start well and find nothing to do: another interpreter, or a script they may read."""
_JAVA = re.compile(
    r"^Error: (Unable to access jarfile|Invalid or corrupt jarfile|LinkageError occurred|Could not find or load main class)"
    r"|^Error: Could not create the Java|^Error: could not (find libjava|open `)|^Error: missing `server' JVM"
    r"|^no main manifest attribute, in "
)
"""What Java's launcher and its JVM say that start well and find nothing to run."""
_LATER = re.compile(r": symbol lookup error: ")
"""What a loader says of a function that is missing when it is first called, long after the start."""
_HELP = "\n\nRun 'docker run --help' for more information"
# Flags of /proc/cpuinfo that make the micro-architecture levels of x86-64 (its psABI, table 3.1).
_LEVELS = (
    "cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2",
    "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "avx512f avx512bw avx512cd avx512dq avx512vl",
)
_R = Reason
_REASONS: tuple[tuple[str, frozenset[Reason]], ...] = (
    (r"^exec: .*executable file not found", frozenset({_R.PATH})),
    (r"^exec: .*cannot run executable found relative", frozenset({_R.PATH})),
    (r"^exec: .*permission denied$", frozenset({_R.PATH, _R.PERMISSION})),
    (r"^exec: ", frozenset({_R.PATH})),
    (r"^exec /.*: no such file or directory$", frozenset({_R.INTERPRETER_ABSENT, _R.SCRIPT})),
    (r"^exec .*: exec format error$", frozenset({_R.ARCHITECTURE, _R.SCRIPT, _R.OTHER})),
    (r"^exec .*: permission denied$", frozenset({_R.PERMISSION, _R.SCRIPT, _R.INTERPRETER_ABSENT, _R.OTHER})),
    (r"^exec .*: operation not permitted$", frozenset({_R.PERMISSION})),
    (r"^exec .*: too many levels of symbolic links$", frozenset({_R.SCRIPT, _R.PATH, _R.INTERPRETER_ABSENT, _R.OTHER})),
    (r"^exec .*: argument list too long$|^exec .*: invalid argument$", frozenset({_R.RUNTIME})),
    (r"^exec .*: (accessing a corrupted shared library|input/output error)$",
     frozenset({_R.INTERPRETER_ABSENT, _R.ARCHITECTURE, _R.OTHER})),
    (r"^exec ", frozenset({_R.OTHER, _R.SCRIPT, _R.ARCHITECTURE, _R.INTERPRETER_ABSENT})),
    (r"unable to (find|setup) (user|group)|uids and gids", frozenset({_R.USER})),
    (r"too many links in <rootfs>/etc/(passwd|group)", frozenset({_R.USER})),
    (r"lstat <rootfs>/etc/(passwd|group): ", frozenset({_R.USER})),
    (r"version `[^']*' not found", frozenset({_R.VERSION})),
    (r"undefined symbol: .*, version ", frozenset({_R.SYMBOL, _R.VERSION})),
    (r"undefined symbol: |: symbol not found$", frozenset({_R.SYMBOL})),
    (r"cannot open shared object file", frozenset({_R.PATH, _R.LIBRARY_ABSENT, _R.PERMISSION, _R.ARCHITECTURE, _R.OTHER})),
    (r"wrong ELF class", frozenset({_R.ARCHITECTURE})),
    (r"^Error loading shared library .*: Exec format error", frozenset({_R.OTHER, _R.ARCHITECTURE})),
    (r"^Error loading shared library ", frozenset({_R.LIBRARY_ABSENT, _R.PERMISSION, _R.OTHER})),
    (_JAVA.pattern, frozenset({_R.RUNTIME})),
    (r"^\S*env: ", frozenset({_R.SCRIPT})),
    (r": 0: cannot open .*: Permission denied$|can't open '.*: Permission denied$|sh: /.*: Permission denied$",
     frozenset({_R.PERMISSION})),
    (r": 0: cannot open |can't open '|sh: /.*: No such file or directory$", frozenset({_R.SCRIPT})),
    (r"error while loading shared libraries|^Error loading|^Error relocating|Inconsistency detected|Fatal glibc error",
     frozenset({_R.OTHER, _R.ARCHITECTURE, _R.LIBRARY_ABSENT, _R.SYMBOL, _R.VERSION, _R.PERMISSION})),
)  # fmt: skip


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How far a container came."""

    state: State
    stage: Stage
    lines: tuple[str, ...]
    """Its error output, each line printable; of one that started, what its loader warned of."""
    exit_code: int
    reasons: frozenset[Reason] = frozenset()
    """Classes that these words allow; empty when it started."""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@functools.cache
def profile_of(engine: Engine, *, dac_override: bool = True) -> HostProfile:
    """The profile of this engine: its own version, runc's and the kernel's, and the CPU's level."""
    info = engine.info()

    def pair(text: object) -> tuple[int, int]:
        numbers = re.findall(r"\d+", str(text))
        return int(numbers[0]), int(numbers[1])

    runc = engine.docker("version", "--format", '{{range .Server.Components}}{{if eq .Name "runc"}}{{.Version}}{{end}}{{end}}')
    return HostProfile(
        engine_version=pair(info["ServerVersion"]),
        runc_version=pair(runc.stdout),
        kernel=pair(info["KernelVersion"]),
        x86_level=x86_level(),
        dac_override=dac_override,
    )


def x86_level() -> int:
    found = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    level = 1
    for wanted in _LEVELS:
        if not flags.issuperset(wanted.split()):
            break
        level += 1
    return level


def normalised(stderr: str) -> str:
    """The error as predictions word it."""
    return show(_unwrapped(stderr).encode())


def _unwrapped(stderr: str) -> str:
    text = stderr.rstrip("\n")
    text = text.partition(_HELP)[0].rstrip("\n").removesuffix("\nSee 'docker run --help'.")
    if text.startswith("docker: "):
        text = text.removesuffix(".")  # the command line of 26.1 ends its own errors so, with its hint or without
    while (shorter := _PREFIXES.sub("", text, count=1)) != text:
        text = shorter
    return _ROOT.sub("<rootfs>", text.removesuffix(": unknown"))


def seen(ran: RunResult) -> Seen:
    """How far the container of this `docker run` came."""
    if ran.stderr.startswith("docker: "):
        text = normalised(ran.stderr)
        stage = Stage.LOOKUP if re.match(r'exec: "|exec /', text) else Stage.CONFIG
        return Seen(state=State.FAILS, stage=stage, lines=(text,), exit_code=ran.exit_code, reasons=_reasons(text, stage))
    lines = tuple(show(line.encode()) for line in _unwrapped(ran.stderr).split("\n")) if ran.stderr.strip("\n") else ()
    if ran.stdout.startswith(MARK):
        lines = tuple(line for line in lines if not _LATER.search(line))
        return Seen(state=State.STARTS, stage=Stage.STARTED, lines=lines, exit_code=ran.exit_code)
    stage = Stage.CRASH if ran.exit_code > 128 else Stage.LOAD
    if any(_FIRST_WORDS.search(line) or _JAVA.search(line) for line in lines):
        stage = Stage.STARTED
    if len(lines) == 1 and re.fullmatch(r"exec .*: [a-z /]+", lines[0]) and ran.exit_code in (1, 255):
        stage = Stage.EXECVE
    return Seen(state=State.FAILS, stage=stage, lines=lines, exit_code=ran.exit_code, reasons=_reasons("\n".join(lines), stage))


def _reasons(text: str, stage: Stage) -> frozenset[Reason]:
    if stage is Stage.CRASH:
        return frozenset(Reason)
    # The first line that stops the start has the reason; a loader that goes on after it says more.
    for line in text.split("\n"):
        for words, reasons in () if line.endswith(": ignored.") else _REASONS:
            if re.search(words, line):
                return reasons
    return frozenset({Reason.RUNTIME}) if stage is Stage.CONFIG else frozenset({Reason.OTHER})


def disagreements(real: Seen, report: Report) -> list[str]:
    """Where a prediction departs from what was seen, a sentence each; "not decided" and "not whole" are departures."""
    verdict = report.verdict
    if verdict.state is State.UNKNOWN:
        return [f"undecided: {verdict.why_unknown}; seen {real.state} {real.stage} {real.exit_code} {real.text}"]
    wrong = [] if report.complete else [f"not whole: {report.incomplete[0]}"]
    if verdict.state is not real.state or verdict.stage is not real.stage:
        wrong.append(f"foretold {verdict.state} {verdict.stage}, seen {real.state} {real.stage}")
    if verdict.state is State.STARTS:
        lines = tuple(finding.message for finding in report.findings if finding.rule == "load.warning")
        # A program may run another one, whose loader says the same once more.
        if set(lines) != set(real.lines):
            wrong.append(f"foretold the warnings {lines}, seen {real.lines}")
        return wrong
    # Beyond execve the lines are the loader's own, all of them; before it there is one.
    lines = verdict.lines or ((verdict.message,) if verdict.message else ())
    if lines != real.lines:
        wrong.append("foretold\n      " + "\n      ".join(lines) + "\n    seen\n      " + "\n      ".join(real.lines))
    if verdict.exit_code != real.exit_code:
        wrong.append(f"foretold exit status {verdict.exit_code}, seen {real.exit_code}")
    if real.state is State.FAILS and verdict.reason not in real.reasons:
        wrong.append(f"foretold the reason {verdict.reason}, the words seen allow {sorted(real.reasons)}")
    return wrong
