"""Layer facts as they are stored and sent: named sections of zstd chunks, each at most 1 MiB of msgpack before compression.

The only file that knows the stored form (decisions 6). A section is a stream of length-prefixed msgpack records cut into
chunks; the daemon passes chunks on undecoded, and a judge asks only for the sections it needs. Refuses to know what facts
mean. Bytes that are not ours raise `Rejected("bad-facts")`.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec

from analyzers.compression import zstd
from analyzers.entries import Columns, Entries
from analyzers.errors import Rejected
from analyzers.facts import Coverage, ElfFacts, LayerFacts, LayerNote, SymbolFacts, Unread, Verified
from analyzers.jar_facts import JarFacts

CHUNK_BYTES = 1 << 20
SECTIONS = ("entries", "elf", "symbols", "text", "jars")
_LEVEL = 3
_BATCH_BYTES = 512 << 10
_LENGTH_BYTES = 4
_Extra = TypeVar("_Extra")
_Devices = list[tuple[int, tuple[int, int]]]
_Capabilities = list[tuple[int, bytes]]
_COLUMNS = ("kinds", "modes", "uids", "gids", "sizes")


class Section(NamedTuple):
    """One named part of a layer's facts."""

    name: str
    chunks: list[bytes]


class _Head(msgspec.Struct, frozen=True, array_like=True, tag="head"):
    """What is said once a layer."""

    diff_id: str
    size_bytes: int
    coverage: Coverage
    verified: Verified
    rows: int


class _Rows(msgspec.Struct, frozen=True, array_like=True, tag="rows"):
    """Some consecutive blocks of entries: names, then columns as little-endian bytes."""

    names: list[tuple[int, bytes]]
    """(first row, counted from the first row of this record; NUL-joined paths and link targets) by block."""
    columns: tuple[bytes, ...]
    hashed: list[int]
    hashes: bytes
    devices: dict[int, tuple[int, int]]
    capabilities: dict[int, bytes]


class _Paths(msgspec.Struct, frozen=True, array_like=True, tag="paths"):
    """Some of the whiteouts or opaque directories."""

    opaque: bool
    paths: list[bytes]


class _Remarks(msgspec.Struct, frozen=True, array_like=True, tag="remarks"):
    unread: tuple[Unread, ...]
    notes: tuple[LayerNote, ...]


class _Elf(msgspec.Struct, frozen=True, array_like=True, tag="elf"):
    sha256: bytes
    facts: ElfFacts


class _Symbols(msgspec.Struct, frozen=True, array_like=True, tag="symbols"):
    sha256: bytes
    facts: SymbolFacts


class _Content(msgspec.Struct, frozen=True, array_like=True, tag="content"):
    head: bool
    path: bytes
    body: bytes


class _Jar(msgspec.Struct, frozen=True, array_like=True, tag="jar"):
    sha256: bytes
    facts: JarFacts


class _Classes(msgspec.Struct, frozen=True, array_like=True, tag="classes"):
    """Some of the class files outside jars: paths, and four bytes of each."""

    paths: list[bytes]
    versions: bytes


class _Packages(msgspec.Struct, frozen=True, array_like=True, tag="packages"):
    """Some of the pairs of library and package."""

    pairs: list[tuple[bytes, bytes]]


class _Script(msgspec.Struct, frozen=True, array_like=True, tag="script"):
    path: bytes
    body: bytes


_Record = _Head | _Rows | _Paths | _Remarks | _Elf | _Symbols | _Content | _Jar | _Classes | _Packages | _Script


def pack(facts: LayerFacts) -> list[Section]:
    """Every section of `facts`; `symbols` only where they are there. Same facts, same bytes."""
    sections = [
        Section("entries", _chunks(_entry_records(facts))),
        Section("elf", _chunks(_Elf(digest, facts.elf[digest]) for digest in sorted(facts.elf))),
    ]
    symbols = facts.symbols
    if symbols is not None:
        sections.append(Section("symbols", _chunks(_Symbols(digest, symbols[digest]) for digest in sorted(symbols))))
    contents: list[_Record] = [_Content(False, path, facts.texts[path]) for path in sorted(facts.texts)]
    contents += [_Script(path, facts.scripts[path]) for path in sorted(facts.scripts)]
    contents += [_Content(True, path, facts.heads[path]) for path in sorted(facts.heads)]
    if facts.packages:
        contents.append(_Packages(sorted(facts.packages.items())))
    return [*sections, Section("text", _chunks(contents)), Section("jars", _chunks(_jar_records(facts)))]


