"""The start chain: what the runtime, the kernel and the loader do with an image, up to the first thing that fails.

Mirrors moby 26.1 (`daemon/commit.go`, `daemon/container`, `daemon/oci_linux.go`), the docker CLI's exit codes and
runc 1.1.5 (`libcontainer/standard_init_linux.go`, Go 1.19 `os/exec`); rules C1-C23. The kernel's part is kernel.py,
the loader's is analyzers.loader. Says what happens, not what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from analyzers.accounts import MAX_ID, ResolvedUser, resolve_user
from analyzers.facts import Kind
from analyzers.finding import Attempt, Outcome, Stage, State, Step, show
from analyzers.handover import MAX_HANDOVERS, Following, Refusal, Remark, Surroundings, hand_over, may_undo
from analyzers.handover.writes import Writes
from analyzers.kernel import Execution, execute
from analyzers.loader import LoadResult, Process, load
from analyzers.lookup import STRERROR, Failed, clean, go_quote, look_up
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile
from analyzers.rootfs import Resolution, Rootfs
from analyzers.trail import attempt, show_path

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOTFS = "<rootfs>"
"""Stands in messages for the directory on the host where the engine mounts the root."""
SIGNAL_EXIT = {"SIGABRT": 139, "SIGBUS": 135, "SIGFPE": 136, "SIGILL": 132, "SIGKILL": 137, "SIGSEGV": 139}
"""Exit status of a container that a signal ends. Its first process ignores what it sends itself, so abort() goes on to an
instruction that no program may execute, and that is SIGSEGV (signal(7), glibc `stdlib/abort.c`).
"""


class Overrides(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an orchestrator or `docker run` says in place of the image's config. None: nothing is said."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str | None = None
    working_dir: str | None = None


NO_OVERRIDES = Overrides()


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How far the image comes. `cause` is the rule of rules.RULES behind a failure, empty when it starts."""

    state: State
    stage: Stage
    steps: tuple[Step, ...] = ()
    message: bytes = b""
    lines: tuple[bytes, ...] = ()
    exit_code: int | None = None
    cause: str = ""
    subject: bytes = b""
    """Canonical path of the file at fault."""
    culprit: bytes = b""
    """What was wanted and not had, as written."""
    why_unknown: str = ""
    argv: tuple[bytes, ...] = ()
    env: tuple[bytes, ...] = ()
    cwd: bytes = b""
    user: ResolvedUser = ResolvedUser()
    execution: Execution | None = None
    loaded: LoadResult | None = None
    refusal: Refusal | None = None
    """Of a first program that runs and gives up."""
    remarks: tuple[Remark, ...] = ()
    """What was found on the way and does not end the start."""
    assumptions: tuple[str, ...] = ()
    """How far scripts were followed, where not to their ends."""


class _Context(NamedTuple):
    """What is settled before anything is looked up."""

    rootfs: Rootfs
    profile: HostProfile
    architecture: str
    argv: tuple[bytes, ...]
    env: tuple[bytes, ...]
    cwd: bytes
    user: ResolvedUser
    blurred: bool = False
    """Some arguments of the program that runs now are unknown."""
    writes: Writes = Writes()
    """What may have been written before it runs."""


