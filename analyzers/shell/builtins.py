"""What the builtins of the shells do to what is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analyzers.facts import Kind
from analyzers.shell.commands import BASH_WORDS, absolute
from analyzers.shell.models import echo, printf
from analyzers.shell.names import BUILTINS
from analyzers.shell.outcomes import Break, Continue, Ended, Failed, Over, Return
from analyzers.shell.state import Blame, Field, Gap, Value, Variable
from analyzers.shell.tree import Assignment, Dialect, Literal, Simple, Word

if TYPE_CHECKING:
    from analyzers.shell.walk import Walk

_KEYWORDS = frozenset(b"if then else elif fi do done case esac while until for { } ! in".split())
_SET_OPTIONS = {b"errexit": b"e", b"nounset": b"u"}
_NOTHING_TO_SAY = frozenset(
    b"trap umask ulimit hash alias unalias shopt enable complete compgen compopt bind times history disown bg fg jobs".split()
)

Builtin = Callable[["Walk", list[Field], Simple], "int | None"]


def run(walk: Walk, name: bytes, fields: list[Field], command: Simple) -> int | None:
    """One builtin; its exit status, None where unknown."""
    found = _TABLE.get(name)
    if found is not None:
        return found(walk, fields, command)
    if name in _NOTHING_TO_SAY:
        walk.say(Gap.ONE, command.redirects) if name not in (b"trap", b"umask") else None
        return 0 if name in (b"trap", b"umask", b"alias", b"shopt") else None
    walk.say(Gap.ONE, command.redirects)
    return None


def forget_assigned(walk: Walk, word: Word) -> None:
    """Arithmetic may assign what it names."""
    text = b"".join(part.text for part in word if isinstance(part, Literal))
    if b"=" in text.replace(b"==", b"") or b"++" in text or b"--" in text:
        for name in list(walk.state.variables):
            if name in text:
                walk.state.put(name, Gap.ONE)
        for name in text.replace(b"+", b" ").replace(b"-", b" ").replace(b"=", b" ").split():
            if name.isidentifier() if isinstance(name, str) else name.isalnum() and not name[:1].isdigit():
                walk.state.put(name, Gap.ONE)


def _true(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    return 0


def _false(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    return 1


def _echo(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    words = [each for each in fields[1:] if isinstance(each, bytes)]
    whole = len(words) == len(fields) - 1
    walk.say((echo if fields[0] == b"echo" else printf)(words) if whole else Gap.ONE, command.redirects)
    if fields[0] == b"printf" and fields[1:2] == [b"-v"] and len(fields) > 2 and isinstance(fields[2], bytes):
        walk.state.put(fields[2], Gap.ONE)
    return 0


def _test(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    arguments = fields[1:]
    if fields[0] in (b"[", b"[["):
        if not arguments or arguments[-1] != (b"]" if fields[0] == b"[" else b"]]"):
            return None if Gap.MANY in arguments else 2
        arguments = arguments[:-1]
    if fields[0] == b"[[" and len(arguments) != 1:
        return None  # patterns: not kept here
    return walk.test(arguments)


def _exec(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    rest = fields[1:]
    while rest and isinstance(rest[0], bytes) and rest[0].startswith(b"-") and walk.dialect is not Dialect.DASH:
        option = rest.pop(0)
        if option == b"--":
            break
        if option == b"-a" and rest:
            rest.pop(0)
            walk.state.put(b"_exec_name", Gap.ONE)
        elif option not in (b"-c", b"-l"):
            raise walk.lost("options of exec cannot be foretold")
    if rest[:1] == [b"--"] and walk.dialect is Dialect.DASH:
        rest = rest[1:]
    if not rest:
        walk.silence(command.redirects)
        return 0
    if rest[0] is Gap.MANY:
        raise walk.lost("which program it runs cannot be foretold")
    for assignment in command.assignments:
        walk.state.variables[assignment.name] = walk.state.variables[assignment.name]._replace(exported=True)
    return walk.launch(rest, command.redirects, replacing=True)


def _exit(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    status = walk.state.status
    if len(fields) > 1:
        status = _number(fields[1])
    if status == 0:
        raise Over(Ended(0))
    if status is None:
        raise Over(Ended(None))
    walk.fail_here(status)
    return status


def _number(field: Field) -> int | None:
    return int(field) & 0xFF if isinstance(field, bytes) and field.isdigit() and len(field) < 10 else None


def _return(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    raise Return(walk.state.status if len(fields) < 2 else _number(fields[1]))


def _leave(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    levels = _number(fields[1]) if len(fields) > 1 else 1
    if levels is None or not levels:
        raise walk.lost("how many loops it leaves cannot be foretold")
    raise (Break if fields[0] == b"break" else Continue)(levels)


def _set(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    words = fields[1:]
    state = walk.state
    while words:
        word = words[0]
        if isinstance(word, Gap):
            state.positional = tuple(words)
            return 0
        if word in (b"--", b"-"):
            state.positional = tuple(words[1:]) if word == b"--" or len(words) > 1 else state.positional
            return 0
        if not word.startswith((b"-", b"+")) or len(word) < 2:
            state.positional = tuple(words)
            return 0
        words = words[1:]
        letters = word[1:]
        if b"o" in letters and words:
            name = words.pop(0)
            letters = letters.replace(b"o", _SET_OPTIONS.get(name, b"") if isinstance(name, bytes) else b"")
            if name == b"pipefail" and walk.dialect is Dialect.DASH:
                # Newer dashes know it; older ones end the script here.
                raise walk.lost("whether this dash knows pipefail cannot be told")
        if b"e" in letters:
            state.errexit = word.startswith(b"-")
        if b"u" in letters:
            state.nounset = word.startswith(b"-")
    return 0


def _shift(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    count = _number(fields[1]) if len(fields) > 1 else 1
    values = walk.state.positional
    if count is None or Gap.MANY in values[: count + 1]:
        walk.state.positional = (Gap.MANY,)
        return None
    if count > len(values):
        if walk.dialect is Dialect.DASH:
            walk.give_up(b"shift: can't shift that many")
        return 1
    walk.state.positional = values[count:]
    return 0


def _declare(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    """export, readonly, local, declare, typeset: words as they are written, since assignments among them are not split."""
    name = fields[0]
    exports = name == b"export"
    local = name in (b"local", b"declare", b"typeset") and bool(walk.locals)
    removes = False
    options = b""
    for word in command.words[1:]:
        if isinstance(word, Assignment):
            _make_local(walk, word.name, local)
            walk.assign(word)
            _mark(walk, word.name, exports)
            continue
        first = word[0] if word else Literal(b"")
        text = first.text if isinstance(first, Literal) else b""
        if text.startswith(b"-") and isinstance(first, Literal) and not first.quoted:
            options += text[1:]
            exports = exports or (b"x" in text and name != b"readonly")
            removes = removes or (exports and b"n" in text)
            continue
        variable, equals, rest = text.partition(b"=")
        if isinstance(first, Literal) and not first.quoted and equals:
            value: Value = walk.expander.value((Literal(rest), *word[1:]))
            if variable.endswith(b"+"):
                variable, value = variable[:-1], Gap.ONE
            _make_local(walk, variable, local)
            walk.state.put(variable, value)
            _mark(walk, variable, exports)
            continue
        for field in walk.expander.fields((word,)):
            if not isinstance(field, bytes):
                raise walk.lost("what is declared cannot be foretold")
            variable, equals, rest = field.partition(b"=")
            _make_local(walk, variable, local)
            if equals:
                walk.state.put(variable, rest)
            elif local and variable not in walk.state.variables and b"A" not in options and b"a" not in options:
                continue
            _mark(walk, variable, exports, removes=removes)
    return 0


def _make_local(walk: Walk, name: bytes, local: bool) -> None:
    if local and name not in walk.locals[-1]:
        walk.locals[-1][name] = walk.state.variables.get(name)
        if walk.dialect is Dialect.BASH:
            walk.state.variables.pop(name, None)


def _mark(walk: Walk, name: bytes, exports: bool, *, removes: bool = False) -> None:
    if exports:
        known = walk.state.variables.get(name)
        walk.state.variables[name] = Variable(None if known is None else known.value, not removes)


def _unset(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    for name in fields[1:]:
        if isinstance(name, Gap):
            raise walk.lost("what is unset cannot be foretold")
        if b"-f" in fields[1:2]:
            walk.state.functions.pop(name, None)
        else:
            walk.state.variables.pop(name.partition(b"[")[0], None)
    return 0


def _read(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    for name in fields[1:]:
        if isinstance(name, bytes) and not name.startswith(b"-"):
            walk.state.put(name, Gap.ONE)
    if not any(isinstance(each, bytes) and not each.startswith(b"-") for each in fields[1:]):
        walk.state.put(b"REPLY" if fields[0] == b"read" else b"MAPFILE", Gap.ONE)
    return None


def _getopts(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    first = walk.state.positional[:1]
    if isinstance(fields[-1], bytes) and len(fields) == 3:
        walk.state.put(fields[2] if isinstance(fields[2], bytes) else b"_", Gap.ONE)
        if not first or (isinstance(first[0], bytes) and not first[0].startswith(b"-")):
            return 1
    walk.state.put(b"OPTARG", Gap.ONE)
    walk.state.put(b"OPTIND", Gap.ONE)
    return None


def _cd(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    state = walk.state
    words = [each for each in fields[1:] if each not in (b"-P", b"-L", b"--")]
    target: Value | None = words[0] if words else state.get(b"HOME")
    if not isinstance(target, bytes) or state.cwd is None or target == b"-":
        state.cwd = None
        return None
    wanted = absolute(target, state.cwd)
    found = walk.place.rootfs.resolve(target or b".", cwd=state.cwd, creds=walk.creds)
    if found.node is not None and found.node.entry.kind == Kind.DIRECTORY:
        state.cwd = wanted
        return 0
    if state.writes.may_hold(wanted) or found.unknown or state.get(b"CDPATH") is not None:
        state.cwd = wanted
        return None
    error = found.error or "ENOTDIR"
    words_of = BASH_WORDS.get(error, b"No such file or directory")
    if walk.dialect is Dialect.BASH:
        line, code = walk.speaker.at(walk.line, b"cd") + target + b": " + words_of, 1
    elif walk.dialect is Dialect.DASH:
        line, code = walk.speaker.at(walk.line, b"cd") + b"can't cd to " + target, 2
    else:
        line, code = walk.speaker.at(walk.line, b"cd") + b"can't cd to " + target + b": " + words_of, 2
    state.blame = Blame((line,), code, "shell.directory-absent", target, found.path, walk.line)
    walk.complain(state.blame, (), command.redirects, tested=walk.tested)
    return code


def _pwd(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    walk.say(Gap.ONE if walk.state.cwd is None else walk.state.cwd + b"\n", command.redirects)
    return 0


def _source(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    path = fields[1] if len(fields) > 1 else None
    state = walk.state
    if not isinstance(path, bytes) or state.cwd is None or not path:
        raise walk.lost("which file it reads cannot be foretold")
    wanted = path if b"/" in path else walk.find(path, executable=False)
    if wanted is None:
        raise walk.lost(f"where {path.decode(errors='replace')} is looked for cannot be foretold")
    if not wanted and walk.dialect is Dialect.BASH:
        wanted = path
    found = walk.place.rootfs.resolve(wanted, cwd=state.cwd, creds=walk.creds) if wanted else None
    if found is None or found.node is None:
        return _cannot_source(walk, path, command, unknown=found.unknown if found is not None else False)
    text = walk.place.rootfs.script(found.node) if found.node.entry.size else b""
    if text is None or state.writes.names(b"/" + found.node.path):
        raise walk.lost(f"the text of {wanted.decode(errors='replace')} is not known")
    outer, speaker = state.positional, walk.speaker
    if len(fields) > 2:
        state.positional = tuple(fields[2:])
    walk.speaker = speaker._replace(sourced=wanted, text=False)
    try:
        status = walk.run_text(text, "/" + found.node.path.decode(errors="replace"))
    except Return as way:
        status = way.status
    finally:
        walk.speaker = speaker
    if len(fields) > 2:
        walk.state.positional = outer
    return status


def _cannot_source(walk: Walk, path: bytes, command: Simple, *, unknown: bool) -> int | None:
    state = walk.state
    if unknown or state.cwd is None or state.writes.may_hold(absolute(path, state.cwd)):
        raise walk.lost(f"{path.decode(errors='replace')} is not in the image; an earlier command may make it")
    name = b"." if walk.dialect is not Dialect.BASH else b""
    said = walk.speaker.at(walk.line, name) + path
    if walk.dialect is Dialect.BASH:
        line, code = said + b": No such file or directory", 1
    elif b"/" not in path:
        line, code = said + b": not found", 2
    elif walk.dialect is Dialect.DASH:
        line, code = walk.speaker.at(walk.line, name) + b"cannot open " + path + b": No such file", 2
    else:
        line, code = walk.speaker.at(walk.line, name) + b"can't open '" + path + b"': No such file or directory", 2
    blame = Blame((line,), code, "shell.file-absent", path, b"", walk.line)
    if walk.dialect is not Dialect.BASH:
        raise Over(Failed(walk.file, blame))
    state.blame = blame
    walk.complain(blame, (), command.redirects, tested=walk.tested)
    return code


def _eval(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    known = [each for each in fields[1:] if isinstance(each, bytes)]
    if len(known) < len(fields) - 1:
        raise walk.lost("`eval` cannot be foretold")
    if len(known) and not b" ".join(known).strip():
        return 0
    walk.state.status = 0
    return walk.run_text(b" ".join(known))


def _command(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    rest = fields[1:]
    looks = fields[0] in (b"type", b"hash")
    while rest and isinstance(rest[0], bytes) and rest[0].startswith(b"-") and len(rest[0]) > 1:
        looks = looks or b"v" in rest[0] or b"V" in rest[0]
        rest = rest[1:]
    if not looks:
        if not rest or isinstance(rest[0], Gap):
            return walk.launch(rest, command.redirects) if rest else 0
        if rest[0] in BUILTINS[walk.dialect]:
            return run(walk, rest[0], rest, command)
        return walk.launch(rest, command.redirects)
    status: int | None = 0
    output: Field = b""
    for name in rest:
        path = _looked_up(walk, name)
        if path is None:
            status, output = None, Gap.ONE
        elif not path:
            status = 1 if walk.dialect is Dialect.BASH or fields[0] != b"command" else 127
        elif isinstance(output, bytes):
            output += path + b"\n"
    walk.say(output if fields[0] == b"command" or (fields[0] == b"hash" and not output) else Gap.ONE, command.redirects)
    return status


def _looked_up(walk: Walk, name: Field) -> bytes | None:
    if isinstance(name, Gap):
        return None
    if name in walk.state.functions:
        return name if walk.state.functions[name] is not None else None
    if name in BUILTINS[walk.dialect] or name in _KEYWORDS:
        return name
    return walk.find(name)


def _local_builtin(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    rest = fields[1:]
    if not rest:
        return 0
    return run(walk, rest[0], rest, command) if isinstance(rest[0], bytes) and rest[0] in BUILTINS[walk.dialect] else None


def _let(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    for word in fields[1:]:
        if not isinstance(word, bytes):
            raise walk.lost("`let` cannot be foretold")
        forget_assigned(walk, (Literal(word),))
    return None


def _directories(walk: Walk, fields: list[Field], command: Simple) -> int | None:
    if fields[0] == b"pushd" and len(fields) == 2:
        return _cd(walk, fields, command)
    walk.state.cwd = None
    return None


def known_names() -> Sequence[bytes]:
    """Builtins whose effect is known."""
    return sorted(_TABLE)


_TABLE: dict[bytes, Builtin] = {
    b":": _true, b"true": _true, b"false": _false, b"echo": _echo, b"printf": _echo, b"test": _test, b"[": _test, b"[[": _test,
    b"exec": _exec, b"exit": _exit, b"return": _return, b"break": _leave, b"continue": _leave, b"set": _set, b"shift": _shift,
    b"export": _declare, b"readonly": _declare, b"local": _declare, b"declare": _declare, b"typeset": _declare,
    b"unset": _unset, b"read": _read, b"mapfile": _read, b"readarray": _read, b"getopts": _getopts, b"cd": _cd, b"chdir": _cd,
    b"pwd": _pwd, b".": _source, b"source": _source, b"eval": _eval, b"command": _command, b"type": _command, b"hash": _command,
    b"builtin": _local_builtin, b"let": _let, b"pushd": _directories, b"popd": _directories,
}  # fmt: skip
