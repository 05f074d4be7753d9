"""A member of a tar as Go's Header has it, and who is told of it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

BLOCK = 512
PEEK = 256
"""Content bytes a visitor is shown with a member, fewer only where the member has fewer."""

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"
_XATTR = b"SCHILY.xattr."

Records = dict[bytes, bytes]


class Member(msgspec.Struct, gc=False):
    """One member as Go's Header has it. Names are uncleaned; numbers unchecked, of 64 bits."""

    name: bytes
    type: int
    """The type flag as a byte value, after Go's promotion of NUL to `0` or `5`."""
    mode: int
    uid: int
    gid: int
    size: int
    """Logical size of the content, whatever the type."""
    link: bytes
    major: int
    minor: int
    records: Records | None
    """Records of the pax header before this member, or None."""
    offset: int = 0
    """Where the content begins in the stream."""
    whole: bool = True
    """False for a sparse file whose holes pass the layer's allowance: its content is checked but not handed out."""


class Sink(Protocol):
    """Takes the content of one member."""

    def feed(self, view: memoryview) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class Sparing(Protocol):
    """A sink that can do without its content."""

    def spare(self, count: int) -> None:
        """So many bytes of the content will not come."""


class Visitor(Protocol):
    """Is told of every member in order; may ask for its content by returning a sink."""

    def member(self, member: Member, head: bytes) -> Sink | None: ...
    def note(self, code: str, name: bytes) -> None: ...


def xattr(member: Member, name: bytes) -> bytes:
    """Value of an extended attribute in the member's records; empty when there is none."""
    return (member.records or {}).get(_XATTR + name, b"")
