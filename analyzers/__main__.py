"""The worker process: `python -m analyzers` confines itself, then answers one request at a time over its pipes.

The only file of this package that touches the world, and it touches little: two pipes, its own limits, its own memory
figure. It has no network, no secrets and nothing to write to (hostile.md, posture). Whatever it cannot foresee ends it:
the daemon sees the exit, calls it the outcome of one image and starts another worker.
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import resource
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NoReturn

import msgspec

from analyzers import frames
from analyzers.archive import ArchiveReader
from analyzers.elf.reader import plan_ranges
from analyzers.errors import Rejected
from analyzers.facts import LayerFacts
from analyzers.finding import show
from analyzers.frames import FrameKind
from analyzers.judges import RULES_VERSION, judge_image
from analyzers.layer import LayerReader
from analyzers.linkage import list_objects
from analyzers.oci import ImageConfig
from analyzers.readers import FACTS_VERSION
from analyzers.start import Overrides
from analyzers.system_calls import filter_program
from analyzers.wire import SECTIONS, Section, pack, unpack

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
OPEN_FILES = 32
UNREAD_TOLD = 20
_GARBAGE = 50_000
"""Objects more than before, after which the interpreter looks for cycles."""

Missed = dict[bytes, tuple[tuple[int, int], ...]]
"""Byte ranges by path, as LayerReader.missed has them."""


class Confinement(msgspec.Struct, frozen=True):
    """What the daemon wants the kernel to hold this process to; JSON in the only argument."""

    memory_bytes: int = 1 << 30
    cpu_seconds: int = 900
    """CPU time of one request."""
    cache_bytes: int = 24 << 20
    """Packed bytes of the layers kept decoded; decoded they take about eight times as much."""


def confine(wanted: Confinement) -> dict[str, str]:
    """Gives up what a reader of hostile bytes does not need; says what the kernel granted."""
    libc = ctypes.CDLL(None, use_errno=True)
    outcome = {}
    asked = {"network": CLONE_NEWUSER | CLONE_NEWNET}
    for name, flags in asked.items():
        refused = libc.unshare(flags) != 0
        outcome[name] = f"refused: {os.strerror(ctypes.get_errno())}" if refused else "none"
    for name, option, value in (("no_new_privileges", PR_SET_NO_NEW_PRIVS, 1), ("dumpable", PR_SET_DUMPABLE, 0)):
        refused = libc.prctl(option, value, 0, 0, 0) != 0
        outcome[name] = f"refused: {os.strerror(ctypes.get_errno())}" if refused else str(value)
    outcome["system_calls"] = _refuse_system_calls(libc)
    limits = (
        ("memory", resource.RLIMIT_AS, wanted.memory_bytes),
        ("open_files", resource.RLIMIT_NOFILE, OPEN_FILES),
        ("file_size", resource.RLIMIT_FSIZE, 0),
        ("processes", resource.RLIMIT_NPROC, 0),
        ("core", resource.RLIMIT_CORE, 0),
    )
    for name, limit, value in limits:
        resource.setrlimit(limit, (value, value))
        outcome[name] = str(value)
    return outcome


class _Filter(ctypes.Structure):
    """struct sock_fprog: how many instructions of eight bytes, and where."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _refuse_system_calls(libc: ctypes.CDLL) -> str:
    """For good, and for this process alone; needs no_new_privileges."""
    program = filter_program(os.uname().machine)
    if not program:
        return f"refused: no table for {os.uname().machine}"
    given = _Filter(len(program) // 8, program)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(given), 0, 0) != 0:
        return f"refused: {os.strerror(ctypes.get_errno())}"
    return "filtered"


def allow_cpu(seconds: int) -> None:
    """SIGXCPU ends us when the request at hand has used this much; the limit itself counts a whole life."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def resident_bytes() -> int:
    """Resident memory of this process now."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


class Channel:
    """Blocking frames on two file descriptors; the pipe itself is the back-pressure."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._in = io.FileIO(incoming, "rb")
        self._head = memoryview(bytearray(frames.HEADER_BYTES))
        self._body = memoryview(bytearray(frames.MAX_BODY_BYTES))
        self._out = io.BufferedWriter(io.FileIO(outgoing, "wb"), 1 << 18)

    def read(self) -> tuple[frames.Header, memoryview] | None:
        """The next frame; None when the daemon closed the pipe between two frames. The body is good until the next call."""
        begun = self._fill(self._head)
        if not begun:
            return None
        if begun == frames.HEADER_BYTES:
            head = frames.parse_header(self._head)
            body = self._body[: head.length]
            if self._fill(body) == head.length:
                return head, body
        raise frames.ProtocolBroken("end within a frame")

    def _fill(self, room: memoryview) -> int:
        """How many bytes came before `room` was full or the pipe closed."""
        done = 0
        while done < len(room) and (got := self._in.readinto(room[done:])):
            done += got
        return done

    def following(self, request: int, kind: FrameKind) -> Iterator[memoryview]:
        """Bodies of the request's frames of one kind up to END, each good until the next. Rejected("aborted") on ABORT."""
        while (frame := self.read()) is not None:
            head, body = frame
            if head.request != request:
                raise frames.ProtocolBroken(f"frame of request {head.request} within {request}")
            if head.kind == FrameKind.END:
                return
            if head.kind == FrameKind.ABORT:
                raise Rejected("aborted", "the source ended early")
            if head.kind != kind:
                raise frames.ProtocolBroken(f"{head.kind.name} where {kind.name} belongs")
            yield body
        raise frames.ProtocolBroken("end within a request")

    def send(self, request: int, message: msgspec.Struct) -> None:
        for frame in frames.message_frames(request, message):
            self._out.write(frame)
        self._out.flush()

    def send_part(self, request: int, owner: str, name: str, body: bytes) -> None:
        for frame in frames.part_frames(request, owner, name, body):
            self._out.write(frame)


class LayerCache:
    """The layers decoded last, within a weight; the oldest leave first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._layers: OrderedDict[str, tuple[LayerFacts, int]] = OrderedDict()
        self._weight = 0

    def put(self, key: str, facts: LayerFacts, weight: int) -> None:
        self._forget(key)
        if weight > self._limit:
            return
        self._layers[key] = facts, weight
        self._weight += weight
        while self._weight > self._limit:
            self._forget(next(iter(self._layers)))

    def get(self, key: str) -> LayerFacts | None:
        if key not in self._layers:
            return None
        self._layers.move_to_end(key)
        return self._layers[key][0]

    def keys(self) -> tuple[str, ...]:
        return tuple(self._layers)

    def _forget(self, key: str) -> None:
        if key in self._layers:
            self._weight -= self._layers.pop(key)[1]


class Worker:
    """Answers requests until the pipe closes; what lives between two requests is the cache alone."""

    def __init__(self, channel: Channel, wanted: Confinement) -> None:
        self._channel = channel
        self._wanted = wanted
        self._cache = LayerCache(wanted.cache_bytes)

    def run(self) -> None:
        beginning = b""
        while (frame := self._channel.read()) is not None:
            head, body = frame
            if head.kind == FrameKind.MORE:
                beginning += body
                if len(beginning) > frames.MAX_MESSAGE_BYTES:
                    raise frames.ProtocolBroken("a message without end")
            elif head.kind == FrameKind.MESSAGE:
                self._answer(head.request, frames.decode_request(beginning + body))
                beginning = b""
            # DATA, PART, END and ABORT here are the rest of a request that has been refused already.

    def _answer(self, request: int, message: frames.Request) -> None:
        allow_cpu(self._wanted.cpu_seconds)
        before = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        try:
            result = self._do(request, message)
        except Rejected as refusal:
            result = frames.Failed(refusal.code, refusal.detail)
        spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before
        self._channel.send(request, frames.Answer(result, resident_bytes(), spent, self._cache.keys()))

    def _do(self, request: int, message: frames.Request) -> frames.Result:
        match message:
            case frames.ReadLayer():
                return self._read_layer(request, message)
            case frames.ReadInPlace():
                return self._read_in_place(request, message)
            case frames.PlanElf():
                return frames.Planned(tuple(plan_ranges(message.size, message.pieces)))
            case frames.ReadArchive():
                return self._read_archive(request, message)
            case frames.JudgeImage():
                return self._judge(request, message)
            case frames.ListObjects():
                return self._list(request, message)

    def _read_layer(self, request: int, message: frames.ReadLayer) -> frames.LayerRead:
        known = msgspec.msgpack.decode(message.known_ranges, type=Missed) if message.known_ranges else {}
        reader = LayerReader(
            media_type=message.media_type, limits=message.limits, known_ranges=known, blob_digest=message.blob_digest
        )
        for chunk in self._channel.following(request, FrameKind.DATA):
            reader.feed(chunk)
        facts = reader.finish()
        missed = msgspec.msgpack.encode(reader.missed) if reader.missed else b""
        return self._tell_layer(request, facts, reader.blob_digest, reader.bytes_in, missed)

    def _read_in_place(self, request: int, message: frames.ReadInPlace) -> frames.LayerRead:
        reader = LayerReader(limits=message.limits, said_diff_id=message.diff_id)
        for body in self._channel.following(request, FrameKind.DATA):
            for data, left_out in frames.pieces(body):
                reader.feed_piece(data, left_out)
        facts = reader.finish()
        missed = msgspec.msgpack.encode(reader.missed) if reader.missed else b""
        return self._tell_layer(request, facts, "", reader.bytes_in, missed, source=message.source)

    def _read_archive(self, request: int, message: frames.ReadArchive) -> frames.ArchiveRead:
        known = msgspec.msgpack.decode(message.known_ranges, type=dict[str, Missed]) if message.known_ranges else {}
        reader = ArchiveReader(
            known=frozenset(message.known), limits=message.limits, index_only=message.index_only, known_ranges=known
        )
        for chunk in self._channel.following(request, FrameKind.DATA):
            reader.feed(chunk)
        facts = reader.finish()
        for name, body in facts.documents.items():
            self._channel.send_part(request, name, "document", body)
        members = []
        for name, found in facts.layers.items():
            if isinstance(found, Rejected):
                members.append(frames.MemberRead(name, None, found.code, found.detail))
                continue
            digest, size = facts.blobs[name]
            missed = msgspec.msgpack.encode(facts.missed[name]) if name in facts.missed else b""
            members.append(frames.MemberRead(name, self._tell_layer(request, found, digest, size, missed, name)))
        return frames.ArchiveRead(
            members=tuple(members),
            links=facts.links,
            places=facts.members,
            missed=msgspec.msgpack.encode(facts.missed) if facts.missed else b"",
            known=tuple(sorted(facts.known)),
            compression=facts.compression,
        )

    def _tell_layer(
        self, request: int, facts: LayerFacts, blob_digest: str, bytes_in: int, missed: bytes, owner: str = "", source: str = ""
    ) -> frames.LayerRead:
        # Facts of a layer whose end was never reached have no diff ID; its blob's digest names them.
        identity = facts.diff_id or blob_digest
        verified = f"{facts.verified}@{source}" if source else str(facts.verified)
        key = frames.layer_key(identity, FACTS_VERSION, facts.coverage, verified)
        sections = pack(facts)
        self._send_sections(request, owner or key, sections)
        self._cache.put(key, facts, sum(len(chunk) for section in sections for chunk in section.chunks))
        return frames.LayerRead(
            key=key,
            blob_digest=blob_digest,
            diff_id=identity,
            coverage=facts.coverage,
            verified=verified,
            bytes_in=bytes_in,
            bytes_out=facts.size_bytes,
            entries=len(facts.entries),
            unread=tuple((show(item.path), item.reason) for item in facts.unread[:UNREAD_TOLD]),
            missed=missed,
        )

    def _send_sections(self, request: int, owner: str, sections: list[Section]) -> None:
        for section in sections:
            for chunk in section.chunks:
                self._channel.send_part(request, owner, section.name, chunk)

    def _layers(self, request: int, keys: tuple[str, ...]) -> list[LayerFacts]:
        """The facts of these layers, from the cache or, once asked for, from the daemon."""
        held = {key: facts for key in keys if (facts := self._cache.get(key)) is not None}
        absent = tuple(dict.fromkeys(key for key in keys if key not in held))
        self._channel.send(request, frames.Want(absent))
        parts: dict[str, dict[str, list[bytes]]] = {key: {} for key in absent}
        for body in self._channel.following(request, FrameKind.PART):
            part = frames.decode_part(body)
            if part.owner not in parts:
                raise frames.ProtocolBroken(f"a part of {part.owner}, which was not asked for")
            parts[part.owner].setdefault(part.name, []).append(part.body)
        for key in absent:
            # A section without chunks is not stored; it is empty, not unasked for.
            sections = {name: parts[key].get(name, []) for name in SECTIONS}
            held[key] = unpack(sections)
            self._cache.put(key, held[key], sum(len(chunk) for chunks in sections.values() for chunk in chunks))
        return [held[key] for key in keys]

    def _judge(self, request: int, message: frames.JudgeImage) -> frames.Judged:
        layers = self._layers(request, message.layers)
        config = _compared(message.config, layers)
        report = judge_image(message.image_id, config, layers, profile=message.profile, overrides=_overrides(message.overrides))
        self._channel.send_part(request, "", "report", msgspec.json.encode(report))
        return frames.Judged()

    def _list(self, request: int, message: frames.ListObjects) -> frames.Listed:
        listings = list_objects(
            _compared(message.config, layers := self._layers(request, message.layers)),
            layers,
            paths=message.paths or None,
            all_elf=message.all_elf,
            profile=message.profile,
            overrides=_overrides(message.overrides),
        )
        for listing in listings:
            self._channel.send_part(request, "", "lines", msgspec.json.encode(listing) + b"\n")
        return frames.Listed()


def _overrides(packed: bytes) -> Overrides:
    return msgspec.msgpack.decode(packed, type=Overrides) if packed else Overrides()


def _compared(config: ImageConfig, layers: Sequence[LayerFacts]) -> ImageConfig:
    """The config, with a note where its diff IDs are not those of the bytes (hostile 53)."""
    found = tuple(layer.diff_id for layer in layers)
    if config.diff_ids == found:
        return config
    wrong = [index for index, (claimed, is_) in enumerate(zip(config.diff_ids, found, strict=False)) if claimed != is_]
    detail = (
        f"layer {wrong[0]} is not the one the config names" if wrong else f"{len(config.diff_ids)} diff IDs, {len(found)} layers"
    )
    return msgspec.structs.replace(config, notes=(*config.notes, ("config-mismatch", detail)))


def main(arguments: list[str]) -> NoReturn:
    """Never returns: the exit status tells how it ended, and nothing runs after it."""
    wanted = msgspec.json.decode(arguments[0], type=Confinement) if arguments else Confinement()
    channel = Channel(sys.stdin.fileno(), sys.stdout.fileno())
    # Judging makes many small objects and few cycles: by default a tenth of its time goes into looking for them.
    gc.set_threshold(_GARBAGE)
    try:
        confined = confine(wanted)
        channel.send(0, frames.Hello(os.getpid(), FACTS_VERSION, RULES_VERSION, confined))
        Worker(channel, wanted).run()
    except MemoryError:
        os._exit(frames.EXIT_MEMORY)
    except (frames.ProtocolBroken, BrokenPipeError):
        os._exit(frames.EXIT_PROTOCOL)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
