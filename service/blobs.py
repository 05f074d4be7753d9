"""Streams of bytes that fail at their end unless digest and size hold, so that no caller can forget."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from analyzers.oci import Digest
from service.errors import SourceError

CHUNK_BYTES = 1 << 20


async def verified(chunks: AsyncIterator[bytes], digest: str, size: int | None = None) -> AsyncIterator[bytes]:
    """`chunks`, unchanged. Raises SourceError (`size-mismatch` as soon as it is too long, `digest-mismatch` at the end)."""
    hasher = hashlib.new(Digest(digest).algorithm)
    done = 0
    async for chunk in chunks:
        done += len(chunk)
        if size is not None and done > size:
            raise SourceError(f"{digest} is longer than the {size} bytes stated", code="size-mismatch")
        hasher.update(chunk)
        yield chunk
    if size is not None and done != size:
        raise SourceError(f"{digest} has {done} bytes, not the {size} stated", code="size-mismatch")
    if hasher.hexdigest() != Digest(digest).hex:
        raise SourceError(f"bytes named {digest} have another digest", code="digest-mismatch")


async def file_chunks(path: Path, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
    """A file, or `size` bytes of it from `offset`, read beside the loop. Raises SourceError; symlinks are not followed."""
    try:
        descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror}", temporary=not isinstance(error, FileNotFoundError), code="not-found"
        ) from error
    try:
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
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise SourceError(f"a document of more than {limit} bytes", temporary=False, code="manifest-too-large")
    return bytes(body)
