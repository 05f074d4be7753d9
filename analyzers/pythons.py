"""The Python interpreters of an image: which release each is, what it can import from where, which file names it takes.

Mirrors CPython's `Modules/getpath.py`, `Lib/site.py` and `Python/dynload_shlib.c` for builds with a prefix, virtual environments
and Debian's dist-packages (R10, R11). Looks where PATH, pyvenv.cfg and the usual directories lead; claims nothing of an
interpreter whose standard library is not beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from analyzers.facts import Kind
from analyzers.lookup import variable
from analyzers.rootfs import Node, Rootfs

_FOLDERS = (b"/usr/local/bin", b"/usr/bin", b"/bin", b"/opt/venv/bin", b"/venv/bin", b"/app/.venv/bin", b"/opt/conda/bin")
_NEWEST = 20
_NAMES = (b"python3", b"python", *(b"python3.%d" % minor for minor in range(_NEWEST, 5, -1)))
_MAX_ENVIRONMENTS = 64
_FILE = re.compile(rb"python(3)\.(\d{1,2})(t?)")
_LIBRARY = re.compile(rb"libpython(3)\.(\d{1,2})(t?)[a-z]*\.so.*")
_TAGGED = re.compile(rb"\.(?:cpython-[a-z0-9]+-[A-Za-z0-9_-]+)\.so")
_LANDMARKS = (b"os.py", b"os.pyc")


class Interpreter(msgspec.Struct, frozen=True):
    """One interpreter by one of its names; a virtual environment is one of its own."""

    path: bytes
    """As it is called: absolute, links not followed."""
    node: Node
    """The program itself."""
    minor: int
    """Of 3.x."""
    threads: bytes
    """b"t" of a free-threaded build, else empty."""
    stdlib: bytes
    """lib/python3.x with `os.py`, absolute."""
    sites: tuple[bytes, ...]
    """Directories of site-packages that exist, absolute, in order, those of .pth files included."""
    suffixes: tuple[bytes, ...]
    """File name endings of extension modules; empty where the build does not tell its own."""
    environment: bytes
    """Directory of the virtual environment; empty for none."""
    opaque: str
    """Why more than these directories may be on sys.path; empty where nothing else is."""

    @property
    def release(self) -> str:
        return f"3.{self.minor}{self.threads.decode()}"

    @property
    def lib(self) -> bytes:
        """The directory that names its release, such as `python3.11`."""
        return b"python" + self.release.encode()


def find_interpreters(rootfs: Rootfs, env: Sequence[bytes]) -> tuple[Interpreter, ...]:
    """Each once, whatever number of names it has; environments after the interpreters they stand on."""
    found: dict[tuple[tuple[int, bytes], bytes], Interpreter] = {}
    for path in (*_named(env), *_environments(rootfs)):
        interpreter = interpreter_at(rootfs, path, env)
        if interpreter is not None:
            found.setdefault((interpreter.node.identity, interpreter.environment), interpreter)
            base = _home(rootfs, interpreter.environment)
            for name in _NAMES if base else ():
                under = interpreter_at(rootfs, base + b"/" + name, env)
                if under is not None:
                    found.setdefault((under.node.identity, under.environment), under)
    return tuple(found.values())


def interpreter_at(rootfs: Rootfs, path: bytes, env: Sequence[bytes]) -> Interpreter | None:
    """The interpreter that this absolute path runs; None where it is none, or its standard library is not found."""
    node = rootfs.resolve(path).node
    if node is None or node.entry.kind != Kind.FILE or rootfs.elf(node) is None:
        return None
    environment = _environment_of(rootfs, path)
    release = _release(rootfs, node)
    home = _home(rootfs, environment) or b"/" + node.path.rpartition(b"/")[0]
    said = variable(env, b"PYTHONHOME") or b""
    homes = (home, b"/" + node.path.rpartition(b"/")[0])
    stdlib = _stdlib(rootfs, (said.rstrip(b"/") + b"/bin", *homes) if said.startswith(b"/") else homes, release)
    if stdlib is None:
        return None
    directory, minor, threads = stdlib
    own = (b"python3.%d" % minor) + threads
    prefix = directory.rpartition(b"/")[0].rpartition(b"/")[0]
    sites = _sites(rootfs, prefix, own)
    if environment:
        inherited = sites if _inherits(rootfs, environment) else []
        sites = [*_site_folders(rootfs, environment, own), *inherited]
    sites, opaque = _follow_pth(rootfs, [*_user_sites(rootfs, env, own), *sites])
    opaque = opaque or _customised(rootfs, directory, prefix, own, sites)
    suffixes = _suffixes(rootfs, directory, minor, threads)
    path_dirs = [each for each in _python_path(rootfs, env) if each not in sites]
    return Interpreter(path, node, minor, threads, directory, (*path_dirs, *sites), suffixes, environment, opaque)


def _named(env: Sequence[bytes]) -> Iterator[bytes]:
    folders = [each for each in (variable(env, b"PATH") or b"").split(b":") if each.startswith(b"/")]
    for folder in dict.fromkeys((*folders[:32], *_FOLDERS)):
        for name in _NAMES:
            yield folder.rstrip(b"/") + b"/" + name


def _environments(rootfs: Rootfs) -> Iterator[bytes]:
    texts = sorted({path for layer in rootfs.layers for path in layer.texts if path.rpartition(b"/")[2] == b"pyvenv.cfg"})
    for path in texts[:_MAX_ENVIRONMENTS]:
        yield b"/" + path.rpartition(b"/")[0] + b"/bin/python"


def _environment_of(rootfs: Rootfs, path: bytes) -> bytes:
    """pyvenv.cfg lies beside the program or one directory above, by the name it was called by (getpath.py)."""
    folder = path.rpartition(b"/")[0]
    for directory in (folder, folder.rpartition(b"/")[0]):
        if rootfs.resolve(directory + b"/pyvenv.cfg").node is not None:
            return directory
    return b""


def read_settings(rootfs: Rootfs, environment: bytes) -> dict[bytes, bytes]:
    """The keys of an environment's pyvenv.cfg, lower case."""
    node = rootfs.resolve(environment + b"/pyvenv.cfg").node
    text = (None if node is None else rootfs.text(node)) or b""
    pairs = (line.partition(b"=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}


def _home(rootfs: Rootfs, environment: bytes) -> bytes:
    home = read_settings(rootfs, environment).get(b"home", b"") if environment else b""
    return home.rstrip(b"/") if home.startswith(b"/") else b""


def _inherits(rootfs: Rootfs, environment: bytes) -> bool:
    return read_settings(rootfs, environment).get(b"include-system-site-packages", b"").lower() == b"true"


def _release(rootfs: Rootfs, node: Node) -> tuple[int, bytes] | None:
    """By the program's own name, else by the libpython it needs."""
    facts = rootfs.elf(node)
    matches = [_FILE.fullmatch(node.path.rpartition(b"/")[2])]
    matches += [_LIBRARY.fullmatch(name) for name in (facts.needed if facts is not None else ())]
    return next(((int(match[2]), match[3]) for match in matches if match), None)


def _stdlib(rootfs: Rootfs, homes: Sequence[bytes], release: tuple[int, bytes] | None) -> tuple[bytes, int, bytes] | None:
    """(directory, minor, threads): searched from the program's directory upwards."""
    releases = [release] if release else [(minor, threads) for minor in range(_NEWEST, 5, -1) for threads in (b"", b"t")]
    for home in dict.fromkeys(homes):
        above = home
        while True:
            for minor, threads in releases:
                for lib in (b"lib", b"lib64"):
                    directory = above + b"/" + lib + (b"/python3.%d" % minor) + threads
                    if any(rootfs.resolve(directory + b"/" + name).node is not None for name in _LANDMARKS):
                        return directory, minor, threads
            if not above:
                break
            above = above.rpartition(b"/")[0]
    return None


def _site_folders(rootfs: Rootfs, prefix: bytes, own: bytes) -> list[bytes]:
    listed = [prefix + b"/" + lib + b"/" + own + b"/site-packages" for lib in (b"lib", b"lib64")]
    return _distinct(rootfs, listed)


def _sites(rootfs: Rootfs, prefix: bytes, own: bytes) -> list[bytes]:
    """Debian's own build looks into dist-packages, and into its local ones first."""
    listed = [b"/usr/local/lib/" + own, prefix + b"/lib/python3", prefix + b"/lib/" + own]
    debians = _distinct(rootfs, [each + b"/dist-packages" for each in listed])
    if prefix in (b"/usr", b"") and debians:
        return debians
    local = _site_folders(rootfs, b"/usr/local", own) if prefix in (b"/usr", b"") else []
    return [*local, *_site_folders(rootfs, prefix, own)]


def _distinct(rootfs: Rootfs, listed: Sequence[bytes]) -> list[bytes]:
    """Those that are there, each directory once though links lead to it."""
    found: dict[bytes, bytes] = {}
    for path in listed:
        node = rootfs.resolve(path).node
        if node is not None and node.entry.kind == Kind.DIRECTORY:
            found.setdefault(node.path, path)
    return list(found.values())


def _user_sites(rootfs: Rootfs, env: Sequence[bytes], own: bytes) -> list[bytes]:
    home = variable(env, b"HOME") or b""
    user = variable(env, b"PYTHONUSERBASE") or (home.rstrip(b"/") + b"/.local")
    return _site_folders(rootfs, user, own) if user.startswith(b"/") and not variable(env, b"PYTHONNOUSERSITE") else []


def _python_path(rootfs: Rootfs, env: Sequence[bytes]) -> list[bytes]:
    listed = [each for each in (variable(env, b"PYTHONPATH") or b"").split(b":") if each.startswith(b"/")]
    return _distinct(rootfs, [each.rstrip(b"/") or b"/" for each in listed])


# -- what else may be on sys.path --


def _follow_pth(rootfs: Rootfs, sites: list[bytes]) -> tuple[list[bytes], str]:
    """site.addsitedir: each line of a .pth file is a directory to add, or code to run."""
    known = list(sites)
    opaque = ""
    for site in sites:
        node = rootfs.resolve(site).node
        if node is None:
            continue
        for file in rootfs.children(node.path):
            if not file.path.endswith(b".pth"):
                continue
            text = rootfs.text(file)
            if text is None:
                opaque = opaque or "/" + file.path.decode("utf-8", "replace")
                continue
            for line in text.splitlines():
                added, runs = _pth_line(rootfs, site, file.path, line)
                opaque = opaque or runs
                known += [added] if added and added not in known else []
    return known, opaque


def _pth_line(rootfs: Rootfs, site: bytes, file: bytes, line: bytes) -> tuple[bytes, str]:
    """(directory that it adds, the file where it runs code)."""
    if not line.strip() or line.startswith(b"#"):
        return b"", ""
    if line.startswith((b"import ", b"import\t")):
        # setuptools' own only puts its copy of distutils before the standard one.
        harmless = file.endswith(b"/distutils-precedence.pth")
        return b"", "" if harmless else "/" + file.decode("utf-8", "replace")
    path = line.rstrip()
    path = path if path.startswith(b"/") else site + b"/" + path
    node = rootfs.resolve(path).node
    if node is None:
        return b"", ""
    # A file on sys.path is a zip.
    return (path, "") if node.entry.kind == Kind.DIRECTORY else (b"", "/" + file.decode("utf-8", "replace"))


_DEBIANS_OWN = 155
"""Bytes of Debian's sitecustomize.py, which installs a hook for crash reports where there is one."""


def _customised(rootfs: Rootfs, stdlib: bytes, prefix: bytes, own: bytes, sites: Sequence[bytes]) -> str:
    """sitecustomize and usercustomize may do anything; a zip may hold anything."""
    archive = prefix + b"/lib/" + own.replace(b".", b"") + b".zip"
    if rootfs.resolve(archive).node is not None:
        return archive.decode("utf-8", "replace")
    for directory in (stdlib, *sites):
        for name in (b"sitecustomize", b"usercustomize"):
            for path in (directory + b"/" + name + b".py", directory + b"/" + name):
                node = rootfs.resolve(path).node
                if node is not None and not (directory == stdlib and node.entry.size == _DEBIANS_OWN):
                    return path.decode("utf-8", "replace")
    return ""


def _suffixes(rootfs: Rootfs, stdlib: bytes, minor: int, threads: bytes) -> tuple[bytes, ...]:
    """By the names that the build gave its own extension modules, or its configuration."""
    node = rootfs.resolve(stdlib).node
    if node is None:
        return ()
    tags: Counter[bytes] = Counter()
    for file in rootfs.starting(node.path + b"/lib-dynload/", b".so"):
        _, dot, rest = file.path.rpartition(b"/")[2].partition(b".")
        if _TAGGED.fullmatch(dot + rest):
            tags[dot + rest] += 1
    own = tags.most_common(1)[0][0] if tags else b""
    start = b"_sysconfigdata_" + threads + b"_linux_"
    for file in rootfs.starting(node.path + b"/" + start) if not own else ():
        triplet = file.path.rpartition(b"/")[2].removeprefix(start).partition(b".")[0]
        own = b".cpython-3%d%s-%s.so" % (minor, threads, triplet) if triplet else b""
    return (own, b".abi3.so", b".so") if own else ()
