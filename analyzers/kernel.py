"""What execve(2) does with a path of the image: its errno, or the ELF program and interpreter that get mapped.

Mirrors Linux `fs/exec.c`, `fs/binfmt_script.c`, `fs/binfmt_elf.c` and `security/commoncap.c` (rules K1-K23). Knows
nothing of what the loader does afterwards.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from analyzers.accounts import Credentials
from analyzers.facts import ElfFacts, Kind
from analyzers.finding import Outcome, Step, show
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Resolution, Rootfs
from analyzers.scripts import read_script_line
from analyzers.trail import attempt, show_path

SCRIPT_LEVELS = 5
MAX_ARGUMENT = 131072
"""MAX_ARG_STRLEN, the final NUL included (K3)."""
MAX_ARGUMENTS = 2 * 1024 * 1024
"""A quarter of Docker's 8 MiB stack limit (K3)."""
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD = 1
_DF_1_PIE = 0x08000000
_MAX_HEADERS = 65536

# Docker's default capability set, by bit (moby `oci/caps/defaults.go`).
_DOCKER_CAPABILITIES = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))


class Personality(NamedTuple):
    """One kind of ELF file a kernel takes (K12, K20)."""

    machines: tuple[int, ...]
    bits: int
    checks_class: bool = False
    """Whether EI_CLASS is looked at (riscv, s390x); elsewhere only the sizes betray it (K13)."""


_I386 = Personality((3, 6), 32)
_ARM = Personality((40,), 32)
NATIVE: dict[str, Personality] = {
    "amd64": Personality((62,), 64),
    "386": _I386,
    "arm64": Personality((183,), 64),
    "arm": _ARM,
    "ppc64le": Personality((21,), 64),
    "ppc64": Personality((21,), 64),
    "s390x": Personality((22,), 64, True),
    "riscv64": Personality((243,), 64, True),
    "loong64": Personality((258,), 64),
    "mips": Personality((8,), 32),
    "mipsle": Personality((8,), 32),
    "mips64": Personality((8,), 64),
    "mips64le": Personality((8,), 64),
}
_BIG_ENDIAN = frozenset({"ppc64", "s390x", "mips", "mips64"})


class Execution(msgspec.Struct, frozen=True):
    """The outcome of one execve. At most one of `error`, `crash` and `unknown` is set."""

    steps: tuple[Step, ...]
    error: str = ""
    """Name of the errno, such as ENOENT."""
    cause: str = ""
    """Id of the rule in rules.RULES that names the fault."""
    crash: str = ""
    """Signal the kernel sends after the point of no return (K17)."""
    unknown: str = ""
    subject: bytes = b""
    """Canonical path of the file at fault, or of the last file run."""
    culprit: bytes = b""
    """What was wanted and not had: the interpreter's name as written."""
    program: Node | None = None
    """The ELF file mapped as the main program: the script's interpreter where a script was run."""
    opened_as: bytes = b""
    """The path the kernel opened it by."""
    execfn: bytes = b""
    """AT_EXECFN: the path that was given to execve."""
    argv: tuple[bytes, ...] = ()
    interp: Node | None = None
    interp_name: bytes = b""
    secure: bool = False
    """AT_SECURE is set (K23)."""
    creds: Credentials = Credentials(0, 0)
    """Whose permissions count for everything opened from now on."""
    script: Node | None = None
    """The outermost script, where there is one."""
    emulated: bool = False


class _Mapped(NamedTuple):
    """Verdict on the ELF file itself."""

    error: str = ""
    cause: str = ""
    crash: str = ""
    detail: str = ""


def personalities(architecture: str, profile: HostProfile) -> tuple[Personality, ...]:
    """The kinds of ELF file that the kernel of the host takes, native first (K20)."""
    host = profile.host_architecture or architecture
    kinds: list[Personality] = []
    if host in NATIVE:
        kinds.append(NATIVE[host])
    if host == "amd64" and profile.ia32:
        kinds.append(_I386)
    if host == "386" and not profile.host_architecture:
        kinds.append(NATIVE["amd64"])  # A6: such images are run by amd64 hosts
    if host == "arm64" and profile.aarch32:
        kinds.append(_ARM)
    return tuple(kinds)


