"""What differs from one machine to the next in glibc's loader: cache flags, hardware sub-directories, which files fit.

Tables only (rules A4, G32, G37, G41, G42, G52); mirrors `sysdeps/*/dl-cache.h`, `dl-hwcaps.c`, `dl-machine.h`.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.facts import ElfFacts

EM_386, EM_486, EM_MIPS, EM_MIPS_RS3, EM_PPC, EM_PPC64, EM_S390, EM_ARM = 3, 6, 8, 10, 20, 21, 22, 40
EM_SPARCV9, EM_IA64, EM_X86_64, EM_AARCH64, EM_RISCV, EM_LOONGARCH = 43, 50, 62, 183, 243, 258
ARM_HARD, ARM_SOFT = 0x400, 0x200
MIPS_ABI2, MIPS_NAN2008, MIPS_FP64 = 0x20, 0x400, 0x200
RISCV_FLOAT, PPC64_ABI = 0x6, 0x3

ELF_LIBC6 = 0x0003


class Machine(NamedTuple):
    """One loader's view of its host."""

    cache_flags: tuple[int, ...]
    """Accepted flags of cache entries, its own first (G37)."""
    hwcaps: tuple[bytes, ...] = ()
    """Sub-directories of glibc-hwcaps, best first, whether this host has them or not."""
    platform: bytes | None = None
    """$PLATFORM, from the kernel's AT_PLATFORM; None where the kernel names none."""
    legacy: tuple[bytes, ...] = ()
    """Names that made legacy sub-directories up to 2.36, the least important first; `tls` comes on top."""
    extra_osabi: int = 0


X86_HWCAPS = (b"x86-64-v4", b"x86-64-v3", b"x86-64-v2")
POWER_HWCAPS = (b"power10", b"power9")
S390_HWCAPS = (b"z17", b"z16", b"z15", b"z14", b"z13")


def machine_of(loader: ElfFacts) -> Machine:
    """The machine that a loader was built for, by its own header (A4)."""
    wide, flags = loader.bits == 64, loader.flags
    match loader.machine:
        case 62:
            if wide:
                return Machine((0x0303,), X86_HWCAPS, b"x86_64", (b"x86_64", b"x86_64"))
            return Machine((0x0803,), X86_HWCAPS, b"x86_64", (b"x86_64", b"x86_64"))
        case 3 | 6:
            return Machine((ELF_LIBC6, 0x0001), (), b"i686", (b"sse2", b"i686"))
        case 183:
            return Machine((0x0A03,), (), b"aarch64", (b"atomics", b"aarch64"))
        case 40:
            own = 0x0B03 if flags & ARM_SOFT and not flags & ARM_HARD else 0x0903
            return Machine((own, ELF_LIBC6), (), b"v7l", (b"vfp", b"neon", b"v7l"), extra_osabi=64)
        case 21:
            return Machine((0x0503,), POWER_HWCAPS if loader.little else (), None)
        case 22:
            return Machine((0x0403,), S390_HWCAPS, None) if wide else Machine((ELF_LIBC6, 0x0001))
        case 243:
            return Machine((0x1003 if flags & RISCV_FLOAT == 4 else 0x0F03,))
        case 258:
            return Machine((0x1103 if flags & 7 == 1 else 0x1203,), (), b"loongarch")
        case 8 | 10:
            return Machine((_mips_flags(loader),))
        case 43 if wide:
            return Machine((0x0103,))
        case 50:
            return Machine((0x0203,))
    return Machine((ELF_LIBC6, 0x0001))


def _mips_flags(loader: ElfFacts) -> int:
    newer = bool(loader.flags & MIPS_NAN2008)
    if loader.bits == 64:
        return 0x0E03 if newer else 0x0703
    if loader.flags & MIPS_ABI2:
        return 0x0D03 if newer else 0x0603
    return 0x0C03 if newer else ELF_LIBC6