def foretell_start(rootfs: Rootfs, config: ImageConfig, profile: HostProfile, overrides: Overrides) -> Start:
    """Follow the image's start to its first failure, or to its entry point."""
    steps: list[Step] = []
    argv = command_vector(config, profile, overrides)
    env, refused_env = environment(config.env, overrides.env, profile)
    spec = config.user if overrides.user is None else overrides.user
    where = (config.working_dir if overrides.working_dir is None else overrides.working_dir) or "/"
    base = Start(state=State.FAILS, stage=Stage.CONFIG, argv=argv, env=env, cwd=clean(_raw(where)))
    if not argv:
        return _fail(base, steps, Failed(b"no command specified", "config.no-command"))

    failed, rootfs = _settle_directory(rootfs, base.cwd, steps)
    if failed is not None:
        return _fail(base, steps, failed)
    user, failed, unknown = _settle_user(rootfs, spec, steps, profile)
    if unknown:
        return _unknown(base, steps, unknown)
    if failed is not None:
        return _fail(base, steps, failed)
    if not base.cwd.startswith(b"/"):
        return _fail(base, steps, Failed(b"Cwd must be an absolute path", "config.working-dir-relative"))
    if refused_env:
        return _fail(base, steps, Failed(b"error during container init: " + refused_env, "config.environment"))
    failed = _make_directory(rootfs, base.cwd)
    if failed is not None:
        return _fail(base, steps, failed)
    user, failed = _second_user(rootfs, user)
    if failed is not None:
        return _fail(base, steps, failed)
    env = _with_home(env, user)
    base = msgspec.structs.replace(base, env=env, user=user)
    context = _Context(rootfs, profile, config.platform.architecture, argv, env, base.cwd, user)
    return _run(context, base, steps)


def _run(context: _Context, base: Start, steps: list[Step]) -> Start:
    creds = context.user.credentials(dac_override=context.profile.dac_override)
    path, failed, unknown = look_up(context.rootfs, context.argv[0], context.env, context.cwd, creds, context.profile, steps)
    if unknown:
        return _unknown(base, steps, unknown)
    if failed is not None:
        return _fail(base, steps, failed)
    executed = execute(
        context.rootfs,
        path,
        context.argv,
        cwd=context.cwd,
        creds=creds,
        profile=context.profile,
        architecture=context.architecture,
        env=context.env,
    )
    steps.extend(executed.steps)
    base = msgspec.structs.replace(base, execution=executed, subject=executed.subject, culprit=executed.culprit)
    if executed.unknown:
        return _unknown(base, steps, executed.unknown)
    if executed.error:
        text = b"exec " + path + b": " + STRERROR[executed.error].encode()
        return _end(base, steps, Stage.EXECVE, executed.cause, message=text, exit_code=context.profile.exec_failure_exit)
    if executed.crash:
        return _end(base, steps, Stage.CRASH, executed.cause, exit_code=SIGNAL_EXIT[executed.crash])
    return _load(context, base, steps, executed)


def _load(context: _Context, base: Start, steps: list[Step], executed: Execution, left: int = MAX_HANDOVERS) -> Start:
    """S3 and S4, unless the program is static (K18, G61); a loader that is run as a command loads its argument (G62, M3)."""
    command = executed.interp is None and is_loader(context.rootfs, executed)
    if executed.interp is None and not command:
        return _go_on(context, base, steps, executed, left)
    result = load_program(context.rootfs, executed, context.env, context.cwd, context.profile)
    steps.extend(result.steps)
    asking = context.rootfs.resolve(result.wanted_by, cwd=context.cwd).node if result.wanted_by else None
    subject = base.subject if asking is None else asking.path
    line = next((line for line in result.lines if line not in result.warnings), b"")
    failing = [step for step in result.steps if not step.ok]
    if result.ok is False and not result.crash and may_undo(context.writes, (), failing, context.cwd):
        return _started(_noted(base, (), (_may_fail(line, subject, failing),), ()), steps)
    base = msgspec.structs.replace(base, loaded=result, lines=(*base.lines, *result.lines))
    if result.ok is None:
        return _unknown(base, steps, result.unknown or "the loader's part could not be decided")
    if result.ok:
        return _go_on(context, base, steps, executed, left)
    base = msgspec.structs.replace(base, subject=subject, culprit=result.wanted)
    if result.crash:
        return _end(base, steps, Stage.CRASH, "load.crash", exit_code=SIGNAL_EXIT.get(result.crash, 139))
    return _end(base, steps, Stage.LOAD, "load.refused", message=line, exit_code=result.exit_code)


