"""Small x86-64 shared objects and programs made without a compiler, for tests that need many different ones.

They are well formed and real loaders load them. A program exits with 42 at its entry point; a library's functions are never
called. Everything a loader looks at can be asked for: symbols of any binding, type and version bit, relocations of any type,
either hash table, run paths, thread-local storage.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

PAGE = 4096
EXIT_42 = bytes.fromhex("bf2a000000b8e70000000f05")
"""mov edi,42; mov eax,231; syscall: exit_group(42)."""
LOCAL, GLOBAL, WEAK = 0, 1, 2
NOTYPE, OBJECT, FUNC, TLS, IFUNC = 0, 1, 2, 6, 10
R_64, R_PC32, R_COPY, R_GLOB_DAT, R_JUMP_SLOT, R_RELATIVE = 1, 2, 5, 6, 7, 8
R_DTPMOD, R_DTPOFF, R_TPOFF, R_TLSDESC, R_IRELATIVE = 16, 17, 18, 36, 37
_HIDDEN_VERSION = 0x8000
_EXEC_BASE = 0x400000


class Symbol(msgspec.Struct, frozen=True):
    """One dynamic symbol. `value`: undefined where None; an address is chosen for everything else that is not TLS or ABS."""

    name: str
    defined: bool = True
    bind: int = GLOBAL
    type: int = FUNC
    version: int = 1
    """DT_VERSYM entry without its hidden bit; only where the object has versions."""
    hidden_version: bool = False
    visibility: int = 0
    absolute: int | None = None
    """Value of an SHN_ABS symbol."""
    plt: bool = False
    """Undefined, yet with an address: the PLT entry of a program of fixed address."""


class Relocation(msgspec.Struct, frozen=True):
    """`symbol` is a name of the object's symbols, or empty."""

    type: int
    symbol: str = ""


