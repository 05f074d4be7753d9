"""Streams of bytes that fail at their end unless digest and size hold, so that no caller can forget."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from analyzers.oci import Digest
from service.errors import SourceError

CHUNK_BYTES = 1 << 20


async def verified(chunks: AsyncIterator[bytes], digest: str, size: int | None = None) -> AsyncGenerator[bytes, None]:
    """`chunks`, unchanged. Raises SourceError (`size-mismatch` as soon as it is too long, `digest-mismatch` at the end)."""
    hasher = hashlib.new(Digest(digest).algorithm)
    done = 0
    try:
        async for chunk in chunks:
            done += len(chunk)
            if size is not None and done > size:
                raise SourceError(f"{digest} is longer than the {size} bytes stated", code="size-mismatch")
            hasher.update(chunk)
            yield chunk
    finally:
        await end(chunks)
    holds = hasher.hexdigest() == Digest(digest).hex
    if size is not None and done != size:
        # The right bytes of another size: whoever stated the size was wrong, and will be.
        raise SourceError(f"{digest} has {done} bytes, not the {size} stated", temporary=not holds, code="size-mismatch")
    if not holds:
        raise SourceError(f"bytes named {digest} have another digest", code="digest-mismatch")


async def end(chunks: AsyncIterator[bytes]) -> None:
    """Ends a stream that is not wanted to its end, so that its connection is free now and not when it is collected."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()


async def file_chunks(
    path: Path, offset: int = 0, size: int | None = None, *, may_come: bool = False
) -> AsyncGenerator[bytes, None]:
    """A file, or `size` bytes of it from `offset`, read beside the loop. Raises SourceError; symlinks are not followed.

    `may_come`: an absent file may still be written, so its absence is temporary.
    """
    try:
        # Without O_NONBLOCK the opening of a named pipe would wait for a writer for ever.
        descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror}", temporary=may_come or not isinstance(error, FileNotFoundError), code="not-found"
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SourceError(f"{path} is not a file", temporary=False, code="not-found")
        left = size
        while left is None or left > 0:
            want = CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)
            chunk = await asyncio.to_thread(os.pread, descriptor, want, offset)
            if not chunk:
                if left is not None:
                    raise SourceError(f"{path} ends {left} bytes early", code="truncated")
                return
            offset += len(chunk)
            left = None if left is None else left - len(chunk)
            yield chunk
    finally:
        os.close(descriptor)


async def collect(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """All of a small document. Raises SourceError when it is longer than `limit` bytes."""
    body = bytearray()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise SourceError(f"a document of more than {limit} bytes", temporary=False, code="manifest-too-large")
    finally:
        await end(chunks)
    return bytes(body)