def _go_on(context: _Context, base: Start, steps: list[Step], executed: Execution, left: int) -> Start:
    """The program runs. Where it is env or a shell, what it does first is followed too (K5, R43), `left` times at most."""
    facts = None if executed.program is None else context.rootfs.elf(executed.program)
    family = base.loaded.family if base.loaded is not None else "" if facts is None else facts.static_libc
    place = Surroundings(context.rootfs, context.env, context.cwd, context.profile, context.architecture, context.writes)
    done = hand_over(place, executed, family) if left and not context.blurred else None
    if done is None:
        return _started(base, steps)
    if isinstance(done, Following):
        return _follow(context, base, steps, done, left)
    if isinstance(done, Refusal) and may_undo(context.writes, (done.culprit, b"/" + done.subject), done.steps, context.cwd):
        base = _noted(base, (), (_may_fail(done.message or done.lines[0], done.subject, done.steps),), done.assumptions)
        return _started(base, steps)
    steps.extend(done.steps)
    base = msgspec.structs.replace(base, subject=done.subject or base.subject, culprit=done.culprit)
    if isinstance(done, Refusal):
        base = _noted(base, done.lines, done.remarks, done.assumptions)
        base = msgspec.structs.replace(base, refusal=done)
        return _end(base, steps, Stage.STARTED, done.cause, message=done.message or done.lines[0], exit_code=done.exit_code)
    return _execute_next(context, base, steps, done, left)


def _may_fail(line: bytes, subject: bytes, steps: Iterable[Step]) -> Remark:
    """A failure that what runs before may prevent."""
    return Remark("shell.may-fail", "unless what runs before makes it: " + show(line), show_path(subject), tuple(steps))


def _noted(base: Start, lines: tuple[bytes, ...], remarks: tuple[Remark, ...], assumptions: tuple[str, ...]) -> Start:
    return msgspec.structs.replace(
        base,
        lines=(*base.lines, *lines),
        remarks=(*base.remarks, *remarks),
        assumptions=(*base.assumptions, *assumptions),
    )


def _follow(context: _Context, base: Start, steps: list[Step], done: Following, left: int) -> Start:
    """Where it may be one of several programs, it fails only where each of them does."""
    base = _noted(base, done.lines, done.remarks, done.assumptions)
    if done.executed is None:
        return _started(base, [*steps, *done.steps])
    first = _follow_one(context, base, list(steps), done, left)
    for other in done.others:
        if first.state is not State.FAILS:
            break
        second = _follow_one(context, base, list(steps), other, left)
        if second.state is not State.FAILS:
            remark = Remark(
                "shell.may-fail", "in one of the ways through the script: " + show(first.message), show_path(first.subject)
            )
            second = msgspec.structs.replace(second, remarks=(*second.remarks, remark))
            first = second
    return first


def _follow_one(context: _Context, base: Start, steps: list[Step], done: Following, left: int) -> Start:
    executed = done.executed
    if executed is None:
        return _started(base, steps)
    steps.extend(executed.steps)
    context = context._replace(env=tuple(done.env), cwd=done.cwd, blurred=not done.whole, writes=context.writes | done.writes)
    base = msgspec.structs.replace(base, subject=executed.subject or base.subject, culprit=executed.culprit)
    return _execute_next(context, base, steps, executed, left)


def _execute_next(context: _Context, base: Start, steps: list[Step], done: Execution, left: int) -> Start:
    base = msgspec.structs.replace(base, execution=done, loaded=None)
    if done.unknown:
        return _unknown(base, steps, done.unknown)
    if done.crash:
        return _end(base, steps, Stage.CRASH, done.cause, exit_code=SIGNAL_EXIT[done.crash])
    return _load(context, base, steps, done, left - 1)


def is_loader(rootfs: Rootfs, executed: Execution) -> bool:
    """Whether the program that was executed is itself the loader of glibc or musl."""
    facts = None if executed.program is None else rootfs.elf(executed.program)
    return facts is not None and facts.loader is not None and facts.loader.family in ("glibc", "musl")


