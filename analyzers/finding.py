"""What is told to people: severities, attempts and trails, findings, verdicts and the report.

The rule table is in rules/. Everything here is plain data with text already made printable by
`show`; a report is the same bytes for the same config, facts, versions and profile.
"""

from __future__ import annotations

import enum

import msgspec

REPORT_SCHEMA = "1"


def show(raw: bytes) -> str:
    """Bytes of an image as printable text: valid UTF-8 stays, controls and the rest are \\xNN or \\uNNNN."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isprintable():  # nearly always; bytes that are no UTF-8 are surrogates here, which are not printable
        return text
    out = []
    for character in text:
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            out.append(character)
        elif code < 0x100:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(out)


class Severity(enum.StrEnum):
    """Worst first. FATAL: the image will not start. LATER: fails when that part is used."""

    FATAL = "fatal"
    LATER = "later"
    WARNING = "warning"
    INFO = "info"


class Stage(enum.StrEnum):
    """First failing stage (loader.md section 0)."""

    CONFIG = "S0-config"
    LOOKUP = "S1-lookup"
    EXECVE = "S2-execve"
    LOAD = "S3-load"
    CRASH = "S4-crash"
    STARTED = "S5-started"


class Reason(enum.StrEnum):
    """Why it will not start: the closed set of the metric label (decisions.md 17)."""

    INTERPRETER_ABSENT = "interpreter_absent"
    LIBRARY_ABSENT = "library_absent"
    VERSION = "version"
    SYMBOL = "symbol"
    ARCHITECTURE = "architecture"
    USER = "user"
    PATH = "path"
    PERMISSION = "permission"
    SCRIPT = "script"
    RUNTIME = "runtime"
    OTHER = "other"


class State(enum.StrEnum):
    """The verdict in one word. UNKNOWN always carries why; it is never clean."""

    STARTS = "starts"
    FAILS = "fails"
    UNKNOWN = "unknown"


class Outcome(enum.StrEnum):
    """What stood at a place that was looked at."""

    FOUND = "found"
    ABSENT = "absent"
    DANGLING = "dangling link"
    LOOP = "symlink loop"
    NOT_A_DIRECTORY = "not a directory"
    DIRECTORY = "is a directory"
    DENIED = "permission denied"
    NOT_EXECUTABLE = "not executable"
    NOT_ELF = "not an ELF file"
    TOO_SHORT = "file too short"
    WRONG_CLASS = "wrong ELF class"
    WRONG_MACHINE = "wrong machine"
    UNUSABLE = "unusable"
    """The loader refuses this very file; `detail` has its words."""
    SKIPPED = "skipped"
    """A source of directories that the loader passes over; `detail` says why."""
    UNREADABLE = "not analysed"


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place looked at, and what was there."""

    origin: str
    """`entrypoint`, `PATH`, `symlink`, `#!`, `PT_INTERP`, `LD_PRELOAD`, `DT_RPATH`, `LD_LIBRARY_PATH`, `DT_RUNPATH`,
    `ld.so.cache`, `default directory`, `musl path file`, `already loaded`, `reserved name`, `path`, `symbol table`,
    `sys.path`."""
    path: str
    outcome: Outcome
    whose: str = ""
    """The object whose rpath it is, where that is not the requester itself."""
    detail: str = ""
    layer: int | None = None
    """Index of the layer that brought what was found."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One link of the start chain: the program looked up, a #! interpreter, PT_INTERP, a library wanted."""

    action: str
    """`lookup`, `exec`, `interpreter`, `loader`, `library`, `preload`, `version`, `symbol`, `dlopen`, `user`, `workdir`,
    `script`, `module`, `jar`, `runtime`, `class`, `framework`, `application`."""
    wanted: str
    by: str = ""
    """Path of the object that wants it; empty for the image config."""
    path: str = ""
    """Where it was found, links resolved; empty when it was not."""
    ok: bool = True
    attempts: tuple[Attempt, ...] = ()
    layer: int | None = None


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact worth a person's attention, with its evidence."""

    rule: str
    """Id in rules.RULES, such as `elf.interpreter-absent`."""
    severity: Severity
    message: str
    """One sentence; for FATAL it is the very text that the user would see."""
    subject: str = ""
    """Image path it is about, with leading slash; empty for the image itself."""
    layer: int | None = None
    trail: tuple[Step, ...] = ()
    why: str = ""
    remedies: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the image starts, and what the user would see if not."""

    state: State
    stage: Stage | None = None
    reason: Reason | None = None
    message: str = ""
    """The exact line, without the runtime's own prefix (loader.md C12, S2, S3); empty when it starts."""
    lines: tuple[str, ...] = ()
    """Every line the loader would print, when there is more than one."""
    exit_code: int | None = None
    """Exit status of `docker run` under the profile of the report; None when it starts."""
    why_unknown: str = ""


