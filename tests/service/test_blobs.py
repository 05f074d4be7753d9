"""Streams that fail at their end unless digest and size hold, and that end with whoever reads them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.blobs import CHUNK_BYTES, collect, file_chunks, verified
from service.errors import SourceError
from tests.make.layers import sha256

DATA = os.urandom(3 * CHUNK_BYTES + 1)


class Stream:
    """Gives its pieces, and knows whether it was ended."""

    def __init__(self, *pieces: bytes) -> None:
        self.ended = False
        self.chunks = self._chunks(pieces)

    async def _chunks(self, pieces: tuple[bytes, ...]) -> AsyncIterator[bytes]:
        try:
            for piece in pieces:
                yield piece
        finally:
            self.ended = True


async def all_of(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    ("digest", "size", "code", "temporary"),
    [
        (sha256(b"abcd"), 4, "", False),
        (sha256(b"abcd"), None, "", False),
        (sha256(b"abcd"), 3, "size-mismatch", True),
        (sha256(b"abcd"), 5, "size-mismatch", False),
        (sha256(b"xxxx"), 5, "size-mismatch", True),
        (sha256(b"xxxx"), 4, "digest-mismatch", True),
        ("sha512:" + "0" * 128, 4, "digest-mismatch", True),
    ],
)
async def test_h050_a_stream_is_what_it_is_called_or_fails(digest: str, size: int | None, code: str, temporary: bool) -> None:
    chunks = verified(Stream(b"ab", b"", b"cd").chunks, digest, size)
    if not code:
        assert await all_of(chunks) == b"abcd"
        return
    with pytest.raises(SourceError) as failure:
        await all_of(chunks)
    assert (failure.value.code, failure.value.temporary) == (code, temporary)


async def test_what_is_not_read_to_its_end_is_ended_at_once() -> None:
    """A connection hangs on it: it may not wait until somebody collects it."""
    stream = Stream(b"ab", b"cd")
    outer = verified(stream.chunks, sha256(b"abcd"))
    await anext(outer)
    await outer.aclose()
    assert stream.ended
    stream = Stream(b"ab", b"cd")
    with pytest.raises(SourceError) as failure:
        await collect(stream.chunks, 3)
    assert failure.value.code == "manifest-too-large"
    assert stream.ended


@pytest.mark.parametrize(
    ("offset", "size"), [(0, None), (5, None), (0, 0), (7, CHUNK_BYTES), (len(DATA) - 1, 1), (len(DATA), None)]
)
async def test_a_file_is_read_whole_or_in_part(tmp_path: Path, offset: int, size: int | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    end = len(DATA) if size is None else offset + size
    assert await all_of(file_chunks(path, offset, size)) == DATA[offset:end]


async def test_a_file_that_ends_early_or_is_none_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    for chunks, code, temporary in (
        (file_chunks(path, len(DATA) - 1, 2), "truncated", True),
        (file_chunks(tmp_path / "absent"), "not-found", False),
        (file_chunks(tmp_path / "absent", may_come=True), "not-found", True),
        (file_chunks(tmp_path), "not-found", False),
    ):
        with pytest.raises(SourceError) as failure:
            await all_of(chunks)
        assert (failure.value.code, failure.value.temporary) == (code, temporary)