def load_program(rootfs: Rootfs, executed: Execution, env: Sequence[bytes], cwd: bytes, profile: HostProfile) -> LoadResult:
    """The loader's part for a program that the kernel has mapped together with an interpreter."""
    command = executed.interp is None and is_loader(rootfs, executed)
    interp = executed.program if command else executed.interp
    if executed.program is None or interp is None:
        raise ValueError("a static program has no loader")
    return load(
        Process(
            rootfs,
            executed.program,
            argv0=executed.argv[0],
            opened_as=executed.opened_as,
            env=env,
            cwd=cwd,
            creds=executed.creds,
            secure=executed.secure,
            interp=interp,
            interp_name=executed.interp_name,
            profile=profile,
            command=executed.argv if command else None,
            execfn=executed.execfn,
        )
    )


def _end(
    base: Start, steps: Sequence[Step], stage: Stage, cause: str, *, message: bytes = b"", exit_code: int | None = None
) -> Start:
    return msgspec.structs.replace(
        base, state=State.FAILS, stage=stage, cause=cause, message=message, exit_code=exit_code, steps=tuple(steps)
    )


def _fail(base: Start, steps: Sequence[Step], failed: Failed) -> Start:
    ended = msgspec.structs.replace(base, subject=failed.subject or base.subject, culprit=failed.culprit)
    return _end(ended, steps, failed.stage, failed.cause, message=failed.message, exit_code=cli_exit(failed.message))


def _started(base: Start, steps: Sequence[Step]) -> Start:
    return msgspec.structs.replace(base, state=State.STARTS, stage=Stage.STARTED, steps=tuple(steps))


def _unknown(base: Start, steps: Sequence[Step], why: str) -> Start:
    return msgspec.structs.replace(base, state=State.UNKNOWN, why_unknown=why, steps=tuple(steps))


def cli_exit(text: bytes) -> int:
    """Exit status of `docker run` for an error of the daemon, decided by its words (C12, docker/cli `run.go`)."""
    lowered = text
    if any(words in lowered for words in (b"executable file not found", b"no such file or directory", b"system cannot find")):
        return 127
    return 126 if b"permission denied" in lowered or b"is a directory" in lowered else 125


# -- config (C1-C9, C16-C23) --


def command_vector(config: ImageConfig, profile: HostProfile, overrides: Overrides) -> tuple[bytes, ...]:
    """Entrypoint followed by Cmd (C1, C2, C5)."""
    entrypoint, cmd = overrides.entrypoint, overrides.cmd
    if not entrypoint:
        cmd = cmd or config.cmd
        entrypoint = config.entrypoint if entrypoint is None else entrypoint
    if entrypoint == ("",) and profile.engine != "containerd":
        entrypoint = None
    return tuple(_raw(item) for item in (*(entrypoint or ()), *(cmd or ())))


def environment(image: Sequence[str], extra: Sequence[str], profile: HostProfile) -> tuple[tuple[bytes, ...], bytes]:
    """(environment without HOME's default, runc's refusal) (C6-C8).

    Docker starts from its default PATH and a HOSTNAME; an item without `=` removes one of those two. runc sets each
    in turn, so the last of duplicates wins in the place of the first.
    """
    named = {item.partition("=")[0] for item in extra}
    wanted = [*extra, *(item for item in image if item.partition("=")[0] not in named)] if extra else list(image)
    given: list[tuple[bytes, bytes] | None] = [(b"PATH", DEFAULT_PATH), (b"HOSTNAME", b"container")]
    if profile.engine == "containerd" and wanted:
        given = []  # C7: containerd's client sets the default only for an empty list
    defaults = {pair[0]: index for index, pair in enumerate(given) if pair}
    for item in wanted:
        raw = _raw(item)
        name, equals, value = raw.partition(b"=")
        if not equals:
            if name in defaults:
                given[defaults[name]] = None
            elif profile.engine == "containerd":
                return (), b"invalid environment variable: " + go_quote(raw)
            continue
        if name in defaults:
            given[defaults[name]] = (name, value)
        else:
            given.append((name, value))
    result: dict[bytes, bytes] = {}
    for pair in given:
        if pair is None:
            continue
        name, value = pair
        if not name:
            return (), b"environment variable name can't be empty: " + go_quote(b"=" + value)
        if b"\0" in name:
            return (), b"environment variable name can't contain null(\\x00): " + go_quote(name + b"=" + value)
        if b"\0" in value:
            return (), b"environment variable value can't contain null(\\x00): " + go_quote(name + b"=" + value)
        result[name] = value
    return tuple(name + b"=" + value for name, value in result.items()), b""