class Weight(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes at a place: of a directory with all that is below it, of a file, or of the copies of one content but the first."""

    path: str
    size_bytes: int
    files: int = 1
    layer: int | None = None


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a run stage need not carry."""

    kind: str
    """`cache`, `build-tools`, `headers`, `static-libraries`, `version-control`, `debug` or `symbols`."""
    what: str
    """In words, such as `package lists of apt`."""
    path: str
    size_bytes: int
    files: int
    layer: int
    """The layer that brought most of it."""
    remedy: str = ""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object of the process that the image starts."""

    name: str
    """As it was asked for: the command, PT_INTERP, or the name of a library."""
    path: str
    """As it is opened, links not resolved: where a stage of its own would have to have it."""
    size_bytes: int
    layer: int | None = None
    interpreter: str = ""
    """Its PT_INTERP, where it has one."""
    needs: tuple[str, ...] = ()
    """Names of the libraries it wants."""
    glibc: str = ""
    """Newest release of glibc that it wants a version of; empty for none."""
    glibcxx: str = ""
    """Newest version of libstdc++ that it wants, such as `3.4.30`; empty for none."""


class LayerSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One layer as people see it. Compressed size belongs to the manifest and is joined when read."""

    diff_id: str
    created_by: str = ""
    """The build instruction from `history`, as recorded."""
    size_bytes: int = 0
    """Bytes of its files; its tar is longer by headers and padding."""
    entries: int = 0
    wasted_bytes: int = 0
    """Bytes of this layer that a later layer hides or replaces."""
    coverage: str = "full"


class Report(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything known of one image, as JSON in `scan --format json` and the API (docs/report.schema.json)."""

    schema: str = REPORT_SCHEMA
    image_id: str
    """Digest of the config, computed from its bytes."""
    platform: str
    argv: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = "/"
    verdict: Verdict
    chain: tuple[Step, ...] = ()
    """The whole start chain in order, successes included."""
    findings: tuple[Finding, ...] = ()
    """Sorted by severity, rule, subject."""
    layers: tuple[LayerSummary, ...] = ()
    os: str = ""
    """Distribution as `id version` from os-release, `scratch` for an image without one."""
    libc: str = ""
    """`glibc 2.36`, `musl 1.2.5`, `static` or `none`: that of the start chain."""
    x86_level: int = 0
    """x86-64 level that the objects of the start chain say they need (1 to 4); 0 on other machines and where none says so."""
    max_page_size: int = 0
    """Largest page of a kernel that can map the start chain; 0 on machines whose kernels have but one size."""
    kernel: str = ""
    """Oldest Linux that the objects of the start chain say they run on; empty where none says so."""
    parts: tuple[Part, ...] = ()
    """The least run stage: the program first, its loader and its libraries, as far as they were found."""
    missing: tuple[str, ...] = ()
    """Names of the libraries that the loader looks for and does not find, the one it ends with first."""
    packages: dict[str, str] = {}
    """Of the image's package database: file name of a shared library to the package that brought it."""
    size_bytes: int = 0
    """Bytes of the files of all layers: the sum of their sizes."""
    wasted_bytes: int = 0
    """Those of them that a later layer hides or replaces."""
    files: int = 0
    elf_files: int = 0
    directories: tuple[Weight, ...] = ()
    """The heaviest, the root first; whoever is in the list has all directories above it in the list."""
    biggest: tuple[Weight, ...] = ()
    """The biggest files."""
    contents: tuple[Content, ...] = ()
    """What a run stage need not carry, biggest first."""
    doubles: tuple[Weight, ...] = ()
    """Contents that stand at several paths, with the bytes that one copy would spare."""
    complete: bool = True
    """False when anything was not seen; `incomplete` says what."""
    incomplete: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    """Versions of the judges, and of the facts, that made this report."""
    profile: str = ""
    """The host profile it was judged for, in one line."""