class Elf(msgspec.Struct, frozen=True, kw_only=True):
    """What to make."""

    needed: tuple[str, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    relocations: tuple[Relocation, ...] = ()
    """JUMP_SLOTs go to DT_JMPREL, the others to DT_RELA."""
    interp: str | None = None
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    hashes: str = "both"
    """`gnu`, `sysv`, `both` or `none`."""
    versions: bool = False
    """Whether there is a DT_VERSYM."""
    machine: int = 62
    type: int = 3
    flags_1: int = 0


def build(elf: Elf) -> bytes:
    """The file: one page or more of tables, one of code, one or more of data."""
    base = _EXEC_BASE if elf.type == 2 else 0
    strings = _Strings()
    undefined = [each for each in elf.symbols if not each.defined and not each.plt]
    hashed = [each for each in elf.symbols if each.defined or each.plt]
    buckets = max(1, len(hashed) // 2)
    hashed.sort(key=lambda each: gnu_hash(each.name.encode()) % buckets)
    symbols = [*undefined, *hashed]
    index = {each.name: at for at, each in reversed([*enumerate(symbols, 1)])}
    thread_local = any(each.type == TLS and each.defined for each in symbols)
    name_at = {each.name: strings.add(each.name) for each in symbols}

    count = 5 + bool(elf.interp) + thread_local
    head = bytearray(64 + 56 * count)
    places: dict[str, int] = {}

    def put(label: str, data: bytes) -> int:
        head.extend(bytes(-len(head) % 8))
        places[label] = len(head)
        head.extend(data)
        return places[label]

    if elf.interp is not None:
        put("interp", elf.interp.encode() + b"\0")
    tags = [(1, strings.add(name)) for name in elf.needed]
    for tag, text in ((14, elf.soname), (15, elf.rpath), (29, elf.runpath)):
        if text is not None:
            tags.append((tag, strings.add(text)))
    if elf.hashes in ("gnu", "both"):
        tags.append((0x6FFFFEF5, base + put("gnu", _gnu_table(hashed, len(undefined) + 1, buckets))))
    if elf.hashes in ("sysv", "both"):
        tags.append((4, base + put("sysv", _sysv_table([each.name for each in symbols]))))
    if elf.versions:
        words = [0, *(each.version | (_HIDDEN_VERSION if each.hidden_version else 0) for each in symbols)]
        tags.append((0x6FFFFFF0, base + put("versym", struct.pack(f"<{len(words)}H", *words))))
    # Sizes are known before contents: symbols and relocations hold addresses of what comes behind.
    put("symtab", bytes(24 * (len(symbols) + 1)))
    plt = [each for each in elf.relocations if each.type == R_JUMP_SLOT]
    rest = [each for each in elf.relocations if each.type != R_JUMP_SLOT]
    put("jmprel", bytes(24 * len(plt)))
    put("rela", bytes(24 * len(rest)))
    tags += [(5, base + put("strtab", bytes(strings.data))), (10, len(strings.data)), (6, base + places["symtab"]), (11, 24)]
    if plt:
        tags += [(23, base + places["jmprel"]), (2, 24 * len(plt)), (20, 7)]
    if rest:
        tags += [(7, base + places["rela"]), (8, 24 * len(rest)), (9, 24)]
    if elf.flags_1:
        tags.append((0x6FFFFFFB, elf.flags_1))
    code_at = -(-len(head) // PAGE) * PAGE
    data_at = code_at + PAGE
    dynamic = b"".join(struct.pack("<QQ", *pair) for pair in [*tags, (0, 0)])
    slots_at = data_at + len(dynamic) + 64
    data_size = len(dynamic) + 64 + 16 * len(elf.relocations) + 64

    table = bytearray(24)
    for at, each in enumerate(symbols):
        section, value = 0, 0
        if each.plt:
            value = base + code_at + 16
        elif each.absolute is not None:
            section, value = 0xFFF1, each.absolute
        elif each.defined:
            section = 1
            value = 8 if each.type == TLS else base + (data_at + len(dynamic) if each.type == OBJECT else code_at + 32 + 4 * at)
        info = each.bind << 4 | each.type
        table += struct.pack("<IBBHQQ", name_at[each.name], info, each.visibility, section, value, 8)
    head[places["symtab"] : places["symtab"] + len(table)] = table
    slot = base + slots_at
    for label, relocations in (("jmprel", plt), ("rela", rest)):
        for at, each in enumerate(relocations):
            addend = base + data_at if each.type in (R_RELATIVE, R_IRELATIVE) else 0
            info = index[each.symbol] << 32 | each.type if each.symbol else each.type
            struct.pack_into("<QQq", head, places[label] + 24 * at, slot, info, addend)
            slot += 16

    total = data_at + data_size
    segments = [(6, 4, 64, base + 64, 56 * count, 56 * count, 8)]
    if elf.interp is not None:
        segments.append((3, 4, places["interp"], base + places["interp"], len(elf.interp) + 1, len(elf.interp) + 1, 1))
    segments += [
        (1, 4, 0, base, len(head), len(head), PAGE),
        (1, 5, code_at, base + code_at, PAGE, PAGE, PAGE),
        (1, 6, data_at, base + data_at, data_size, data_size, PAGE),
        (2, 6, data_at, base + data_at, len(dynamic), len(dynamic), 8),
    ]
    if thread_local:
        segments.append((7, 4, data_at, base + data_at, 16, 16, 8))
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = base + code_at
    head[:64] = ident + struct.pack("<HHIQQQIHHHHHH", elf.type, elf.machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    for at, (kind, flags, offset, address, filesz, memsz, align) in enumerate(segments):
        struct.pack_into("<IIQQQQQQ", head, 64 + 56 * at, kind, flags, offset, address, address, filesz, memsz, align)
    file = head.ljust(code_at, b"\0") + EXIT_42.ljust(PAGE, b"\xc3") + dynamic
    return bytes(file.ljust(total, b"\0"))


class _Strings:
    """A string table; every string stands in it once."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self.known: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self.known[text]


def gnu_hash(name: bytes) -> int:
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def _gnu_table(hashed: Sequence[Symbol], first: int, buckets: int) -> bytes:
    """`hashed` in the order of their buckets; one word of filter."""
    hashes = [gnu_hash(each.name.encode()) for each in hashed]
    bloom = 0
    starts = [0] * buckets
    chain = []
    for at, value in enumerate(hashes):
        bloom |= 1 << value % 64 | 1 << (value >> 6) % 64
        bucket = value % buckets
        starts[bucket] = starts[bucket] or first + at
        last = at + 1 == len(hashes) or hashes[at + 1] % buckets != bucket
        chain.append(value & ~1 | last)
    return struct.pack(f"<4IQ{buckets}I{len(chain)}I", buckets, first, 1, 6, bloom, *starts, *chain)


def _sysv_table(names: Sequence[str]) -> bytes:
    """One bucket: every lookup goes through all symbols."""
    count = len(names) + 1
    chain = [0, *range(2, count), 0][:count] if count > 1 else [0]
    return struct.pack(f"<3I{count}I", 1, count, 1 if count > 1 else 0, *chain)
