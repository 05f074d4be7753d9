"""What the programs that run before the last one may have written to disk, so that its files are not called absent too soon."""

from __future__ import annotations

from collections.abc import Iterable


class Writes:
    """What programs may have written: paths, with all below them, or anything."""

    __slots__ = ("anywhere", "paths")

    def __init__(self, paths: Iterable[bytes] = (), *, anywhere: bool = False) -> None:
        self.paths = frozenset(paths)
        self.anywhere = anywhere

    def may_hold(self, path: bytes) -> bool:
        """Whether something may have been written at `path` (absolute), or above it."""
        return self.anywhere or self.names(path)

    def names(self, path: bytes) -> bool:
        """Whether something is known to have been written at `path` or above it."""
        return any(path == each or path.startswith(each.rstrip(b"/") + b"/") for each in self.paths)

    def near(self, directory: bytes) -> bool:
        """Whether something may have been written in a directory."""
        return self.anywhere or self.named_near(directory)

    def named_near(self, directory: bytes) -> bool:
        """Whether something is known to have been written in a directory."""
        start = directory.rstrip(b"/") + b"/"
        return self.names(directory) or any(each.startswith(start) for each in self.paths)

    def __or__(self, other: Writes) -> Writes:
        return Writes(self.paths | other.paths, anywhere=self.anywhere or other.anywhere)


ANYWHERE = Writes(anywhere=True)