def _jar_records(facts: LayerFacts) -> Iterator[_Record]:
    for digest in sorted(facts.jars):
        yield _Jar(digest, facts.jars[digest])
    for batch in _batches(sorted(facts.classes)):
        yield _Classes(batch, b"".join(facts.classes[path] for path in batch))


def unpack(sections: Mapping[str, Sequence[bytes]]) -> LayerFacts:
    """Facts from their sections: `entries` is required; without `symbols` they are None. Raises Rejected("bad-facts")."""
    try:
        return _unpack(sections)
    except (msgspec.MsgspecError, zstd.ZstdError, KeyError, ValueError, OverflowError) as error:
        raise Rejected("bad-facts", f"stored facts cannot be read: {type(error).__name__}") from error


def _entry_records(facts: LayerFacts) -> Iterator[_Record]:
    yield _Head(facts.diff_id, facts.size_bytes, facts.coverage, facts.verified, len(facts.entries))
    yield from _row_records(facts.entries)
    for opaque, paths in ((False, facts.whiteouts), (True, facts.opaques)):
        for batch in _batches(paths):
            yield _Paths(opaque, batch)
    yield _Remarks(facts.unread, facts.notes)


def _row_records(entries: Entries) -> Iterator[_Rows]:
    columns = entries.columns
    devices, capabilities = sorted(entries.devices.items()), sorted(entries.capabilities.items())
    names: list[tuple[int, bytes]] = []
    first, held = 0, 0
    for number, start in enumerate(columns.starts):
        raw = columns.raw_block(number)
        if names and held + len(raw) > _BATCH_BYTES:
            yield _slice(columns, first, start, names, devices, capabilities)
            names, first, held = [], start, 0
        names.append((start - first, raw))
        held += len(raw)
    if names:
        yield _slice(columns, first, len(columns), names, devices, capabilities)


def _slice(
    columns: Columns, first: int, end: int, names: list[tuple[int, bytes]], devices: _Devices, capabilities: _Capabilities
) -> _Rows:
    parts = tuple(_little(getattr(columns, name)[first:end]) for name in _COLUMNS)
    low, high = columns.hashed_between(first, end)
    return _Rows(
        names,
        parts,
        [row - first for row in columns.hashed[low:high]],
        bytes(columns.hashes[low * 32 : high * 32]),
        _within(devices, first, end),
        _within(capabilities, first, end),
    )


def _within(extras: Sequence[tuple[int, _Extra]], first: int, end: int) -> dict[int, _Extra]:
    low, high = (bisect_left(extras, row, key=itemgetter(0)) for row in (first, end))
    return {row - first: value for row, value in extras[low:high]}


