"""The entries of one layer as columns sorted by path; an Entry is a view made on demand."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from analyzers.facts import Entry


class Entries:
    """An immutable set of entries with unique paths, sorted by path as bytes."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._rows = sorted(entries, key=lambda entry: entry.path)
        self._paths = [entry.path for entry in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._rows)

    def __getitem__(self, index: int) -> Entry:
        return self._rows[index]

    def find(self, path: bytes) -> int:
        """Index of the entry at `path`, or -1."""
        index = bisect_left(self._paths, path)
        return index if index < len(self._paths) and self._paths[index] == path else -1

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`, or None."""
        index = self.find(path)
        return None if index < 0 else self[index]

    def below(self, directory: bytes) -> range:
        """Indexes of every entry below `directory` at any depth, not counting itself."""
        if not directory:
            return range(1 if self._paths and self._paths[0] == b"" else 0, len(self._paths))
        return range(bisect_left(self._paths, directory + b"/"), bisect_left(self._paths, directory + b"0"))
