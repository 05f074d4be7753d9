"""What is known of a jar: its manifest, its classes and their versions, the jars inside it, and its native libraries.

Data only, as in facts.py. A jar is known by the digest of its bytes; names inside it are entry names as written.
"""

from __future__ import annotations

import msgspec

from analyzers.facts import VersionNeed


class NativeLibrary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A library inside a jar, as its ELF headers have it; a program writes it to a file and loads it (R6)."""

    name: bytes
    """Entry name in the jar that holds it."""
    size: int
    bits: int
    machine: int
    soname: bytes | None = None
    needed: tuple[bytes, ...] = ()
    verneed: tuple[VersionNeed, ...] = ()
    little: bool = True
    sysv: bool = True
    """Its OSABI byte is that of System V or Linux, not of FreeBSD or another."""


class JarFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One jar, war or ear, by its central directory."""

    size: int
    name: bytes = b""
    """Entry name of a nested jar; empty for one that is a file."""
    manifest: bool = False
    """There is a META-INF/MANIFEST.MF that could be read. One that is written oddly has no attributes here."""
    odd_manifest: bool = False
    """The manifest departs from the jar specification: the JVM may refuse it, so nothing is claimed of it."""
    main_class: bytes | None = None
    """Main-Class, blanks around it removed; None when the attribute is absent."""
    start_class: bytes = b""
    """Start-Class of Spring Boot: what its launcher starts in turn (R5)."""
    class_path: tuple[bytes, ...] = ()
    multi_release: bool = False
    module: bool = False
    """Has a module-info.class at its root."""
    newest: int = 0
    """Highest major version of its classes; versioned directories of multi-release jars and module-info are left out (R5)."""
    newest_class: bytes = b""
    usual: int = 0
    """The major version that most of the same classes have; what is newer may be there for newer JVMs only."""
    class_names: bytes = b""
    """Entry names of its classes without `.class`, joined by NUL, in the directory's order; nested jars have none."""
    class_versions: bytes = b""
    """Bytes 4 to 7 of each class file: minor and major version, big-endian; UNKNOWN_VERSION where they could not be read."""
    natives: tuple[NativeLibrary, ...] = ()
    nested: tuple[JarFacts, ...] = ()
    defects: tuple[str, ...] = ()
    """`zip-broken`, `zip-overlap`, `zip-mismatch`, `zip-entry-broken`, ...; sorted."""
    absent_end: bool = False
    """It has no end-of-central-directory record: no JVM opens it."""

    def versions(self) -> dict[bytes, tuple[int, int]]:
        """(major, minor) by entry name without `.class`; (0, 0) for a class whose version is unknown."""
        packed = self.class_versions
        found: dict[bytes, tuple[int, int]] = {}
        for at, name in enumerate(self.class_names.split(b"\0") if self.class_names else ()):
            found[name] = class_version(packed[4 * at : 4 * at + 4])
        return found


UNKNOWN_VERSION = b"\xff\xff\xff\xff"
CLASS_MAGIC = b"\xca\xfe\xba\xbe"


def class_version(packed: bytes) -> tuple[int, int]:
    """(major, minor) of bytes 4 to 7 of a class file (R1)."""
    if len(packed) < len(UNKNOWN_VERSION) or packed == UNKNOWN_VERSION:
        return 0, 0
    return int.from_bytes(packed[2:4], "big"), int.from_bytes(packed[:2], "big")