def _with_home(env: tuple[bytes, ...], user: ResolvedUser) -> tuple[bytes, ...]:
    """runc fills in HOME when it is missing or empty (C8)."""
    kept = [b"HOME=" + user.home if item == b"HOME=" else item for item in env]
    if not any(item.startswith(b"HOME=") for item in env):
        kept.append(b"HOME=" + user.home)
    return tuple(kept)


def _settle_directory(rootfs: Rootfs, cwd: bytes, steps: list[Step]) -> tuple[Failed | None, Rootfs]:
    """C16, C17: the engine makes a missing working directory; only something else in its way is a failure."""
    found = rootfs.resolve(b"/" + cwd.lstrip(b"/"))
    tried = attempt(rootfs, "path", cwd, found)
    failed: Failed | None = None
    if found.error == "ELOOP":
        failed = Failed(_too_many_links(found), "config.working-dir-unusable", subject=found.path)
    elif found.error == "ENOTDIR":
        text = f"lstat {ROOTFS}".encode() + _beyond(cwd, found) + b": not a directory"
        failed = Failed(text, "config.working-dir-unusable", subject=found.path)
    elif found.node is not None and found.node.entry.kind != Kind.DIRECTORY:
        text = b"Cannot mkdir: " + cwd + b" is not a directory"
        failed = Failed(text, "config.working-dir-unusable", subject=found.path)
        tried = attempt(rootfs, "path", cwd, found, Outcome.NOT_A_DIRECTORY)
    elif found.error == "ENOENT":
        tried = attempt(rootfs, "path", cwd, found, detail="made by the engine")
        rootfs = rootfs.with_directory(rootfs.landing(cwd.lstrip(b"/")))
    if cwd != b"/":
        layer = None if found.node is None else rootfs.layer_of(found.node)
        steps.append(Step("workdir", show(cwd), path=show_path(found.path), ok=failed is None, attempts=(tried,), layer=layer))
    return failed, rootfs


def _beyond(path: bytes, found: Resolution) -> bytes:
    """The path whose lstat fails: one component past the file in the way."""
    rest = path.lstrip(b"/").removeprefix(found.path).lstrip(b"/") if not found.links else path.rpartition(b"/")[2]
    return b"/" + found.path + b"/" + rest.partition(b"/")[0]


def _make_directory(rootfs: Rootfs, cwd: bytes) -> Failed | None:
    """runc makes the directory once more, below its own mounts."""
    landed = rootfs.landing(cwd.lstrip(b"/"))
    if landed.startswith(b"proc/"):
        text = b"error during container init: mkdir " + cwd + b": no such file or directory"
        return Failed(text, "config.working-dir-unusable")
    if landed.startswith(b"sys/"):
        text = b"error during container init: mkdir " + cwd + b": read-only file system"
        return Failed(text, "config.working-dir-unusable")
    return None


def _too_many_links(found: Resolution) -> bytes:
    return f"evalSymlinksInScope: too many links in {ROOTFS}/".encode() + found.path