def fits(loader: ElfFacts, facts: ElfFacts) -> bool:
    """elf_machine_matches_host, after class and byte order were found equal (G32)."""
    machine, flags = facts.machine, facts.flags
    match loader.machine:
        case 21:
            wanted = loader.flags & PPC64_ABI or (2 if loader.little else 1)
            return machine == EM_PPC64 and flags & PPC64_ABI in (0, wanted)
        case 22:
            return machine in (EM_S390, 0xA390)
        case 243:
            return machine == EM_RISCV and flags & RISCV_FLOAT == loader.flags & RISCV_FLOAT
        case 40:
            # Upstream calls the opposite float ABI an internal error; Debian passes it over (open point 3).
            return (
                machine == EM_ARM
                and not (flags & ARM_HARD and loader.flags & ARM_SOFT)
                and not (flags & ARM_SOFT and loader.flags & ARM_HARD)
            )
        case 8 | 10:
            return (
                machine in (EM_MIPS, EM_MIPS_RS3)
                and flags & MIPS_ABI2 == loader.flags & MIPS_ABI2
                and flags & MIPS_NAN2008 == loader.flags & MIPS_NAN2008
                and not flags & MIPS_FP64
            )
        case 3 | 6:
            return machine == EM_386
    return machine == loader.machine


# Relocation types that dl-machine.h knows, and those that may wait in DT_JMPREL; other machines are not judged by them.
_RELOCATIONS: dict[int, tuple[frozenset[int], frozenset[int]]] = {
    EM_X86_64: (frozenset((0, 1, 2, 5, 6, 7, 8, 10, 16, 17, 18, 32, 33, 36, 37, 38)), frozenset((7, 36, 37))),
    EM_386: (frozenset((0, 1, 2, 5, 6, 7, 8, 14, 35, 36, 37, 38, 41, 42)), frozenset((7, 41, 42))),
    EM_AARCH64: (frozenset((0, 256, 257, 258, *range(1024, 1033))), frozenset((1026, 1031, 1032))),
}


def unknown_relocation(facts: ElfFacts, *, now: bool) -> bytes:
    """_dl_reloc_bad_type's words for a relocation that the loader does not know; empty when it knows all (G52)."""
    if facts.machine not in _RELOCATIONS:
        return b""
    known, waiting = _RELOCATIONS[facts.machine]
    for types, allowed, words in (
        (facts.relocation_types, known, b"unexpected reloc type 0x"),
        (
            facts.plt_relocation_types,
            known if now else waiting,
            b"unexpected reloc type 0x" if now else b"unexpected PLT reloc type 0x",
        ),
    ):
        for kind in types:
            if kind not in allowed:
                return words + (b"%08x" if kind > 0xFF and facts.bits == 64 else b"%02x") % kind
    return b""


def x86_isa(level: int) -> int:
    """Bits of GNU_PROPERTY_X86_ISA_1 that a CPU of this level has."""
    return (1 << level) - 1


def active_hwcaps(machine: Machine, names: tuple[bytes, ...], x86_level: int) -> tuple[bytes, ...]:
    """Of the sub-directories the loader knows (`names`, best first) those that the host can use (G41).

    Only the x86-64 level is a fact of the profile; other machines are taken at their baseline.
    """
    if machine.hwcaps == X86_HWCAPS:
        return tuple(name for name in names if name[-1:].isdigit() and int(name[-1:]) <= x86_level)
    return ()


def legacy_directories(machine: Machine) -> list[bytes]:
    """The power set of `_dl_important_hwcaps`: all names first, none last, each with its slashes (G42)."""
    names = (*machine.legacy, b"tls")
    found = []
    for mask in range((1 << len(names)) - 1, -1, -1):
        parts = [names[bit] for bit in range(len(names) - 1, -1, -1) if mask >> bit & 1]
        found.append(b"".join(part + b"/" for part in parts))
    return found