def execute(
    rootfs: Rootfs,
    path: bytes,
    argv: Sequence[bytes],
    *,
    cwd: bytes,
    creds: Credentials,
    profile: HostProfile,
    architecture: str,
    env: Sequence[bytes] = (),
) -> Execution:
    """execve(path, argv, env) with `creds` in force while files are opened."""
    steps: list[Step] = []
    vector = list(argv) or [b""]
    refused = _refuse_strings(path, vector, env)
    if refused:
        return Execution((), error=refused, cause="config.arguments-refused", subject=path.lstrip(b"/"))
    script: Node | None = None
    wanted, origin, by = path, "path", ""
    for level in range(SCRIPT_LEVELS + 2):
        found = rootfs.resolve(wanted, cwd=cwd, creds=creds) if wanted else Resolution(None, "", cwd)
        opened = _open(rootfs, found, creds)
        steps.append(_open_step(rootfs, "interpreter" if level else "exec", origin, wanted, by, found, opened))
        if found.unknown and (found.node is None or not opened):
            return Execution(tuple(steps), unknown=f"a layer that was not wholly read may hold {show_path(wanted)}")
        if opened or found.node is None:
            cause = _open_cause(opened, wanted, level)
            subject = script.path if script is not None and level else found.path
            return Execution(tuple(steps), error=opened, cause=cause, subject=subject, culprit=wanted, script=script)
        node = found.node
        if level > SCRIPT_LEVELS:
            subject = script.path if script is not None else node.path
            return Execution(tuple(steps), error="ELOOP", cause="script.too-deep", subject=subject, script=script)
        head = rootfs.head(node)
        if head is None:
            executed = execute_elf(
                rootfs, steps, node, wanted, vector, level, script, creds, cwd=cwd, profile=profile, architecture=architecture
            )
            return msgspec.structs.replace(executed, execfn=path)
        line = read_script_line(head)
        if line.refused:
            steps[-1] = _fail(steps[-1], Outcome.UNUSABLE, line.refused)
            return Execution(tuple(steps), error="ENOEXEC", cause="script.bad-interpreter-line", subject=node.path, script=node)
        script = script or node
        vector = [line.interpreter, *([line.argument] if line.argument is not None else []), wanted, *vector[1:]]
        wanted, origin, by = line.interpreter, "#!", show_path(node.path)
    raise AssertionError("unreachable: the loop returns at its last level")


def _refuse_strings(path: bytes, vector: Sequence[bytes], env: Sequence[bytes]) -> str:
    """K3; a NUL does not even leave Go's system call package."""
    strings = (*vector, *env)
    if any(b"\0" in item for item in strings):
        return "EINVAL"
    total = len(path) + sum(len(item) + 9 for item in strings)
    return "E2BIG" if total > MAX_ARGUMENTS or any(len(item) >= MAX_ARGUMENT for item in strings) else ""


def _open(rootfs: Rootfs, found: Resolution, creds: Credentials) -> str:
    """K1: the errno of opening a file for execution."""
    if found.error:
        return found.error
    if found.node is None or found.node.entry.kind != Kind.FILE:
        return "EACCES"  # an empty name is the current directory (K7)
    return "" if rootfs.may_execute(found.node, creds) else "EACCES"


def _open_cause(error: str, wanted: bytes, level: int) -> str:
    if not level:
        return {"EACCES": "path.not-executable", "ELOOP": "path.loop"}.get(error, "path.absent")
    if error == "ENOENT":
        return "script.crlf" if wanted.endswith(b"\r") else "script.interpreter-absent"
    return "script.interpreter-unusable"


def _open_step(rootfs: Rootfs, action: str, origin: str, wanted: bytes, by: str, found: Resolution, error: str) -> Step:
    node = found.node
    outcome = None
    if node is not None and error:
        outcome = Outcome.DIRECTORY if node.entry.kind == Kind.DIRECTORY else Outcome.NOT_EXECUTABLE
    elif node is None and not found.error:
        outcome = Outcome.DIRECTORY
    tried = attempt(rootfs, origin, wanted, found, outcome)
    ok = not error
    return Step(
        action,
        show(wanted),
        by,
        show_path(found.path) if ok else "",
        ok,
        (tried,),
        rootfs.layer_of(node) if ok and node else None,
    )


