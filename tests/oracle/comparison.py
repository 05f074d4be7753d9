"""What `enoent ldd --all` and `enoent scan` foretell of every ELF file of a system, beside what the system's own loader says.

Each file is asked in the ways of loader.md section 7: programs are really started, up to an entry point that was replaced by an
exit (O1), and glibc's loader lists every file as `ldd -d` (O3) and `ldd -r` do; musl's as `ldd` does (O8). What every process
has, the loader itself and the vDSO, is left out on both sides. `unknown` is a difference like any other.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzers.finding import State
from analyzers.linkage import ObjectListing, list_objects
from analyzers.lookup import STRERROR
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile
from analyzers.start import NO_OVERRIDES, Start, foretell_start
from tests.fleet.engine_words import x86_level
from tests.oracle.architectures import run_on
from tests.oracle.inside import Ended, Job
from tests.oracle.real_roots import Elf, Listed, System

STARTED = 42
_REFUSED = 5
_LISTED = re.compile(rb"^\t(.+?) (?:=> (.+) )?\(0x[0-9a-f]+\)$")
_NOT_FOUND = re.compile(rb"^\t(.+) => not found$")
_UNDEFINED = re.compile(r"^undefined symbol: (\S+?)(?:, version (\S*))?\t\((.+)\)$")
_VERSION = re.compile(r"^.*?: (\S+): version `(\S+)' not found \(required by (\S+)\)$")
_UNVERSIONED = re.compile(r": no version information available \(required by .+\)$|: weak version `\S+' not found \(required")
_RELOCATING = re.compile(r"^Error relocating (.+): (.+): symbol not found$")
_SYMBOL = re.compile(r"^(\S+?)(?:@(\S+))? \(in (.+?)(, when first called)?\)$")
_UNMET = re.compile(r"^(.+): (\S+) \(for (.+)\)$")
_VDSO = ("linux-vdso", "linux-gate")
_LOADER = re.compile(r"/ld-linux[^/]*$|/ld64\.so\.\d$|/ld\.so\.1$")
_ERRNO = {"ENOENT": 2, "ENOEXEC": 8, "EACCES": 13, "EIO": 5, "ELIBBAD": 80, "ELOOP": 40, "ENOTDIR": 20}


class Difference(NamedTuple):
    """One thing that the two sides tell differently of one file."""

    path: str
    what: str
    """`verdict`, `libraries`, `versions`, `symbols`, `symbols at start`, `lines`, `end`."""
    foretold: object
    real: object


LISTING_GOES_ON, LISTING_REFUSED, EITHER_CRASH = "listing goes on", "listing refused", "one crash or another"
LIMITS = {
    LISTING_GOES_ON: "After a library or a version that is missing a listing goes on to look up symbols, in objects that stand "
    "for nothing, and can even crash on them. A start ends before, and so does what is foretold: up to there it is compared.",
    LISTING_REFUSED: "A program that is started with more rights than its user has lists nothing: its loader ends at once with "
    "exit status 5 (G60). Its start is compared, and its listing with the start.",
    EITHER_CRASH: "A loader over a C library of another release crashes by abort() or by a fault, as it happens (G55). A "
    "container ends with exit status 139 in either case.",
}
"""By name: where a real loader's listing is no witness, and why."""


class Agreement(NamedTuple):
    """The files of one system that were compared."""

    files: int
    starts: int
    """Of them: programs that were started."""
    failing: int
    """Of them: those that something is wrong with, by the real loader."""
    differences: tuple[Difference, ...]
    limits: Mapping[str, int]
    """How often each of LIMITS was met."""
    listed: Listed
    """Where glibc's loader finds the libraries of each file that it lists."""


class _Said(NamedTuple):
    """What a listing of glibc's loader says."""

    libraries: tuple[tuple[str, str | None], ...]
    versions: tuple[tuple[str, str, str], ...]
    """(provider, version, who wants it)."""
    symbols: tuple[tuple[str, str, str], ...]
    """(who wants it, symbol, version), each once."""
    others: tuple[str, ...]


def compare(system: System, elves: Sequence[Elf], command: str) -> Agreement:
    """Both sides about these files. `command`: the program the image starts, whose loader is asked about libraries."""
    profile = HostProfile(kernel=_kernel(), x86_level=x86_level())
    paths = [b"/" + each.node.path for each in elves]
    config = ImageConfig(platform=system.architecture.platform, cmd=(command,))
    listings = list(list_objects(config, system.layers, paths=paths, profile=profile))
    first = foretell_start(system.rootfs, config, profile, NO_OVERRIDES)
    system.stop_at_entries(elves)
    interp = b"" if first.execution is None else first.execution.interp_name
    asked = [_ask(each, interp, first, system, profile) for each in elves]
    ended = iter(run_on(system.architecture, system.folder, [job for each in asked for job in each.jobs]))
    differences: list[Difference] = []
    limits, told = Counter[str](), Listed()
    failing = 0
    for each, question, listing in zip(elves, asked, listings, strict=True):
        ends = [next(ended) for _ in question.jobs]
        failing += any(_is_bad(end) for end in ends)
        path = os.fsdecode(b"/" + each.node.path)
        differences += _differences(path, question, listing, ends, limits)
        if question.family == "glibc" and ends[-1].out:
            told[path] = system.libraries_at(_read_trace(ends[-1], listing.interpreter).libraries)
    return Agreement(len(elves), sum(each.start is not None for each in asked), failing, tuple(differences), limits, told)