def _batches(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    held = 0
    for path in paths:
        batch.append(path)
        held += len(path) + 8
        if held > _BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _chunks(records: Iterable[_Record]) -> list[bytes]:
    encode = msgspec.msgpack.Encoder().encode
    chunks: list[bytes] = []
    pending = bytearray()
    for record in records:
        body = encode(record)
        pending += len(body).to_bytes(_LENGTH_BYTES, "little")
        pending += body
        while len(pending) >= CHUNK_BYTES:
            chunks.append(zstd.compress(bytes(pending[:CHUNK_BYTES]), _LEVEL))
            del pending[:CHUNK_BYTES]
    if pending:
        chunks.append(zstd.compress(bytes(pending), _LEVEL))
    return chunks


def _records(chunks: Sequence[bytes]) -> Iterator[_Record]:
    decode = msgspec.msgpack.Decoder(_Record).decode
    pending = bytearray()
    for chunk in chunks:
        pending += _inflate(chunk)
        at = 0
        while len(pending) - at >= _LENGTH_BYTES:
            end = at + _LENGTH_BYTES + int.from_bytes(pending[at : at + _LENGTH_BYTES], "little")
            if len(pending) < end:
                break
            yield decode(memoryview(pending)[at + _LENGTH_BYTES : end].tobytes())
            at = end
        del pending[:at]
    if pending:
        raise ValueError("a record is cut")


def _inflate(chunk: bytes) -> bytes:
    inner = zstd.ZstdDecompressor()
    body = inner.decompress(chunk, CHUNK_BYTES + 1)
    if len(body) > CHUNK_BYTES or not inner.eof:
        raise ValueError("a chunk is not whole, or larger than 1 MiB")
    return body


def _unpack(sections: Mapping[str, Sequence[bytes]]) -> LayerFacts:
    columns = Columns()
    devices: dict[int, tuple[int, int]] = {}
    capabilities: dict[int, bytes] = {}
    marks: dict[bool, list[bytes]] = {False: [], True: []}
    head: _Head | None = None
    remarks = _Remarks((), ())
    elf: dict[bytes, ElfFacts] = {}
    symbols: dict[bytes, SymbolFacts] | None = {} if "symbols" in sections else None
    contents: dict[bool, dict[bytes, bytes]] = {False: {}, True: {}}
    jars: dict[bytes, JarFacts] = {}
    classes: dict[bytes, bytes] = {}
    packages: dict[bytes, bytes] = {}
    scripts: dict[bytes, bytes] = {}
    for record in _records(sections["entries"]):
        match record:
            case _Head():
                head = record
            case _Rows():
                _append(columns, devices, capabilities, record)
            case _Paths():
                marks[record.opaque] += record.paths
            case _Remarks():
                remarks = record
    for record in _records([*sections.get("elf", ())]):
        if isinstance(record, _Elf):
            elf[record.sha256] = record.facts
    for record in _records([*sections.get("symbols", ())]):
        if isinstance(record, _Symbols) and symbols is not None:
            symbols[record.sha256] = record.facts
    for record in _records([*sections.get("text", ())]):
        if isinstance(record, _Content):
            contents[record.head][record.path] = record.body
        elif isinstance(record, _Script):
            scripts[record.path] = record.body
        elif isinstance(record, _Packages):
            packages.update(record.pairs)
    for record in _records([*sections.get("jars", ())]):
        match record:
            case _Jar():
                jars[record.sha256] = record.facts
            case _Classes():
                classes.update((path, record.versions[4 * at : 4 * at + 4]) for at, path in enumerate(record.paths))
    if head is None or head.rows != len(columns):
        raise ValueError("the entries are not whole")
    return LayerFacts(
        diff_id=head.diff_id,
        size_bytes=head.size_bytes,
        entries=Entries.from_columns(columns, devices, capabilities),
        whiteouts=tuple(marks[False]),
        opaques=tuple(marks[True]),
        elf=elf,
        symbols=symbols,
        texts=contents[False],
        heads=contents[True],
        jars=jars,
        classes=classes,
        packages=packages,
        scripts=scripts,
        unread=remarks.unread,
        notes=remarks.notes,
        coverage=head.coverage,
        verified=head.verified,
    )


def _append(columns: Columns, devices: dict[int, tuple[int, int]], capabilities: dict[int, bytes], rows: _Rows) -> None:
    first = len(columns)
    for name, part in zip(_COLUMNS, rows.columns, strict=True):
        _extend(getattr(columns, name), part)
    count = len(columns) - first
    if any(len(getattr(columns, name)) != len(columns) for name in _COLUMNS) or len(rows.hashes) != 32 * len(rows.hashed):
        raise ValueError("columns of different lengths")
    starts = [start for start, _ in rows.names] + [count]
    if starts[0] != 0:
        raise ValueError("rows without names")
    for (start, raw), end in zip(rows.names, starts[1:], strict=True):
        if raw.count(b"\0") + 1 != 2 * (end - start):
            raise ValueError("a block of another length than it says")
        columns.add_block(first + start, raw.partition(b"\0")[0], raw)
    columns.hashed.extend(first + row for row in rows.hashed)
    columns.hashes += rows.hashes
    devices.update((first + row, device) for row, device in rows.devices.items())
    capabilities.update((first + row, value) for row, value in rows.capabilities.items())


def _little(column: Any) -> bytes:
    if isinstance(column, bytearray):
        return bytes(column)
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    packed: bytes = column.tobytes()
    return packed


def _extend(column: Any, part: bytes) -> None:
    if isinstance(column, bytearray):
        column += part
        return
    read = array(column.typecode)
    read.frombytes(part)
    if sys.byteorder == "big":
        read.byteswap()
    column.extend(read)