def _settle_user(rootfs: Rootfs, spec: str, steps: list[Step], profile: HostProfile) -> tuple[ResolvedUser, Failed | None, str]:
    """C18-C22, as dockerd does it: (user, failure, why unknown)."""
    attempts: list[Attempt] = []
    texts: list[bytes | None] = []
    for path in (b"/etc/passwd", b"/etc/group"):
        found = rootfs.resolve(path)
        attempts.append(attempt(rootfs, "path", path, found))
        failure, text, unread = _read_accounts(rootfs, path, found, spec)
        if failure is not None:
            steps.append(Step("user", spec, ok=False, attempts=tuple(attempts)))
            return ResolvedUser(), failure, ""
        if (unread or found.unknown) and not _needs_no_files(spec):
            return ResolvedUser(), None, f"{show_path(path)} was not wholly read"
        texts.append(text)
    if profile.engine == "containerd" and spec.count(":") > 1:
        steps.append(Step("user", spec, ok=False))
        return ResolvedUser(), Failed(_raw(f"invalid USER value {spec}"), "user.not-found", culprit=_raw(spec)), ""
    user = resolve_user(spec, *texts)
    if spec or user.error:
        steps.append(Step("user", spec, path=f"{user.uid}:{user.gid}", ok=not user.error, attempts=tuple(attempts)))
    if user.error:
        return user, Failed(_raw(_user_words(user.error, spec, profile)), _user_cause(user.error), culprit=_raw(spec)), ""
    return user, None, ""


def _needs_no_files(spec: str) -> bool:
    user, _, group = spec.partition(":")
    return (not user or user.isdigit()) and (not group or group.isdigit())


def _read_accounts(rootfs: Rootfs, path: bytes, found: Resolution, spec: str) -> tuple[Failed | None, bytes | None, bool]:
    if found.error == "ELOOP":
        return Failed(_too_many_links(found), "user.files-unusable", subject=found.path), None, False
    if found.error == "ENOTDIR":
        text = f"lstat {ROOTFS}".encode() + _beyond(path, found) + b": not a directory"
        return Failed(text, "user.files-unusable", subject=found.path), None, False
    if found.node is None:
        return None, None, False
    if found.node.entry.kind == Kind.DIRECTORY:
        user = spec.partition(":")[0] or "0"
        words = f"unable to find user {user}" if path == b"/etc/passwd" else f"unable to find groups for spec {user}"
        text = f"{words}: read {ROOTFS}{show_path(found.path)}: is a directory".encode()
        return Failed(text, "user.files-unusable", subject=found.path), None, False
    text_bytes = rootfs.text(found.node)
    if text_bytes is None and not found.node.entry.size:
        text_bytes = b""
    return None, text_bytes, text_bytes is None and rootfs.layer_of(found.node) is not None


def _user_cause(error: str) -> str:
    if "must be in range" in error:
        return "user.out-of-range"
    return "user.group-not-found" if error.startswith("unable to find group") else "user.not-found"


def _user_words(error: str, spec: str, profile: HostProfile) -> str:
    """C23: containerd's own client says it otherwise."""
    if profile.engine != "containerd":
        return error
    if "must be in range" in error:
        return f'invalid USER value "{spec}": uid out of range'
    return "no users found" if error.startswith("unable to find user") else error.partition(": no matching")[0]


def _second_user(rootfs: Rootfs, user: ResolvedUser) -> tuple[ResolvedUser, Failed | None]:
    """runc resolves the numbers once more inside the container; HOME comes from there (C8)."""
    texts = []
    for path in (b"/etc/passwd", b"/etc/group"):
        node = rootfs.resolve(path).node
        texts.append(None if node is None else rootfs.text(node))
    again = resolve_user(f"{user.uid}:{user.gid}", *texts)
    error = again.error or ("invalid argument" if MAX_ID * 2 + 1 in (user.uid, user.gid) else "")
    if error:
        return user, Failed(f"unable to setup user: {error}".encode(), "user.out-of-range")
    return user._replace(home=again.home), None


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