# -- the questions --


class _Question(NamedTuple):
    family: str
    """`glibc`, `musl`, or empty where no loader is reached."""
    start: Start | None
    jobs: tuple[Job, ...]


def _ask(elf: Elf, interp: bytes, first: Start, system: System, profile: HostProfile) -> _Question:
    path = b"/" + elf.node.path
    start = None
    env = first.env
    if elf.facts.interp is not None:
        config = ImageConfig(platform=system.architecture.platform, cmd=(os.fsdecode(path),))
        start = foretell_start(system.rootfs, config, profile, NO_OVERRIDES)
        if system.architecture.qemu and start.state is State.FAILS and start.loaded is None:
            return _Question("", None, ())  # the kernel's refusal, of which an emulator knows nothing
        interp, env = elf.facts.interp, start.env
    loader = system.rootfs.resolve(interp).node if interp else None
    facts = None if loader is None else system.rootfs.elf(loader)
    family = "" if facts is None or facts.loader is None else facts.loader.family
    jobs = [] if start is None else [Job(path, (path,), env)]
    traced = (*env, b"LD_TRACE_LOADED_OBJECTS=1", b"LD_WARN=yes")
    if family == "glibc":
        job = Job(path, (path,), traced) if start is not None else Job(interp, (interp, path), traced)
        jobs += [job, Job(job.path, job.argv, (*traced, b"LD_BIND_NOW=1"))]
    elif family == "musl":
        jobs.append(Job(interp, (interp, b"--list", path), env))
    return _Question(family, start, tuple(jobs))


def _is_bad(end: Ended) -> bool:
    return bool(end.errno or end.err or end.code not in (0, STARTED) or b"not found" in end.out)


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(re.sub(r"\D.*", "", minor))


# -- the answers --


def _differences(
    path: str, question: _Question, listing: ObjectListing, ends: Sequence[Ended], limits: Counter[str]
) -> Iterator[Difference]:
    if listing.verdict is State.UNKNOWN:
        yield Difference(path, "verdict", f"unknown: {listing.error}", "")
        return
    rest = list(ends)
    if question.start is not None:
        yield from _start_differences(path, question.start, rest.pop(0), limits)
    if question.family == "glibc" and rest[1].code == _REFUSED and not rest[1].err:
        limits[LISTING_REFUSED] += 1
        words = "\n".join(ends[0].lines) if ends[0].code != STARTED else ""
        if listing.error != words:
            yield Difference(path, "lines", listing.error, words)
    elif question.family == "glibc":
        yield from _glibc_differences(path, listing, rest[0], rest[1], limits)
    elif question.family == "musl":
        yield from _musl_differences(path, listing, rest[0], question.jobs[-1].path)


def _start_differences(path: str, start: Start, end: Ended, limits: Counter[str]) -> Iterator[Difference]:
    """A program that is started (O1)."""
    if start.state is State.UNKNOWN:
        yield Difference(path, "verdict", f"unknown: {start.why_unknown}", end.lines)
        return
    if end.errno:
        words = next((STRERROR[name] for name, number in _ERRNO.items() if number == end.errno), str(end.errno))
        if not start.message.decode().endswith(words):
            yield Difference(path, "end", start.message.decode(), words)
        return
    loaded = start.loaded
    lines = () if loaded is None else tuple(line.decode("utf-8", "surrogateescape") for line in loaded.lines)
    if start.state is State.STARTS:
        foretold: object = STARTED
    elif loaded is not None:
        foretold = loaded.crash or loaded.exit_code
    else:
        foretold = start.message.decode()
    real = end.code if end.code >= 0 else _signal(end.code)
    if (foretold, real) == ("SIGABRT", "SIGSEGV"):
        limits[EITHER_CRASH] += 1
    elif foretold != real:
        yield Difference(path, "end", (foretold, lines), (real, end.lines))
    elif lines != end.lines and end.code >= 0:
        yield Difference(path, "lines", lines, end.lines)


