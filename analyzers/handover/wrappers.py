"""Programs that only run another one: init processes, changers of user, priority, limits and streams.

Their options, their search and their words are those of tini 0.19, dumb-init 1.2.5, catatonit 0.1.7, gosu 1.14, coreutils 9.1,
util-linux 2.38, s6 2.11 and BusyBox 1.35, taken from runs of them; su-exec's from its source. An option that is not listed
ends the following, without a claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from analyzers.accounts import Credentials, ResolvedUser, resolve_user
from analyzers.facts import Kind
from analyzers.finding import Attempt, Step, show
from analyzers.handover.execvp import execute_in, execvp
from analyzers.handover.place import MUSL_STRERROR, STRERROR, Following, Refusal, Surroundings, applet
from analyzers.handover.quoting import quote
from analyzers.kernel import Execution
from analyzers.lookup import STRERROR as GO_STRERROR
from analyzers.lookup import look_up
from analyzers.shell.names import BUSYBOX_APPLETS
from analyzers.trail import show_path

_PID = b"7"
"""Of the first child in a container, nearly always: the runtime's own take the numbers before."""
Say = Callable[[Surroundings, bytes, bytes, str], bytes]
"""(place, name it is called by, command, errno): the line when the command cannot be executed."""


class Wrapper(NamedTuple):
    """One kind of wrapper."""

    say: Say
    flags: bytes = b""
    """Letters of options without an argument."""
    valued: bytes = b""
    """Letters of options with one."""
    long_flags: frozenset[bytes] = frozenset()
    long_valued: frozenset[bytes] = frozenset()
    operands: int = 0
    """Words that stand before the command."""
    absent: int = 127
    """Exit status where the command is not found."""
    denied: int = 126
    user: bool = False
    """The first of these words is who to become."""


class _Asked(NamedTuple):
    options: tuple[tuple[bytes, bytes], ...]
    operands: tuple[bytes, ...]
    command: tuple[bytes, ...]


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


def _plain(text: bytes, *, quoted: bool = False) -> Say:
    """The name, a text, the command, and the C library's words."""

    def say(place: Surroundings, called: bytes, name: bytes, error: str) -> bytes:
        shown = quote(place, name) if quoted else name
        return called + b": " + text + shown + b": " + STRERROR[error]

    return say


def _nohup(place: Surroundings, called: bytes, name: bytes, error: str) -> bytes:
    return called + b": failed to run command '" + name + b"': " + STRERROR[error]


def _tini(place: Surroundings, called: bytes, name: bytes, error: str) -> bytes:
    return b"[FATAL tini (" + _PID + b")] exec " + name + b" failed: " + STRERROR[error]


def _dumb_init(place: Surroundings, called: bytes, name: bytes, error: str) -> bytes:
    return b"[dumb-init] " + name + b": " + STRERROR[error]


def _catatonit(place: Surroundings, called: bytes, name: bytes, error: str) -> bytes:
    return b"ERROR (catatonit:" + _PID + b"): failed to exec pid1: " + STRERROR[error]


def _s6(place: Surroundings, called: bytes, name: bytes, error: str) -> bytes:
    return b"s6-applyuidgid: fatal: unable to exec " + name + b": " + STRERROR[error]


def _busybox(place: Surroundings, called: bytes, name: bytes, error: str) -> bytes:
    return called + b": can't execute '" + name + b"': " + MUSL_STRERROR[error]


