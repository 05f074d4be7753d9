"""The facts learned from a layer: what stands in it, and what its ELF files say of themselves.

Data only. Facts say nothing about other layers and nothing about verdicts. Every Struct that is
stored is `array_like`: fields may be appended with a default, never reordered or removed without
raising the version of the reader that fills them (see catalog.py).

Image paths are bytes, relative to the image root, cleaned, without a leading slash: b"usr/bin/env";
the root itself is b"". They are turned into text only for people (see finding.show).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from analyzers.entries import Entries
    from analyzers.jar_facts import JarFacts


class Kind(enum.IntEnum):
    """What a path is. Whiteouts are not entries: LayerFacts lists them on their own."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    HARDLINK = 3
    CHARACTER_DEVICE = 4
    BLOCK_DEVICE = 5
    FIFO = 6


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One path of one layer, as its last tar member left it."""

    path: bytes
    kind: Kind
    mode: int
    """Permission and set-id bits, 0o7777 at most; no file-type bits."""
    uid: int
    gid: int
    size: int
    """Bytes of content; 0 for everything but FILE."""
    link: bytes = b""
    """SYMLINK: the target exactly as written. HARDLINK: the target's cleaned path inside the root."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device."""
    capability: bytes = b""
    """Raw `security.capability` extended attribute; empty when there is none."""
    sha256: bytes = b""
    """Digest of the content, 32 bytes, for ELF files and files over the floor; else empty."""


class Segment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One program header, its numbers unchecked. `type` is p_type, `flags` is p_flags."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int


class VersionNeed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One DT_VERNEED auxiliary record: `version` is wanted from the object known as `file`."""

    file: bytes
    version: bytes
    weak: bool = False
    """VER_FLG_WEAK: absence is not an error."""
    index: int = 0
    """vna_other: the version index symbols of this object refer to."""


class VersionDefinition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One DT_VERDEF record. `base` marks VER_FLG_BASE, the name of the file itself."""

    version: bytes
    index: int
    base: bool = False


class LoaderFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is compiled into a dynamic loader (or into musl's libc), read from its own bytes (G2, M61)."""

    family: str
    """`glibc`, `musl`, `gcompat`, `bionic`, `uclibc` or `unknown`; decided by content (G1)."""
    version: str = ""
    """Release such as `2.36` or `1.2.5`; empty when the file does not say."""
    system_dirs: tuple[bytes, ...] = ()
    """glibc's built-in directories in search order, each with its trailing slash."""
    cache_path: bytes = b""
    """Absolute path of ld.so.cache as compiled in; empty when there is none."""
    preload_path: bytes = b""
    lib_token: bytes = b""
    """Value of $LIB, such as b"lib/x86_64-linux-gnu" or b"lib64"."""
    path_file: bytes = b""
    """musl's path file as compiled in, without the prefix: b"/etc/ld-musl-x86_64.path" (M6)."""
    linker: bytes = b""
    """gcompat: the musl loader it hands over to (M52)."""
    preloaded: bytes = b""
    """gcompat: the library it has preloaded."""
    loader_name: bytes = b""
    """gcompat: the name it gives the musl loader, that of glibc's."""
    hwcaps: tuple[bytes, ...] = ()
    """glibc: sub-directories of glibc-hwcaps that it knows, best first; empty where it knows none (G41)."""


class GoBuild(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What Go's linker writes of a build (R41): as `go version -m` shows it."""

    version: bytes
    """Toolchain, such as b"go1.22.3"."""
    path: bytes = b""
    """Package path of main."""
    module: bytes = b""
    """Path and version of the main module, a blank between them."""
    settings: tuple[tuple[bytes, bytes], ...] = ()
    """Build settings such as (b"CGO_ENABLED", b"1"), (b"-tags", b"netgo"), in their order; none before Go 1.18."""


class ElfFacts(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One ELF file by its program headers and dynamic section; section headers are a hint about size only.

    Exists for every regular file whose first four bytes are the ELF magic, however broken the rest.
    What could not be read is named in `defects`; the numbers of the header are kept as they stand so
    that the kernel's and the loaders' own checks can be repeated on them.
    """

    # header, exactly as stored
    file_size: int
    ident: bytes
    """e_ident, 16 bytes (shorter when the file is)."""
    bits: int
    """32 or 64 by EI_CLASS; 0 when EI_CLASS is neither."""
    little: bool
    type: int = 0
    machine: int = 0
    version: int = 0
    entry: int = 0
    flags: int = 0
    ehsize: int = 0
    phoff: int = 0
    phentsize: int = 0
    phnum: int = 0
    segments: tuple[Segment, ...] = ()
    """Program headers that could be read, in file order (at most 65,535)."""
    # what the program headers lead to
    interp: bytes | None = None
    """Bytes of the first PT_INTERP up to its first NUL; None without PT_INTERP."""
    interp_terminated: bool = True
    """Whether the last byte of PT_INTERP is NUL (K14)."""
    interp_size: int = 0
    """p_filesz of the first PT_INTERP."""
    # dynamic section
    dynamic: bool = False
    """A non-empty PT_DYNAMIC was read."""
    soname: bytes | None = None
    needed: tuple[bytes, ...] = ()
    rpath: bytes | None = None
    """DT_RPATH string, not split; None when the tag is absent (G12 tells empty from absent)."""
    runpath: bytes | None = None
    dt_flags: int = 0
    dt_flags_1: int = 0
    bind_now: bool = False
    """DT_BIND_NOW present (DF_BIND_NOW and DF_1_NOW are in the flags)."""
    symbolic: bool = False
    textrel: bool = False
    filters: tuple[bytes, ...] = ()
    auxiliaries: tuple[bytes, ...] = ()
    audits: tuple[bytes, ...] = ()
    dep_audits: tuple[bytes, ...] = ()
    verneed: tuple[VersionNeed, ...] = ()
    verdef: tuple[VersionDefinition, ...] = ()
    verneed_version: int = 1
    """First vn_version that is not 1, else 1 (G43)."""
    verdef_version: int = 1
    has_versym: bool = False
    has_gnu_hash: bool = False
    has_sysv_hash: bool = False
    has_relr: bool = False
    relocation_types: tuple[int, ...] = ()
    """Distinct relocation types outside DT_JMPREL, sorted."""
    plt_relocation_types: tuple[int, ...] = ()
    tags: tuple[tuple[int, int], ...] = ()
    """Every (d_tag, d_val) in order, at most 8,192; the rest of the fields are read from them."""
    # notes
    gnu_stack_executable: bool | None = None
    """PT_GNU_STACK has X; None when the header is absent."""
    tls: tuple[int, int] | None = None
    """(p_memsz, p_align) of PT_TLS."""
    abi_tag: tuple[int, int, int, int] | None = None
    """NT_GNU_ABI_TAG: os, then the oldest kernel as three numbers."""
    build_id: bytes = b""
    x86_isa_needed: int = 0
    """GNU property 0xc0008002: 1 baseline, 2 v2, 4 v3, 8 v4 (G50)."""
    dlopen_notes: tuple[bytes, ...] = ()
    """Payloads (JSON text) of FDO .note.dlopen notes (R42)."""
    go_build_info: bool = False
    static_libc: str = ""
    """`glibc` or `musl` when a static program carries one, else empty (R40)."""
    loader: LoaderFacts | None = None
    """Set where the file is a dynamic loader."""
    libc_version: str = ""
    """Release string of a glibc libc.so.6 ("2.36"); empty for everything else."""
    exports_libc_start: bool = False
    """Exports both __libc_start_main and stdin (M13)."""
    defects: tuple[str, ...] = ()
    """Named defects such as `truncated-header`, `bad-dynamic:DT_STRTAB`, `needed-limit`; sorted."""
    text_relocations: bool = False
    """Says DT_TEXTREL or DF_TEXTREL, and some relocation does write into a segment without write permission."""
    debug_bytes: int = 0
    """Bytes of debug information by the section headers, cut to the file: a hint about size, never more."""
    symbol_bytes: int = 0
    """The same of the symbol table that only debuggers read, with its names."""
    go_build: GoBuild | None = None
    """Content of Go's build information where it stands in the file itself (since Go 1.18)."""
    static_marks: tuple[str, ...] = ()
    """Of a static program: what texts compiled into it tell of its needs (elf/marks.py), sorted."""


class SymbolFlag(enum.IntFlag):
    """Bits of SymbolFacts.import_flags and export_flags."""

    WEAK = 1
    TLS = 2
    # imports
    START = 4
    """Import: bound before the entry point by data relocations, whatever the binding mode (G52)."""
    CALL = 8
    """Import: has a JUMP_SLOT relocation, bound lazily under glibc unless the object is marked now."""
    COPY = 16
    # exports
    HIDDEN_VERSION = 32
    """Export: DT_VERSYM has the hidden bit (`sym@V`, not `sym@@V`)."""
    IFUNC = 64
    LOW_INDEX = 128
    """Export: version index 0, 1 or 2 (G48: accepted by unversioned references even if hidden)."""
    VALUELESS = 4
    """Export: SHN_ABS with value 0, which glibc finds and musl does not (the bit of START means this on exports)."""


class SymbolFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The dynamic symbols of one ELF file, columnar, kept apart because they are bulky.

    Names are joined by NUL; versions are u16 little-endian indexes into `versions`, whose item 0 is
    b"" (no version); flags are SymbolFlag, one byte each. Exports are defined, GLOBAL, WEAK or
    GNU_UNIQUE, not hidden or internal, and reachable through a hash table (G47).
    """

    versions: tuple[bytes, ...] = (b"",)
    import_names: bytes = b""
    import_versions: bytes = b""
    import_flags: bytes = b""
    export_names: bytes = b""
    export_versions: bytes = b""
    export_flags: bytes = b""
    plt_names: bytes = b""
    """Undefined functions whose value is their PLT entry: they satisfy references that are not PLT's (G47, M23)."""
    hidden_names: bytes = b""
    """Defined with hidden or internal visibility and yet reachable: musl does not look at visibility (M23)."""
    own_names: bytes = b""
    """Symbols that the object defines and relocates but that no lookup finds in it: IFUNC, `sym@V`, without a hash."""
    relocation_kinds: tuple[int, ...] = ()
    """Types of the runs below, at most 255."""
    relocation_symbols: bytes = b""
    """Runs of relocations in the order DT_JMPREL, DT_REL, DT_RELA (on MIPS the global GOT first), u32 each: 0 when the lookup
    cannot fail, else one more than the position among the imports and, behind them, `own_names`. Empty in a file with more
    than a million runs."""
    relocation_kind_indexes: bytes = b""
    """Index into `relocation_kinds`, one byte a run."""
    relocation_counts: bytes = b""
    """Relocations of each run, u32."""
    relocation_plt_runs: int = 0
    """How many of the runs come from DT_JMPREL."""


class Unread(msgspec.Struct, frozen=True, array_like=True):
    """A file that a reader wanted and could not read whole: the layer is then PARTIAL."""

    path: bytes
    reason: str
    """`elf-too-large`, `deadline`, `text-too-large`, ... (docs/hostile.md)."""


class LayerNote(msgspec.Struct, frozen=True, array_like=True):
    """Something odd that did not stop the reading: becomes a finding of the image."""

    code: str
    """`path-escape`, `duplicate-entry`, `ambiguous-name`, `global-pax`, `trailing-data`, ..."""
    path: bytes = b""
    detail: str = ""


class Coverage(enum.StrEnum):
    """How much of the layer was seen."""

    FULL = "full"
    PARTIAL = "partial"


class Verified(enum.StrEnum):
    """How the bytes were vouched for: hashed as they streamed, by a table of contents, or locally."""

    STREAM = "stream"
    TOC = "toc"
    LOCAL = "local"


class LayerFacts:
    """All that is known of one layer. Identity: (diff ID, facts version, coverage, verified).

    Not a Struct: it is built by layer.LayerReader or wire.unpack, and its sections may be absent
    (`symbols` is None) when the caller did not ask for them.
    """

    __slots__ = (
        "classes", "coverage", "diff_id", "elf", "entries", "heads", "jars", "notes", "opaques", "packages", "scripts",
        "size_bytes",
        "symbols", "texts", "unread", "verified", "whiteouts",
    )  # fmt: skip

    def __init__(
        self,
        *,
        diff_id: str,
        size_bytes: int,
        entries: Entries,
        whiteouts: tuple[bytes, ...] = (),
        opaques: tuple[bytes, ...] = (),
        elf: dict[bytes, ElfFacts] | None = None,
        symbols: dict[bytes, SymbolFacts] | None = None,
        texts: dict[bytes, bytes] | None = None,
        heads: dict[bytes, bytes] | None = None,
        jars: dict[bytes, JarFacts] | None = None,
        classes: dict[bytes, bytes] | None = None,
        packages: dict[bytes, bytes] | None = None,
        scripts: dict[bytes, bytes] | None = None,
        unread: tuple[Unread, ...] = (),
        notes: tuple[LayerNote, ...] = (),
        coverage: Coverage = Coverage.FULL,
        verified: Verified = Verified.STREAM,
    ) -> None:
        self.diff_id = diff_id
        """`sha256:...` of the uncompressed tar, computed by us."""
        self.size_bytes = size_bytes
        self.entries = entries
        """Normalised: unique paths, none below a symlink or a file of the same layer."""
        self.whiteouts = whiteouts
        """Sorted paths that this layer removes from the layers below (spec: never its own)."""
        self.opaques = opaques
        """Sorted directories whose lower content this layer hides."""
        self.elf = elf or {}
        """Structural ELF facts by content sha256 (Entry.sha256)."""
        self.symbols = symbols
        """Symbols by content sha256; None when the section was not asked for."""
        self.texts = texts or {}
        """Whole content of the few text files that rules need, by path (readers.py names them)."""
        self.heads = heads or {}
        """First 256 bytes of regular files that begin with `#!`, by path."""
        self.jars = jars or {}
        """Facts of jars by content sha256 (Entry.sha256)."""
        self.classes = classes or {}
        """Bytes 4 to 7 of class files that lie outside jars, by path (jar_facts.class_version)."""
        self.packages = packages or {}
        """From the package databases: file name of a shared library to the package that brought it (packages.py)."""
        self.scripts = scripts or {}
        """Whole text of shell scripts and of files that they read, by path, as far as they are kept (limits.py). One that is
        not kept makes the layer no less whole: what follows a script says so.
        """
        self.unread = unread
        self.notes = notes
        self.coverage = coverage
        self.verified = verified