def _fail(step: Step, outcome: Outcome, detail: str) -> Step:
    last = msgspec.structs.replace(step.attempts[-1], outcome=outcome, detail=detail)
    return msgspec.structs.replace(step, ok=False, attempts=(*step.attempts[:-1], last))


def execute_elf(
    rootfs: Rootfs,
    steps: list[Step],
    node: Node,
    opened_as: bytes,
    argv: list[bytes],
    level: int,
    script: Node | None,
    creds: Credentials,
    *,
    cwd: bytes,
    profile: HostProfile,
    architecture: str,
) -> Execution:
    """load_elf_binary on `node`, which was opened already; the last of `steps` is about it (K12-K20)."""
    facts = rootfs.elf(node)
    if facts is None:
        if rootfs.unread(node):
            return Execution(tuple(steps), unknown=f"{show_path(node.path)} was not wholly read", subject=node.path)
        cause = "script.no-interpreter-line" if not level else "script.interpreter-is-text"
        detail = "neither an ELF file nor a script that begins with #!" if node.entry.size else "an empty file"
        steps[-1] = _fail(steps[-1], Outcome.NOT_ELF, detail)
        return Execution(tuple(steps), error="ENOEXEC", cause=cause, subject=node.path, script=script)
    emulated = architecture in profile.emulated and _accepts(NATIVE.get(architecture), facts, profile) == ""
    kinds = (NATIVE[architecture],) if emulated else personalities(architecture, profile)
    kind, refusal = _choose(kinds, facts, profile)
    if kind is None:
        foreign = refusal.startswith("machine")
        steps[-1] = _fail(steps[-1], Outcome.WRONG_MACHINE if foreign else Outcome.UNUSABLE, refusal)
        cause = "elf.wrong-architecture" if foreign else "elf.malformed"
        return Execution(tuple(steps), error="ENOEXEC", cause=cause, subject=node.path, script=script)
    after, secure, refused = _privileges(node, creds, profile)
    interp: Node | None = None
    name = b""
    if facts.interp is not None:
        bad = _bad_interp(facts)
        if bad:
            steps[-1] = _fail(steps[-1], Outcome.UNUSABLE, "its PT_INTERP " + bad[1])
            return Execution(tuple(steps), error=bad[0], cause="elf.bad-interp", subject=node.path, script=script)
        name = facts.interp
        found = rootfs.resolve(name, cwd=cwd, creds=creds) if name else Resolution(None, "", cwd)
        opened = _open(rootfs, found, creds)
        steps.append(_open_step(rootfs, "interpreter", "PT_INTERP", name, show_path(node.path), found, opened))
        if found.unknown and (found.node is None or not opened):
            return Execution(tuple(steps), unknown=f"a layer that was not wholly read may hold {show_path(name)}")
        if opened or found.node is None:
            cause = "elf.interpreter-absent" if opened == "ENOENT" else "elf.interpreter-unusable"
            return Execution(
                tuple(steps), error=opened, cause=cause, subject=node.path, culprit=name, script=script, program=node
            )
        interp = found.node
        mapped = _check_interp(rootfs, interp, kind, profile)
        if mapped is None:
            return Execution(tuple(steps), unknown=f"{show_path(interp.path)} was not wholly read", subject=interp.path)
        if mapped.error or mapped.crash:
            steps[-1] = _fail(steps[-1], Outcome.UNUSABLE, mapped.detail)
            return Execution(
                tuple(steps),
                error=mapped.error,
                crash=mapped.crash,
                cause=mapped.cause,
                subject=interp.path,
                culprit=name,
                script=script,
                program=node,
            )
    if refused:
        steps[-1] = _fail(steps[-1], Outcome.DENIED, refused)
        return Execution(tuple(steps), error="EPERM", cause="file.capabilities-not-granted", subject=node.path, script=script)
    crash = _map_crash(facts, profile) or (None if facts.interp is not None else _entry_crash(facts))
    if crash is not None:
        signal, detail = crash
        steps[-1] = _fail(steps[-1], Outcome.UNUSABLE, detail)
        return Execution(tuple(steps), crash=signal, cause="elf.cannot-be-mapped", subject=node.path, script=script, program=node)
    return Execution(
        tuple(steps),
        subject=node.path,
        program=node,
        opened_as=opened_as,
        argv=tuple(argv),
        interp=interp,
        interp_name=name,
        secure=secure,
        creds=after,
        script=script,
        emulated=emulated,
    )