_EXECUTES = _plain(b"failed to execute ")
_RUNS = _plain(b"failed to run command ", quoted=True)
_TIMEOUT = Wrapper(_RUNS, b"v", b"ks", _words("--foreground --preserve-status --verbose"), _words("--kill-after --signal"), 1)
_SETPRIV = Wrapper(
    _EXECUTES,
    long_flags=_words("--clear-groups --init-groups --keep-groups --no-new-privs --nnp --reset-env"),
    long_valued=_words(
        "--reuid --regid --ruid --euid --rgid --egid --groups --inh-caps --bounding-set --ambient-caps --securebits --pdeathsig"
    ),
)
WRAPPERS: dict[bytes, Wrapper] = {
    b"tini": Wrapper(_tini, b"svwg", b"ep"),
    b"tini-static": Wrapper(_tini, b"svwg", b"ep"),
    b"docker-init": Wrapper(_tini, b"svwg", b"ep"),
    b"dumb-init": Wrapper(_dumb_init, b"c", b"r", _words("--single-child"), _words("--rewrite"), absent=2, denied=2),
    b"catatonit": Wrapper(_catatonit, b"gL", absent=1, denied=1),
    b"setpriv": _SETPRIV,
    b"nice": Wrapper(_plain(b"", quoted=True), b"", b"n", frozenset(), _words("--adjustment")),
    b"nohup": Wrapper(_nohup),
    b"timeout": _TIMEOUT,
    b"stdbuf": Wrapper(_RUNS, b"", b"ioe", frozenset(), _words("--input --output --error")),
    b"ionice": Wrapper(_EXECUTES, b"t", b"cn", _words("--ignore"), _words("--class --classdata")),
    b"s6-setuidgid": Wrapper(_s6, operands=1, user=True),
    b"su-exec": Wrapper(_plain(b""), operands=1, absent=1, denied=1, user=True),
}
_BUSYBOX = {
    b"nice": Wrapper(_busybox, b"", b"n"),
    b"nohup": Wrapper(_busybox),
    b"timeout": Wrapper(_busybox, b"", b"ks", operands=1),
    b"ionice": Wrapper(_busybox, b"", b"cn"),
}
BUSYBOX_WRAPPERS = frozenset(_BUSYBOX)


def follow_wrapper(place: Surroundings, executed: Execution, family: str) -> Following | Refusal | None:
    """The program that a wrapper runs. None where it is asked for anything that is not understood."""
    called = applet(executed)
    name = b"" if executed.program is None else executed.program.path.rpartition(b"/")[2]
    inside = name == b"busybox"
    wrapper = _BUSYBOX.get(called) if inside else WRAPPERS.get(name) or WRAPPERS.get(called)
    asked = None if wrapper is None else _asked(executed.argv[1:], wrapper)
    if wrapper is None or asked is None:
        return Following(None, assumptions=(f"{show(called)} was not followed: its options are not known",))
    if not asked.command:
        return None
    facts = None if executed.program is None else place.rootfs.elf(executed.program)
    if inside and facts is not None and facts.interp is None and asked.command[0] in BUSYBOX_APPLETS:
        return None
    creds = _credentials(place, executed, wrapper, asked)
    if creds is None:
        return Following(None, assumptions=(f"{show(called)} was not followed: whom it becomes is not known",))
    attempts: list[Attempt] = []
    done = execvp(place, asked.command, creds, attempts, musl=family == "musl")
    by = show_path(executed.program.path) if executed.program is not None else ""
    step = Step("lookup", show(asked.command[0]), by, ok=not done.error, attempts=tuple(attempts))
    if not done.error:
        return Following(msgspec.structs.replace(done, steps=(step, *done.steps)), place.env, place.cwd)
    absent = done.error in ("ENOENT", "ENOTDIR")
    line = wrapper.say(place, executed.argv[0], asked.command[0], done.error)
    cause = "wrapper.command-absent" if absent else "wrapper.command-not-executable"
    code = wrapper.absent if absent else wrapper.denied
    return Refusal((line,), code, cause, done.subject, asked.command[0], (step, *done.steps))


def _asked(words: Sequence[bytes], wrapper: Wrapper) -> _Asked | None:
    """getopt with `+`: options end at the first word that is none. None for an option that is not listed."""
    rest = list(words)
    options: list[tuple[bytes, bytes]] = []
    while rest and rest[0].startswith(b"-") and len(rest[0]) > 1:
        word = rest.pop(0)
        if word == b"--":
            break
        if word.startswith(b"--"):
            name, equals, value = word.partition(b"=")
            if name in wrapper.long_valued and (equals or rest):
                options.append((name, value if equals else rest.pop(0)))
            elif name in wrapper.long_flags and not equals:
                options.append((name, b""))
            else:
                return None
            continue
        if wrapper is WRAPPERS[b"nice"] and word[1:].isdigit():
            continue
        for at in range(1, len(word)):
            letter = word[at : at + 1]
            if letter in wrapper.flags:
                continue
            if letter not in wrapper.valued or (at + 1 == len(word) and not rest):
                return None
            options.append((letter, word[at + 1 :] or rest.pop(0)))
            break
    if len(rest) < wrapper.operands:
        return None
    return _Asked(tuple(options), tuple(rest[: wrapper.operands]), tuple(rest[wrapper.operands :]))


