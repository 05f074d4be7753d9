"""The pull side of the distribution API against a registry that misbehaves: listings, manifests, and blobs that break off."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import pytest

from service.errors import SourceError
from service.registry import client as client_module
from service.registry.client import RegistryClient
from tests.fakes.clock import Clock
from tests.fakes.registry import FakeRegistry, error, serving
from tests.fakes.server import Answer, Raw, Request
from tests.make.images import MANIFEST, Image
from tests.make.layers import sha256, tar_of
from tests.service.clients import PARALLEL, connected

IMAGE = Image(layers=(tar_of({"etc/a": "a"}),), entrypoint=["/a"])
DATA = os.urandom(300_000)
DIGEST = sha256(DATA)
BLOB = f"/blobs/{DIGEST}"


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving() as registry:
        registry.blobs[DIGEST] = DATA
        yield registry


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(registry: FakeRegistry, clock: Clock) -> AsyncIterator[RegistryClient]:
    async with connected(registry.host, clock=clock, idle_seconds=1) as client:
        yield client


async def blob_of(client: RegistryClient, size: int | None = len(DATA)) -> bytes:
    return b"".join([chunk async for chunk in client.blob("app", DIGEST, size)])


async def failure_of(client: RegistryClient, size: int | None = len(DATA)) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await blob_of(client, size)
    return failure.value


# Listings


async def test_h065_pages_are_followed_to_the_last_and_no_further(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.page_size = 3
    names = [f"v{number}" for number in range(10)]
    for name in names:
        registry.push(f"app:{name}", IMAGE)
    listing = await client.tags("app")
    assert listing is not None
    assert (listing.names, listing.complete) == (names, True)
    assert len(registry.asked("GET", "/tags/list")) == 4
    catalog = await client.catalog()
    assert (catalog.names, catalog.complete) == (["app"], True)


@pytest.mark.parametrize(
    "link",
    [
        '<http://other.test/v2/app/tags/list?last=a>; rel="next"',
        '<//other.test/v2/app/tags/list?last=a>; rel="next"',
        '<https://127.0.0.1/v2/app/tags/list>; rel="next"',
        '</admin/delete-everything>; rel="next"',
        "</v2/../admin>; rel=next",
        '<http://[::1>; rel="next"',
    ],
)
async def test_h065_a_next_page_elsewhere_is_not_asked_for_and_the_listing_is_partial(
    registry: FakeRegistry, client: RegistryClient, link: str
) -> None:
    registry.always("GET", "/tags/list", Answer(200, {"Link": link}, b'{"tags": ["a"]}'))
    listing = await client.tags("app")
    assert listing is not None
    assert (listing.names, listing.complete) == (["a"], False)
    assert len(registry.requests) == 1


@pytest.mark.parametrize(
    "link", ['<?last=a>; rel="next"', "</v2/app/tags/list?last=a>; rel=next", '<?last=a>; rel="x next"; a=b']
)
async def test_h065_the_next_page_is_found_however_it_is_written(
    registry: FakeRegistry, client: RegistryClient, link: str
) -> None:
    registry.once("GET", "/tags/list", Answer(200, {"Link": f'<?last=0>; rel="prev", {link}'}, b'{"tags": ["a"]}'))
    registry.once("GET", "/tags/list?last=a", Answer(200, {}, b'{"tags": ["b"]}'))
    listing = await client.tags("app")
    assert listing is not None
    assert (listing.names, listing.complete) == (["a", "b"], True)


async def test_h065_pages_without_end_are_left_when_they_bring_nothing_new(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    registry.always("GET", "/tags/list", Answer(200, {"Link": '<?last=a>; rel="next"'}, b'{"tags": ["a"]}'))
    listing = await client.tags("app")
    assert listing is not None
    assert (listing.names, listing.complete) == (["a"], False)
    assert len(registry.requests) == 2


async def test_h065_pages_without_end_are_left_at_a_ceiling_of_names(
    registry: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LISTING_NAMES", 25)
    count = iter(range(10**9))

    def page(request: Request) -> Answer:
        tags = [f"t{next(count)}" for _ in range(10)]
        return Answer(200, {"Link": f'<?last={tags[-1]}>; rel="next"'}, json.dumps({"tags": tags}).encode())

    registry.always("GET", "/tags/list", page)
    listing = await client.tags("app")
    assert listing is not None
    assert (len(listing.names), listing.complete) == (30, False)


async def test_names_that_cannot_be_names_are_not_listed(registry: FakeRegistry, client: RegistryClient) -> None:
    """A listed name becomes part of an address: `..` or `?` in it would ask for something else."""
    bad = ["../../admin", "a?b", "a#b", "a/b", "", "x" * 200, "a\nb", "é", None, 7]
    registry.once("GET", "/tags/list", Answer(200, {}, json.dumps({"tags": ["ok", *bad]}).encode()))
    registry.once("GET", "/_catalog", Answer(200, {}, json.dumps({"repositories": ["a/ok", "../x", "A", "a//b"]}).encode()))
    tags = await client.tags("app")
    assert tags is not None
    assert tags.names == ["ok"]
    assert (await client.catalog()).names == ["a/ok"]


@pytest.mark.parametrize("body", [b'{"tags": null}', b'{"tags": []}', b"{}", b"[]", b'{"tags": {"a": 1}}'])
async def test_an_emptied_repository_has_no_tags(registry: FakeRegistry, client: RegistryClient, body: bytes) -> None:
    registry.once("GET", "/tags/list", Answer(200, {}, body))
    listing = await client.tags("app")
    assert listing is not None
    assert (listing.names, listing.complete) == ([], True)


async def test_an_unknown_repository_is_told_from_an_empty_one(client: RegistryClient) -> None:
    assert await client.tags("absent") is None


# Manifests


async def test_h074_without_head_the_manifest_is_fetched_and_its_digest_computed(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    digest = registry.push("app:1", IMAGE)
    for status in (405, 501):
        registry.once("HEAD", "/manifests/1", Answer(status))
        assert await client.head("app", "1") == digest


async def test_h074_a_head_that_does_not_say_the_digest_leads_to_the_manifest(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    digest = registry.push("app:1", IMAGE)
    registry.once("HEAD", "/manifests/1", Answer(200, {"Content-Type": MANIFEST, "Content-Length": "5"}))
    assert await client.head("app", "1") == digest
    assert [each.method for each in registry.requests] == ["HEAD", "GET"]


async def test_h074_a_digest_that_is_none_is_not_believed(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.once("HEAD", "/manifests/1", Answer(200, {"Docker-Content-Digest": "sha256:../../x", "Content-Length": "5"}))
    with pytest.raises(SourceError) as failure:
        await client.head("app", "1")
    assert failure.value.code == "bad-digest"


async def test_a_tag_that_is_not_there_has_no_digest(registry: FakeRegistry, client: RegistryClient) -> None:
    assert await client.head("app", "absent") is None
    with pytest.raises(SourceError) as failure:
        await client.manifest("app", "absent")
    assert (failure.value.code, failure.value.temporary) == ("not-found", False)


async def test_every_kind_of_manifest_is_asked_for(registry: FakeRegistry, client: RegistryClient) -> None:
    """Without these in Accept, registries answer 404 or an older form (sources.md 3.2)."""
    registry.push("app:1", IMAGE)
    await client.manifest("app", "1")
    for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.list.v2", "manifest.v2"):
        assert kind in registry.requests[0].headers["accept"]


async def test_h046_a_manifest_without_end_is_cut_at_its_ceiling(registry: FakeRegistry, client: RegistryClient) -> None:
    sent = 0

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing() and sent < 100 << 20:
            writer.write(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
            await writer.drain()
            sent += 1 << 20

    registry.always("GET", "/manifests/1", endless)
    with pytest.raises(SourceError) as failure:
        await client.manifest("app", "1")
    assert (failure.value.code, failure.value.temporary) == ("manifest-too-large", False)
    assert sent < 30 << 20
    assert len(registry.requests) == 1


async def test_h051_a_manifest_asked_for_by_digest_must_have_it(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.push("app:1", IMAGE)
    registry.manifests["app", digest] = b'{"schemaVersion": 2}', MANIFEST
    with pytest.raises(SourceError) as failure:
        await client.manifest("app", digest)
    assert failure.value.code == "digest-mismatch"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip, gzip, gzip, gzip", "br", "GZIP"])
async def test_h042_an_encoded_answer_is_refused_and_none_is_asked_for(
    registry: FakeRegistry, client: RegistryClient, encoding: str
) -> None:
    registry.always("GET", BLOB, Answer(200, {"Content-Encoding": encoding}, b"\x1f\x8b" + b"0" * 1000))
    failure = await failure_of(client)
    assert (failure.code, failure.temporary) == ("bad-encoding", True)
    assert {each.headers["accept-encoding"] for each in registry.requests} == {"identity"}


# Blobs


async def test_a_blob_comes_as_it_is_stored_and_verified(registry: FakeRegistry, client: RegistryClient) -> None:
    assert await blob_of(client) == DATA
    assert await blob_of(client, None) == DATA
    assert [each.headers.get("range") for each in registry.requests] == [None, None]


async def test_h050_a_blob_that_is_another_fails_at_its_end(registry: FakeRegistry, client: RegistryClient) -> None:
    for place in (0, len(DATA) // 2, len(DATA) - 1):
        registry.blobs[DIGEST] = DATA[:place] + bytes([DATA[place] ^ 1]) + DATA[place + 1 :]
        failure = await failure_of(client)
        assert (failure.code, failure.temporary) == ("digest-mismatch", True)


async def test_h049_a_blob_longer_than_stated_is_left_at_once(registry: FakeRegistry, client: RegistryClient) -> None:
    failure = await failure_of(client, len(DATA) - 1)
    assert failure.code == "size-mismatch"
    assert len(registry.requests) == 1


async def test_h049_a_blob_shorter_than_stated_is_asked_for_once_more_and_then_the_statement_is_wrong(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    failure = await failure_of(client, len(DATA) + 1)
    assert (failure.code, failure.temporary) == ("size-mismatch", False)
    assert [each.headers.get("range") for each in registry.requests] == [None, f"bytes={len(DATA)}-", None]


def cut(at: int, head: str) -> Raw:
    """Sends the head and that much of the blob, then hangs up."""

    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + b"\r\n\r\n")
        if "chunked" in head:
            writer.write(b"%x\r\n" % (at + 1))
        writer.write(DATA[:at])
        await writer.drain()

    return send


@pytest.mark.parametrize(
    "head",
    [
        f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nConnection: close",
    ],
    ids=["length", "chunked", "until-close"],
)
async def test_h066_a_blob_that_breaks_off_goes_on_where_it_broke(
    registry: FakeRegistry, client: RegistryClient, head: str
) -> None:
    registry.once("GET", BLOB, cut(100_000, head), cut(0, head))
    assert await blob_of(client) == DATA
    ranges = [each.headers.get("range") for each in registry.requests]
    assert ranges == [None, "bytes=100000-", "bytes=100000-"]


async def test_h066_a_blob_of_unknown_size_that_breaks_off_without_a_sign_fails_by_its_digest(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    registry.once("GET", BLOB, cut(100_000, "HTTP/1.1 200 OK\r\nConnection: close"))
    assert (await failure_of(client, None)).code == "digest-mismatch"


async def test_h066_a_blob_that_never_gets_further_is_given_up(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.always("GET", BLOB, cut(1000, f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}"))
    failure = await failure_of(client)
    assert (failure.code, failure.temporary) == ("truncated", True)
    assert len(registry.requests) == client_module.TRIES


async def test_h066_a_large_blob_may_break_off_as_often_as_it_gets_on(
    registry: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PROGRESS_BYTES", 20_000)

    async def some(request: Request, writer: asyncio.StreamWriter) -> None:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        status = f"206 Partial\r\nContent-Range: bytes {start}-{len(DATA) - 1}/{len(DATA)}" if start else "200 OK"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(DATA) - start}\r\n\r\n"
        writer.write(head.encode() + DATA[start : start + 25_000])
        await writer.drain()

    registry.always("GET", BLOB, some)
    assert await blob_of(client) == DATA
    assert len(registry.requests) == len(DATA) // 25_000


@pytest.mark.parametrize(
    "second",
    [
        Answer(200, {}, DATA),
        Answer(206, {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, DATA),
        Answer(206, {}, DATA[100_000:]),
        Answer(206, {"Content-Range": "bytes 1000000-2000000/3000000"}, DATA[100_000:]),
        Answer(206, {"Content-Range": "lines 100000-"}, DATA[100_000:]),
        Answer(416),
        Answer(200, {"ETag": '"another"'}, DATA),
    ],
    ids=["whole", "from-zero", "no-range", "another-range", "another-unit", "416", "etag"],
)
async def test_h067_an_answer_that_does_not_go_on_where_it_broke_is_taken_from_the_start(
    registry: FakeRegistry, client: RegistryClient, second: Answer
) -> None:
    """The hash is fed each byte once: what came before is skipped exactly."""
    registry.once("GET", BLOB, cut(100_000, f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}"), second)
    assert await blob_of(client) == DATA
    last = registry.requests[-1].headers.get("range")
    assert last == ("bytes=100000-" if second.status == 200 else None)


async def test_h067_two_content_ranges_are_none(registry: FakeRegistry, client: RegistryClient) -> None:
    right = f"Content-Range: bytes 100000-{len(DATA) - 1}/{len(DATA)}"
    head = f"HTTP/1.1 206 Partial\r\n{right}\r\nContent-Range: bytes 5-9/10\r\nContent-Length: {len(DATA) - 100_000}\r\n\r\n"
    registry.once("GET", BLOB, cut(100_000, f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}"))
    registry.once("GET", BLOB, head.encode() + DATA[100_000:])
    assert await blob_of(client) == DATA
    assert len(registry.requests) == 3


async def test_h067_a_part_that_was_not_asked_for_is_refused(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.always("GET", BLOB, Answer(206, {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, DATA))
    assert (await failure_of(client)).code == "bad-range"


async def test_h067_a_blob_that_changed_between_two_parts_is_noticed(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.once("GET", BLOB, cut(100_000, f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}"))
    registry.blobs[DIGEST] = os.urandom(len(DATA))
    assert (await failure_of(client)).code == "digest-mismatch"


# Slots


async def test_streams_that_are_left_unread_give_their_places_back(registry: FakeRegistry, client: RegistryClient) -> None:
    for _ in range(2 * PARALLEL):
        stream = client.blob("app", DIGEST, len(DATA))
        assert await anext(stream)
        await stream.aclose()
    async with asyncio.timeout(5):
        assert await blob_of(client) == DATA


async def test_long_transfers_do_not_keep_short_questions_waiting(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.push("app:1", IMAGE)
    streams = [client.blob("app", DIGEST, len(DATA)) for _ in range(2 * PARALLEL)]
    begun = [asyncio.create_task(anext(stream)) for stream in streams]
    async with asyncio.timeout(5):
        await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
        assert await client.head("app", "1") == digest
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)
    for stream in streams:
        await stream.aclose()


async def test_connections_are_used_again(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.push("app:1", IMAGE)
    for _ in range(20):
        await client.head("app", "1")
        await client.manifest("app", "1")
        await client.head("app", "absent")
    assert registry.connections <= 2


# What a registry says of its errors


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"errors": [{"code": "DENIED", "message": "no such thing"}]}', "no such thing"),
        (b'{"errors": [{"code": "DENIED"}, 7, null, {"message": "b"}]}', "DENIED; b"),
        (b"<html><body>Bad gateway</body></html>", ""),
        (b"{", ""),
        (b'{"errors": "none"}', ""),
        (b"[]", ""),
        (b"", ""),
        (b'{"errors": [{"message": "' + b"x" * 60_000 + b'"}]}', "x" * 300),
        (b'{"errors": [{"message": "' + b"x" * (10 << 20) + b'"}]}', ""),
        (b'{"errors": [{"message": "\\u001b[31mred\\n\\u202eevil"}]}', "\\x1b[31mred\\x0a\\u202eevil"),
    ],
    ids=["json", "odd-rows", "html", "broken", "no-list", "no-object", "empty", "long", "10-MB", "controls"],
)
async def test_h075_an_error_is_told_in_the_registry_s_words_where_it_has_any(
    registry: FakeRegistry, client: RegistryClient, body: bytes, said: str
) -> None:
    registry.always("GET", "/manifests/1", Answer(400, {}, body))
    with pytest.raises(SourceError) as failure:
        await client.manifest("app", "1")
    assert str(failure.value) == f"{registry.host} answers 400" + (f": {said}" if said else "")
    assert (failure.value.code, failure.value.temporary) == ("http-400", False)


async def test_h075_an_error_of_an_unknown_kind_is_known_by_its_status(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.once("GET", "/manifests/1", error(403, "SOMETHING_NEW"))
    with pytest.raises(SourceError) as failure:
        await client.manifest("app", "1")
    assert (failure.value.code, failure.value.temporary) == ("denied", False)