def _choose(kinds: Sequence[Personality], facts: ElfFacts, profile: HostProfile) -> tuple[Personality | None, str]:
    refusal = ""
    for kind in kinds:
        reason = _accepts(kind, facts, profile)
        if not reason:
            return kind, ""
        refusal = refusal if refusal and not refusal.startswith("machine") else reason
    return None, refusal or "machine unknown to the host"


def _accepts(kind: Personality | None, facts: ElfFacts, profile: HostProfile) -> str:
    """K12: empty when the kernel takes the file, else why not."""
    if kind is None or facts.machine not in kind.machines or (kind.checks_class and facts.bits != kind.bits):
        return f"machine {facts.machine}, {facts.bits} bit"
    if facts.type not in (_ET_EXEC, _ET_DYN):
        return f"e_type {facts.type} is neither an executable nor a shared object"
    return _bad_headers(kind, facts, profile)


def _bad_headers(kind: Personality, facts: ElfFacts, profile: HostProfile) -> str:
    size = 56 if kind.bits == 64 else 32
    total = facts.phentsize * facts.phnum
    if facts.phentsize != size:
        # A file of the other class (x32, say) shows here, not in a check of EI_CLASS.
        if facts.bits and facts.bits != kind.bits:
            return f"machine {facts.machine} with {facts.bits} bit headers"
        return f"e_phentsize is {facts.phentsize}, not {size}"
    if facts.phnum < 1:
        return "no program headers"
    if total > _MAX_HEADERS or (profile.kernel <= (6, 1) and total > profile.page_size):
        return f"{facts.phnum} program headers"
    if facts.phoff + total > facts.file_size:
        return "program headers beyond the end of the file"
    return ""


def _bad_interp(facts: ElfFacts) -> tuple[str, str] | None:
    """K14: (errno, words) for a PT_INTERP that the kernel refuses."""
    header = next((segment for segment in facts.segments if segment.type == 3), None)
    if not 2 <= facts.interp_size <= 4096:
        return "ENOEXEC", f"has {facts.interp_size} bytes"
    if header is not None and header.offset + header.filesz > facts.file_size:
        return "EIO", "lies beyond the end of the file"
    if not facts.interp_terminated:
        return "ENOEXEC", "does not end in a NUL"
    return None


def _check_interp(rootfs: Rootfs, node: Node, kind: Personality, profile: HostProfile) -> _Mapped | None:
    """K16, K17; None when the file was not read."""
    cause = "elf.interpreter-unusable"
    if node.entry.size < (64 if kind.bits == 64 else 52):
        return _Mapped("EIO", cause, detail=f"{node.entry.size} bytes are no ELF header")
    facts = rootfs.elf(node)
    if facts is None:
        return None if rootfs.unread(node) else _Mapped("ELIBBAD", cause, detail="not an ELF file")
    if facts.machine not in kind.machines or (kind.checks_class and facts.bits != kind.bits):
        return _Mapped("ELIBBAD", cause, detail=f"for machine {facts.machine}, {facts.bits} bit")
    bad = _bad_headers(kind, facts, profile)
    if bad:
        return _Mapped("ELIBBAD", cause, detail=bad)
    if facts.type not in (_ET_EXEC, _ET_DYN):
        return _Mapped(crash="SIGSEGV", cause=cause, detail=f"e_type is {facts.type}")
    crash = _map_crash(facts, profile)
    if crash is None and facts.loader is None:
        crash = _no_loader_crash(facts)
    return _Mapped(crash=crash[0], cause=cause, detail=crash[1]) if crash else _Mapped()