def _credentials(place: Surroundings, executed: Execution, wrapper: Wrapper, asked: _Asked) -> Credentials | None:
    """Who runs the command; None where nobody knows."""
    if wrapper.user:
        user = _user(place, show(asked.operands[0]))
        return None if user.error or executed.creds.uid else _become(user, executed.creds)
    if wrapper is not _SETPRIV:
        return executed.creds
    creds = executed.creds
    for name, value in asked.options:
        if name in (b"--reuid", b"--regid") and not executed.creds.uid:
            user = _user(place, show(value) if name == b"--reuid" else f"0:{show(value)}")
            if user.error:
                return None
            creds = creds._replace(uid=user.uid) if name == b"--reuid" else creds._replace(gid=user.gid, groups=())
        elif name in (b"--reuid", b"--regid", b"--ruid", b"--euid", b"--rgid", b"--egid", b"--inh-caps", b"--bounding-set"):
            return None
    return creds._replace(dac_override=creds.dac_override and creds.uid == 0)


def _user(place: Surroundings, spec: str) -> ResolvedUser:
    texts: list[bytes | None] = []
    for path in (b"/etc/passwd", b"/etc/group"):
        node = place.rootfs.resolve(path).node
        texts.append(None if node is None or node.entry.kind != Kind.FILE else place.rootfs.text(node))
    return resolve_user(spec, *texts)


def _become(user: ResolvedUser, creds: Credentials) -> Credentials:
    return user.credentials(dac_override=creds.dac_override and user.uid == 0)


def follow_gosu(place: Surroundings, executed: Execution, family: str) -> Following | Refusal | None:
    """gosu is written in Go: it looks its user and its program up in Go's words."""
    words = executed.argv[1:]
    if len(words) < 2 or words[0].startswith(b"-"):
        return None
    spec = show(words[0])
    user = _user(place, spec)
    start = b'error: failed switching to "' + words[0] + b'": '
    by = show_path(executed.program.path) if executed.program is not None else ""
    if user.error:
        step = Step("user", spec, by, ok=False)
        return Refusal((start + user.error.encode(),), 1, "wrapper.user-absent", b"", words[0], (step,))
    if executed.creds.uid and (user.uid, user.gid) != (executed.creds.uid, executed.creds.gid):
        step = Step("user", spec, by, ok=False)
        line = start + b"operation not permitted"
        return Refusal((line,), 1, "wrapper.user-not-permitted", b"", words[0], (step,))
    creds = _become(user, executed.creds)
    env = tuple(each for each in place.env if not each.startswith(b"HOME=")) + (b"HOME=" + user.home,)
    steps: list[Step] = []
    path, failed, unknown = look_up(place.rootfs, words[1], env, place.cwd, creds, place.profile, steps)
    if unknown:
        return Following(None, assumptions=(f"gosu was not followed: {unknown}",))
    if failed is not None:
        absent = failed.cause in ("path.absent", "path.not-found")
        cause = "wrapper.command-absent" if absent else "wrapper.command-not-executable"
        said = failed.message.partition(b": unknown: Are you")[0]
        return Refusal((b"error: " + said,), 1, cause, failed.subject, words[1], tuple(steps))
    done = execute_in(place._replace(env=env), path, words[1:], creds)
    if done.error:
        line = b"error: exec failed: " + GO_STRERROR[done.error].encode()
        return Refusal((line,), 1, "wrapper.command-not-executable", done.subject, words[1], (*steps, *done.steps))
    return Following(msgspec.structs.replace(done, steps=(*steps, *done.steps)), env, place.cwd)
