"""What one ELF file says of itself, learned from its program headers and dynamic section alone.

Section headers are never looked at: loaders ignore them, so they may lie or be absent (hostile 78). Nothing here
raises on any bytes; what cannot be read is named in `ElfFacts.defects`, and what was not kept in `ElfResult`.
"""

from analyzers.elf.reader import ElfReader, ElfResult, read_elf

__all__ = ["ElfReader", "ElfResult", "read_elf"]
