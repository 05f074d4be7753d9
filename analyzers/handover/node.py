"""Node looks for its script as `require` would, and says which module it cannot find.

Mirrors `Module._findPath`, tryPackage and tryExtensions of Node's `lib/internal/modules/cjs/loader.js`, and path.resolve. Of the
many lines that Node prints the one that begins with `Error:` is foretold; the others have line numbers of Node's own sources.
npm's `start` and `run` are followed where the script of package.json is nothing but Node with a file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

import msgspec

from analyzers.facts import Kind
from analyzers.finding import Step, show
from analyzers.handover.place import Refusal, Surroundings
from analyzers.kernel import Execution
from analyzers.lookup import variable
from analyzers.rootfs import Resolution
from analyzers.trail import attempt

_EXTENSIONS = (b".js", b".json", b".node", b".ts", b".cts", b".mts", b".mjs", b".cjs")
"""More than any one release tries: what may be found is not foretold to be absent."""
_FLAGS = re.compile(
    rb"--(?:max-old-space-size|max-semi-space-size|stack-size|max-http-header-size|unhandled-rejections|dns-result-order|title"
    rb"|heapsnapshot-signal|tls-min-v1\.\d|tls-max-v1\.\d)(?:=\S+)?"
    rb"|--(?:no-)?(?:enable-source-maps|warnings|deprecation|trace-warnings|trace-uncaught|expose-gc|expose_gc|optimize-for-size"
    rb"|experimental-[a-z-]+|preserve-symlinks|abort-on-uncaught-exception|throw-deprecation|use-openssl-ca|insecure-http-parser)"
)
"""Options that leave the search for the script as it is; with any other one nothing is foretold."""
_WORD = re.compile(r"[A-Za-z0-9_./@:=-]+")
_ABSENT = frozenset(("ENOENT", "ENOTDIR", "EACCES"))


def run_node(place: Surroundings, executed: Execution, family: str) -> Refusal | None:
    """None where it is asked for anything else, or nothing is certain."""
    words = list(executed.argv[1:])
    options = (variable(place.env, b"NODE_OPTIONS") or b"").split()
    if not all(_FLAGS.fullmatch(option) for option in options):
        return None
    while words and words[0].startswith(b"-"):
        if words[0] == b"--":
            words.pop(0)
            break
        if not _FLAGS.fullmatch(words.pop(0)):
            return None
    if not words or words[0] in (b"inspect", b"debug", b""):
        return None
    refusal = _find(place, executed, words[0])
    return refusal or _follow_npm(place, executed, words[0], words[1:])


def _find(place: Surroundings, executed: Execution, word: bytes) -> Refusal | None:
    """Why the main module is not found; None where it is, or may be."""
    base = _resolve(b"/" + place.rootfs.resolve(place.cwd).path, word)
    found = _stat(place, executed, base)
    if place.rootfs.partial or found.unknown or found.error and found.error not in _ABSENT:
        return None
    directory = found.node is not None and found.node.entry.kind == Kind.DIRECTORY
    if found.node is not None and not directory or _with_extension(place, executed, base):
        return None
    text = b"Error: Cannot find module '" + base + b"'"
    if directory:
        main = _main_of(place, base)
        if main is None:
            return None
        if _with_extension(place, executed, _resolve(base, b"index")):
            return None
        if main:
            wanted = _resolve(base, main)
            if _is_module(place, executed, wanted):
                return None
            text = b"Error: Cannot find module '" + wanted + b'\'. Please verify that the package.json has a valid "main" entry'
    step = Step("script", show(base), show(executed.opened_as), ok=False, attempts=(attempt(place.rootfs, "path", base, found),))
    return Refusal((text,), 1, "node.script-absent", found.path, word, (step,))


def _resolve(cwd: bytes, path: bytes) -> bytes:
    """Node's path.resolve."""
    normal = posixpath.normpath(posixpath.join(cwd, path))
    return normal[1:] if normal.startswith(b"//") else normal


def _stat(place: Surroundings, executed: Execution, path: bytes) -> Resolution:
    return place.rootfs.resolve(path, creds=executed.creds)


def _with_extension(place: Surroundings, executed: Execution, path: bytes) -> bool:
    return any(_stat(place, executed, path + each).node is not None for each in _EXTENSIONS)


def _is_module(place: Surroundings, executed: Execution, path: bytes) -> bool:
    """A file, one with an extension, or a directory with an index."""
    node = _stat(place, executed, path).node
    if node is not None and node.entry.kind != Kind.DIRECTORY:
        return True
    return _with_extension(place, executed, path) or _with_extension(place, executed, path + b"/index")


def _read_package(place: Surroundings, directory: bytes) -> Mapping[str, object] | None:
    """package.json of a directory: empty where there is none, None where it was not read or is no JSON object."""
    found = place.rootfs.resolve(directory + b"/package.json")
    if found.node is None:
        return {}
    text = place.rootfs.text(found.node)
    try:
        document = msgspec.json.decode(text or b"")
    except (msgspec.DecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _main_of(place: Surroundings, directory: bytes) -> bytes | None:
    document = _read_package(place, directory)
    if document is None:
        return None
    main = document.get("main")
    return main.encode("utf-8", "surrogatepass") if isinstance(main, str) else b""


# -- npm --


def _follow_npm(place: Surroundings, executed: Execution, script: bytes, words: Sequence[bytes]) -> Refusal | None:
    """`npm start` and `npm run NAME`: the script's own command, where that is Node with a file."""
    node = place.rootfs.resolve(script, cwd=place.cwd).node
    if node is None or not node.path.endswith(b"/npm/bin/npm-cli.js") or not words:
        return None
    named = {(b"start",): "start", (b"run", b"start"): "start", (b"run-script", b"start"): "start"}.get(tuple(words))
    if named is None and len(words) == 2 and words[0] in (b"run", b"run-script"):
        named = words[1].decode("utf-8", "replace")
    document = _read_package(place, b"/" + place.rootfs.resolve(place.cwd).path)
    scripts = document.get("scripts") if document else None
    if named is None or not isinstance(scripts, dict) or f"pre{named}" in scripts:
        return None
    command = scripts.get(named)
    parts = command.split() if isinstance(command, str) else []
    if parts[:1] != ["node"] or not all(_WORD.fullmatch(part) for part in parts):
        return None
    argv = tuple(part.encode() for part in parts)
    inner = msgspec.structs.replace(executed, argv=argv, script=None)
    refusal = run_node(place, inner, "")
    return None if refusal is None else refusal._replace(message=refusal.lines[0])