def _map_crash(facts: ElfFacts, profile: HostProfile) -> tuple[str, str] | None:
    """K17: (signal, words) when the segments cannot be mapped or lie beyond the end of the file."""
    loads = [segment for segment in facts.segments if segment.type == _PT_LOAD]
    if not loads:
        return "SIGSEGV", "no segment to load"
    for segment in loads:
        if segment.filesz > segment.memsz:
            return "SIGSEGV", "a segment is larger in the file than in memory"
        if segment.filesz and (segment.vaddr - segment.offset) % profile.page_size:
            return "SIGSEGV", "a segment's address and offset do not agree"
    page, size = profile.page_size, facts.file_size
    cut = [segment for segment in loads if segment.filesz and segment.offset + segment.filesz > size]
    for segment in cut:
        # The kernel maps all segments first, and clears what follows each in its last page.
        end = segment.offset + segment.filesz
        if segment.memsz > segment.filesz and segment.flags & 2 and end % page and end // page >= -(-size // page):
            return "SIGSEGV", "truncated in the middle of a segment"
    if cut:
        return "SIGBUS", "truncated in the middle of a segment"
    return None


def _no_loader_crash(facts: ElfFacts) -> tuple[str, str] | None:
    """(signal, words) for an interpreter that is no loader we know, when it cannot be one at all."""
    if facts.interp is not None or facts.needed:
        # Nobody relocates it, so the first call through its own table goes nowhere (seen with every kind of program).
        return "SIGSEGV", "no loader: a program or library that itself needs one"
    return None if _has_entry(facts) else ("SIGSEGV", "no loader: a library without an entry point")


def _entry_crash(facts: ElfFacts) -> tuple[str, str] | None:
    """K18: (signal, words) for a shared library run as a program; None when the entry point can be jumped to."""
    if facts.loader is not None or facts.type == _ET_EXEC or facts.dt_flags_1 & _DF_1_PIE:
        return None
    if not _has_entry(facts):
        return "SIGSEGV", "a shared library without an entry point"
    return ("SIGSEGV", "a shared library, whose first code returns into nothing") if facts.soname is not None else None


def _has_entry(facts: ElfFacts) -> bool:
    code = (segment for segment in facts.segments if segment.type == _PT_LOAD and segment.flags & 1)
    return facts.entry != 0 and any(segment.vaddr <= facts.entry < segment.vaddr + segment.memsz for segment in code)


def _privileges(node: Node, creds: Credentials, profile: HostProfile) -> tuple[Credentials, bool, str]:
    """Credentials after the exec, AT_SECURE, and why the exec is refused (EPERM), if it is (K23)."""
    entry = node.entry
    uid = entry.uid if entry.mode & 0o4000 else creds.uid
    gid = entry.gid if entry.mode & 0o2010 == 0o2010 else creds.gid
    dac = uid == 0 and profile.dac_override
    after = Credentials(uid, gid, creds.groups, dac)
    permitted, effective = _file_capabilities(entry.capability)
    allowed = _DOCKER_CAPABILITIES if profile.dac_override else 0
    if effective and permitted & ~allowed:
        missing = permitted & ~allowed
        names = ", ".join(str(bit) for bit in range(64) if missing >> bit & 1)
        return after, False, f"its file capabilities need bits {names}, which the container is not given"
    if effective and permitted & 2 and uid:
        after = Credentials(uid, gid, creds.groups, True)
    changed = uid != creds.uid or (gid != creds.gid and gid not in creds.groups)
    return after, changed or (creds.uid != 0 and (effective or bool(permitted & allowed))), ""


def _file_capabilities(raw: bytes) -> tuple[int, bool]:
    """Permitted set and effective flag of `security.capability`; nothing for a malformed one."""
    if len(raw) < 12:
        return 0, False
    magic, low = struct.unpack_from("<II", raw)
    high = struct.unpack_from("<I", raw, 12)[0] if magic >> 24 >= 2 and len(raw) >= 20 else 0
    return low | high << 32, bool(magic & 1)