def _glibc_differences(
    path: str, listing: ObjectListing, warned: Ended, bound: Ended, limits: Counter[str]
) -> Iterator[Difference]:
    """A listing (O2), with what is undefined at start and what would be when everything is bound (O3)."""
    if bound.errno:
        return  # told by the start
    if bound.code and not bound.out:
        words = "\n".join(bound.lines)
        if listing.error != words:
            yield Difference(path, "lines", listing.error, words)
        return
    said, at_start = _read_trace(bound, listing.interpreter), _read_trace(warned, listing.interpreter)
    libraries = tuple(_glibc_libraries(listing))
    if libraries != said.libraries:
        yield Difference(path, "libraries", *_unlike(libraries, said.libraries))
    missing = [name for name, place in said.libraries if place is None]
    versions = tuple((found[1], found[2], found[3]) for each in listing.unmet_versions if (found := _UNMET.match(each)))
    if tuple(dict.fromkeys(versions)) != tuple(dict.fromkeys(said.versions)):
        yield Difference(path, "versions", *_unlike(versions, said.versions))
    told = [found.groups() for each in listing.unbound_symbols if (found := _SYMBOL.match(each))]
    if missing or said.versions:
        limits[LISTING_GOES_ON] += bool(bound.code or said.symbols or said.others)
        if not listing.error or told:
            yield Difference(path, "verdict", (listing.error, told), (missing, said.versions))
        return
    if bound.code or said.others:
        yield Difference(path, "end", listing.error, (bound.code, said.others))
    now = {(by, name, version or "") for name, version, by, _ in told}
    if now != set(said.symbols):
        yield Difference(path, "symbols", sorted(now - set(said.symbols)), sorted(set(said.symbols) - now))
    early = tuple((by, name, version or "") for name, version, by, later in told if not later)
    if early != at_start.symbols:
        yield Difference(path, "symbols at start", *_unlike(early, at_start.symbols))


def _read_trace(end: Ended, interpreter: str) -> _Said:
    libraries: list[tuple[str, str | None]] = []
    for line in end.out.splitlines():
        listed, lost = _LISTED.match(line), _NOT_FOUND.match(line)
        if lost is not None:
            libraries.append((os.fsdecode(lost[1]), None))
        elif listed is not None:
            name, place = os.fsdecode(listed[1]), os.fsdecode(listed[2] or listed[1])
            if not name.startswith(_VDSO) and place != interpreter and not _LOADER.search(place):
                libraries.append((name, place))
    versions, symbols, others = [], [], []
    for text in end.lines:
        undefined, version = _UNDEFINED.match(text), _VERSION.match(text)
        if undefined is not None:
            symbols.append((undefined[3], undefined[1], undefined[2] or ""))
        elif version is not None:
            versions.append((version[1], version[2], version[3]))
        elif not _UNVERSIONED.search(text):
            others.append(text)
    return _Said(tuple(libraries), tuple(versions), tuple(dict.fromkeys(symbols)), tuple(others))


def _glibc_libraries(listing: ObjectListing) -> Iterator[tuple[str, str | None]]:
    """In the order in which they come in, each file once."""
    seen = set[str]()
    for step in listing.tree:
        if step.action not in ("library", "preload"):
            continue
        if not step.ok:
            yield step.wanted, None
        elif step.attempts and step.attempts[-1].origin != "already loaded" and step.path not in seen:
            seen.add(step.path)
            yield step.wanted, step.attempts[-1].path


def _musl_differences(path: str, listing: ObjectListing, end: Ended, loader: bytes) -> Iterator[Difference]:
    libraries = tuple(_musl_libraries(listing))
    real = []
    for line in end.out.splitlines():
        listed = _LISTED.match(line)
        if listed is not None and listed[2] not in (None, loader):
            real.append((os.fsdecode(listed[1]), os.fsdecode(listed[2])))
    if libraries != tuple(real):
        yield Difference(path, "libraries", *_unlike(libraries, tuple(real)))
    if listing.error or not listing.unbound_symbols:
        foretold = tuple(listing.error.splitlines())
        if foretold != end.lines:
            yield Difference(path, "lines", *_unlike(foretold, end.lines))
        return
    told = {(found[3], found[1]) for each in listing.unbound_symbols if (found := _SYMBOL.match(each))}
    lines = {(found[1], found[2]) if (found := _RELOCATING.match(line)) else (line, "") for line in end.lines}
    if told != lines:
        yield Difference(path, "symbols", sorted(told - lines), sorted(lines - told))


def _musl_libraries(listing: ObjectListing) -> Iterator[tuple[str, str | None]]:
    for step in listing.tree:
        if step.action not in ("library", "preload") or not step.ok or not step.attempts:
            continue
        last = step.attempts[-1]
        if last.origin not in ("already loaded", "reserved name"):
            yield step.wanted, last.path


def _unlike(one: Sequence[object], other: Sequence[object]) -> tuple[object, object]:
    """From the first element on that differs, a few of each."""
    at = next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), min(len(one), len(other)))
    return tuple(one[at : at + 4]), tuple(other[at : at + 4])


def _signal(code: int) -> str:
    return signal.Signals(-code).name
