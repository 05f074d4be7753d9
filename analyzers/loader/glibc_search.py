"""Where glibc looks for a name, place after place, and what it remembers of the directories on the way.

Mirrors `_dl_map_object`, `open_path`, `fillin_rpath`, `_dl_init_paths` and `_dl_dst_substitute` of `elf/dl-load.c`, and
`_dl_important_hwcaps` of `elf/dl-hwcaps.c` (rules G10-G22, G35-G37, G41, G42). What a found file must be is glibc_open.py.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from analyzers.facts import ElfFacts, LoaderFacts
from analyzers.finding import Attempt, Outcome, Reason, show
from analyzers.loader import ldcache
from analyzers.loader.glibc_open import Files, Opened, Refused
from analyzers.loader.linkmap import Mapped, Signalled, Undecided
from analyzers.loader.machines import Machine, active_hwcaps, legacy_directories, x86_isa
from analyzers.loader.process import Process
from analyzers.loader.search import Origin, Trail, expand_tokens, split_list, token_names
from analyzers.trail import attempt, show_path

DF_1_NODEFLIB = 0x800
_UNKNOWN, _NONEXISTING, _EXISTING = 0, 1, 2
_SEARCH_DIRECTORIES = 256
"""Directories of one list; a run path may name thousands (hostile 87)."""


class Directory:
    """r_search_path_elem: a directory and, for each hardware sub-directory of it, whether it is there."""

    __slots__ = ("name", "status")

    def __init__(self, name: bytes, capabilities: int, status: int = _UNKNOWN) -> None:
        self.name = name
        """With its trailing slash; empty for the working directory."""
        self.status = [status] * capabilities


class Options(NamedTuple):
    """What the environment, or the command line of ld.so, says about searching."""

    library_path: bytes | None = None
    library_path_source: str = Origin.LIBRARY_PATH
    inhibit_cache: bool = False
    inhibit_rpath: tuple[bytes, ...] = ()
    origin_path: bytes | None = None
    """LD_ORIGIN_PATH."""
    hwcaps_prepend: tuple[bytes, ...] = ()
    hwcaps_mask: tuple[bytes, ...] | None = None


class Search:
    """The search state of one process."""

    def __init__(
        self,
        process: Process,
        files: Files,
        loader: ElfFacts,
        said: LoaderFacts,
        machine: Machine,
        release: tuple[int, int],
        options: Options,
    ) -> None:
        self._process = process
        self._files = files
        self._said = said
        self._release = release
        self._options = options
        self._directories: dict[bytes, int] = {}
        self._all: list[Directory] = []
        known = said.hwcaps or (machine.hwcaps if release >= (2, 33) else ())
        level = process.profile.x86_level
        active = active_hwcaps(machine, known, level)
        if options.hwcaps_mask is not None:
            active = tuple(name for name in active if name in options.hwcaps_mask)
        active = (*options.hwcaps_prepend, *active)
        legacy = legacy_directories(machine) if release <= (2, 36) else [b""]
        self.capabilities = [*(b"glibc-hwcaps/" + name + b"/" for name in active), *legacy]
        self._platform = machine.platform
        x86 = loader.machine in (3, 6, 62)
        self._accepts = ldcache.Acceptance(
            machine.cache_flags, active, x86_isa(level) if x86 else -1, release, 2 if loader.machine == 62 else 0
        )
        self._little, self._wide = loader.little, loader.bits == 64
        self._cache: ldcache.Cache | None = None
        self._cache_refusal: str | None = None
        self._cache_key = b""
        self._secure = process.secure
        self.system = [self._directory(name) for name in said.system_dirs]
        self._environment: list[int] = []
        self._environment_why = ""

    # -- path lists (dl-load.c fillin_rpath, decompose_rpath, _dl_init_paths) --

    def init_paths(self, program: Mapped) -> None:
        """_dl_init_paths: LD_LIBRARY_PATH is split once, with the program's $ORIGIN (G13, G14)."""
        text = self._options.library_path
        if self._secure and self._options.library_path_source == Origin.LIBRARY_PATH:
            self._environment_why = "the program runs with raised privileges" if text else ""
        elif text:
            self._environment = self._list(text, b":;", program)

    def _directory(self, name: bytes) -> int:
        number = self._directories.get(name)
        if number is None:
            number = self._directories[name] = len(self._all)
            # A relative directory is never taken for absent: the working directory might change.
            status = _UNKNOWN if name.startswith(b"/") else _EXISTING
            self._all.append(Directory(name, len(self.capabilities), status))
        return number

    def _list(self, text: bytes, separators: bytes, owner: Mapped) -> list[int]:
        found: dict[int, None] = {}
        for element in split_list(text, separators)[: 4 * _SEARCH_DIRECTORIES]:
            if element:
                element = self.expand(element, owner)
                if not element:
                    continue
                element = (element.rstrip(b"/") or b"/").removesuffix(b"/") + b"/"
            found[self._directory(element)] = None
        return list(found)[:_SEARCH_DIRECTORIES]

    def _rpath(self, owner: Mapped) -> list[int]:
        if owner.rpath is None:
            text = owner.facts.rpath if owner.facts.runpath is None else None
            owner.rpath = self._list(text, b":", owner) if text and not self._inhibited(owner) else []
        return owner.rpath

    def _runpath(self, owner: Mapped) -> list[int]:
        if owner.runpath is None:
            text = owner.facts.runpath
            owner.runpath = self._list(text, b":", owner) if text and not self._inhibited(owner) else []
        return owner.runpath

    def _inhibited(self, owner: Mapped) -> bool:
        return not self._secure and owner.name in self._options.inhibit_rpath

    def expand(self, text: bytes, owner: Mapped) -> bytes:
        """_dl_dst_substitute; empty when a token has no value or may not be used (G20-G22)."""
        names = token_names(text)
        if not names:
            return text
        values: dict[bytes, bytes | None] = {
            b"ORIGIN": owner.origin,
            b"PLATFORM": self._platform,
            b"LIB": self._said.lib_token or None,
        }
        expanded = expand_tokens(text, values)
        if self._secure and b"ORIGIN" in names:
            head = text[len(b"${ORIGIN}") if text.startswith(b"${ORIGIN}") else len(b"$ORIGIN") :]
            first = text.startswith((b"$ORIGIN", b"${ORIGIN}")) and head[:1] in (b"", b"/") and names.count(b"ORIGIN") == 1
            if not first or not owner.name and not self._trusted(expanded):
                return b""
        return expanded

    def _trusted(self, path: bytes) -> bool:
        """is_trusted_path_normalize: below a system directory."""
        if not path:
            return False
        normal = posixpath.normpath(path).rstrip(b"/") + b"/"
        return any(normal.startswith(name) for name in self._said.system_dirs)

    # -- dl-load.c _dl_map_object --

    def find(self, name: bytes, requester: Mapped, program: Mapped, trail: Trail, *, preload: bool = False) -> Opened:
        """The file that `name` means to `requester`. Raises Signalled when there is none that can be used."""
        self._files.other_class = self._files.denied = False
        try:
            opened = (
                self._by_path(name, requester, trail)
                if b"/" in name
                else self._by_name(name, requester, program, trail, secure_only=preload and self._secure)
            )
        except Refused as refused:
            trail.add(refused.attempt)
            raise
        if opened is not None:
            return opened
        if self._files.other_class:
            other = b"wrong ELF class: ELFCLASS32" if self._wide else b"wrong ELF class: ELFCLASS64"
            raise Signalled(name, other, "", Reason.ARCHITECTURE, name)
        reason = Reason.LIBRARY_ABSENT
        if Outcome.WRONG_MACHINE in trail.met:
            reason = Reason.ARCHITECTURE
        elif self._files.denied:
            reason = Reason.PERMISSION
        raise Signalled(name, b"cannot open shared object file", self._files.errno, reason, name)

    def find_program(self, name: bytes) -> Opened:
        """What ld.so runs as a command: a path, or a name of the cache; no directory is set up yet. Raises Signalled."""
        self._files.other_class = self._files.denied = False
        opened, tried = self._files.open(name, Origin.PATH) if b"/" in name else (None, None)
        if b"/" not in name and not self._options.inhibit_cache:
            opened = self._by_cache(name, False, Trail())
        if opened is None:
            if self._files.other_class:
                text = b"wrong ELF class: ELFCLASS32" if self._wide else b"wrong ELF class: ELFCLASS64"
                raise Signalled(name, text, "", Reason.ARCHITECTURE, name)
            reason = Reason.PERMISSION if self._files.denied else Reason.PATH
            raise Signalled(name, b"cannot open shared object file", self._files.errno, reason, name)
        return opened

    def find_auditor(self, name: bytes, program: Mapped) -> Opened:
        """An LD_AUDIT library: asked for by ld.so itself, which borrows the program's run paths. Raises Signalled."""
        trail = Trail()
        self._files.other_class = False
        opened = self._by_path(name, program, trail) if b"/" in name else None
        if b"/" not in name:
            opened = self._open_path(name, self._rpath(program), Origin.RPATH, None, program, trail, secure_only=self._secure)
            opened = opened or self._by_name(name, program, program, trail, secure_only=self._secure)
        if opened is None:
            raise Signalled(name, b"cannot open shared object file", self._files.errno)
        return opened

    def _by_path(self, name: bytes, requester: Mapped, trail: Trail) -> Opened | None:
        """A name with a slash is opened as it is (G19)."""
        path = self.expand(name, requester)
        opened, tried = self._files.open(path, Origin.PATH) if path else self._no_path()
        trail.add(tried)
        return opened

    def _no_path(self) -> tuple[None, Attempt]:
        self._files.errno = "ENOENT"
        return None, Attempt(Origin.PATH, "", Outcome.SKIPPED, detail="a token in it has no value")

    def _by_name(self, name: bytes, requester: Mapped, program: Mapped, trail: Trail, *, secure_only: bool) -> Opened | None:
        # DT_RPATH of the requester, of who asked for it, and so on up; then of the program (G10.1).
        if requester.facts.runpath is None:
            owner: Mapped | None = requester
            did_program = False
            while owner is not None:
                self._note_dropped_rpath(owner, trail)
                listed = self._rpath(owner)
                if listed:
                    opened = self._open_path(name, listed, Origin.RPATH, owner, requester, trail, secure_only)
                    if opened is not None:
                        return opened
                    did_program |= owner is program
                owner = owner.loader
            if not did_program and self._rpath(program):
                opened = self._open_path(name, self._rpath(program), Origin.RPATH, program, requester, trail, secure_only)
                if opened is not None:
                    return opened
        else:
            why = "DT_RUNPATH is set" if requester.facts.runpath else "DT_RUNPATH is set, if empty"
            trail.skip(Origin.RPATH, why)

        # LD_LIBRARY_PATH (G10.2).
        if self._environment_why:
            trail.skip(Origin.LIBRARY_PATH, self._environment_why)
        opened = self._open_path(name, self._environment, self._options.library_path_source, None, requester, trail, secure_only)
        if opened is not None:
            return opened

        # DT_RUNPATH of the requester alone (G10.3).
        opened = self._open_path(name, self._runpath(requester), Origin.RUNPATH, None, requester, trail, secure_only)
        if opened is not None:
            return opened

        # /etc/ld.so.cache (G10.4).
        nodeflib = bool(requester.facts.dt_flags_1 & DF_1_NODEFLIB)
        if secure_only:
            trail.skip(Origin.CACHE, "the program runs with raised privileges")
        elif self._options.inhibit_cache:
            trail.skip(Origin.CACHE, "--inhibit-cache is given")
        else:
            opened = self._by_cache(name, nodeflib, trail)
            if opened is not None:
                return opened

        # The directories compiled in (G10.5).
        if nodeflib:
            trail.skip(Origin.SYSTEM, f"{self._who(requester)} is linked with -z nodefaultlib")
            return None
        return self._open_path(name, self.system, Origin.SYSTEM, None, requester, trail, secure_only)

    def _who(self, owner: Mapped) -> str:
        if owner.name:
            return show(owner.name)
        return show_path(owner.node.path) if owner.node is not None else "the program"

    def _note_dropped_rpath(self, owner: Mapped, trail: Trail) -> None:
        if owner.facts.rpath and owner.facts.runpath is not None:
            trail.skip(Origin.RPATH, "dropped, since the object has DT_RUNPATH too", self._who(owner))

    # -- dl-load.c open_path --

    def _open_path(
        self,
        name: bytes,
        listed: list[int],
        origin: str,
        owner: Mapped | None,
        requester: Mapped,
        trail: Trail,
        secure_only: bool,
    ) -> Opened | None:
        whose = self._who(owner) if owner is not None and owner is not requester else ""
        for number in listed:
            directory = self._all[number]
            here_any = False
            for index, capability in enumerate(self.capabilities):
                if directory.status[index] == _NONEXISTING:
                    continue
                path = directory.name + capability + name
                opened, tried = self._files.open(path, origin, whose)
                if directory.status[index] == _UNKNOWN:
                    found = opened is not None or self._files.stat_directory(self._tested(directory.name + capability))
                    directory.status[index] = _EXISTING if found else _NONEXISTING
                here_any |= directory.status[index] != _NONEXISTING
                if opened is not None and secure_only and not opened.node.entry.mode & 0o4000:
                    # Preloads of a privileged program must be marked set-uid themselves (G22).
                    self._files.errno = "ENOENT"
                    tried = Attempt(tried.origin, tried.path, Outcome.SKIPPED, whose, "not set-uid", tried.layer)
                    opened = None
                if not capability or tried.outcome is not Outcome.ABSENT or self._there(directory, index):
                    trail.add(tried)
                if opened is not None:
                    return opened
            if directory.status[-1] == _NONEXISTING and not here_any:
                self._note_nonexisting(directory, origin, whose, name, trail)
            if here_any and self._files.errno not in self._continues:
                trail.skip(Origin(origin) if origin in set(Origin) else Origin.LIBRARY_PATH, "the error ends this list", whose)
                return None
        return None

    def _tested(self, directory: bytes) -> bytes:
        """What stat is asked for: up to 2.37 without the slash, which makes nothing of `/` itself."""
        return directory if self._release >= (2, 38) else directory[:-1]

    @property
    def _continues(self) -> tuple[str, ...]:
        return ("ENOENT", "EACCES", "ENOTDIR") if self._release >= (2, 39) else ("ENOENT", "EACCES")

    def _there(self, directory: Directory, index: int) -> bool:
        return bool(directory.name) and directory.name.startswith(b"/") and directory.status[index] == _EXISTING

    def _note_nonexisting(self, directory: Directory, origin: str, whose: str, name: bytes, trail: Trail) -> None:
        """A directory known to be absent is not looked into again; the record says so all the same."""
        if trail.last_path() != show(directory.name + name):
            trail.add(Attempt(origin, show(directory.name + name), Outcome.ABSENT, whose, "there is no such directory"))

    # -- dl-cache.c --

    def _by_cache(self, name: bytes, nodeflib: bool, trail: Trail) -> Opened | None:
        if self._cache_refusal is None:
            self._load_cache()
        if self._cache is None:
            trail.skip(Origin.CACHE, self._cache_refusal or "")
            return None
        cache, accepts = self._cache, self._accepts
        hit = self._process.rootfs.remember(
            ("ld.so.cache", self._cache_key, name, accepts), lambda: ldcache.look_up(cache, name, accepts)
        )
        if hit.path is None:
            why = f"its {hit.passed} entries of that name are not for this host" if hit.passed else "no entry of that name"
            trail.skip(Origin.CACHE, why)
            return None
        if nodeflib and any(hit.path.startswith(each) for each in self._said.system_dirs):
            trail.skip(Origin.CACHE, f"{show(hit.path)} lies in a default directory, which -z nodefaultlib excludes")
            return None
        opened, tried = self._files.open(hit.path, Origin.CACHE)
        trail.add(tried)
        return opened

    def _load_cache(self) -> None:
        """Read once; whatever is wrong with it, it is ignored without a word (G36)."""
        path = self._said.cache_path
        self._cache_refusal = "this loader has none"
        if not path:
            return
        process = self._process
        found = process.rootfs.resolve(path, creds=process.creds)
        if found.unknown:
            raise Undecided(f"a layer that was not wholly read may hold {show_path(path)}")
        node = found.node
        if node is None:
            self._files.errno = found.error
            told = attempt(process.rootfs, Origin.CACHE, path, found)
            self._cache_refusal = f"{show(path)}: {told.outcome}" + (f", {told.detail}" if told.detail else "")
            return
        if not process.rootfs.may_read(node, process.creds):
            self._files.errno = "EACCES"
            self._cache_refusal = f"{show(path)} may not be read by the user"
            return
        data = process.rootfs.text(node)
        if data is None and node.entry.size:
            if process.rootfs.elf(node) is None:
                raise Undecided(f"{show_path(node.path)} was not read")
            data = b"\x7fELF"  # its text was not kept, but no cache begins so
        self._cache_key = node.path
        little = self._little
        self._cache, why = process.rootfs.remember(
            ("ld.so.cache", node.path, little), lambda: ldcache.read_cache(data or b"", little=little)
        )
        self._cache_refusal = f"{show(path)} is ignored: {why}" if self._cache is None else ""
