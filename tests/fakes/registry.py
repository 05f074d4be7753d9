"""A registry on a free port that can be made to misbehave: what real ones cannot be asked to do.

Without faults it is a correct registry in memory: manifests, blobs with ranges, tags and a catalog in pages.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import urllib.parse
from collections.abc import AsyncIterator

from tests.fakes.server import Answer, FakeServer, Request, listening
from tests.make.images import INDEX, MANIFEST, Image, index_of, manifest_of
from tests.make.layers import sha256


def error(status: int, code: str = "", message: str = "", **headers: str) -> Answer:
    """An answer that tells of an error as registries do."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def challenge(realm: str, *, scheme: str = "Bearer", **parameters: str) -> Answer:
    """A 401 that sends the client to `realm`."""
    stated = ",".join(f'{name}="{value}"' for name, value in {"realm": realm, **parameters}.items())
    return Answer(401, {"WWW-Authenticate": f"{scheme} {stated}"})


class FakeRegistry(FakeServer):
    """Content, besides faults and a list of what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        """Body and media type by repository and by tag or digest."""
        self.blobs: dict[str, bytes] = {}
        self.page_size = 1000

    def push(self, name: str, *images: Image, compression: str = "gzip") -> str:
        """Puts images under `repository:tag`; several become an index. Gives the digest of what the tag names."""
        repository, _, tag = name.rpartition(":")
        children = {}
        for image in images:
            body, blobs = manifest_of(image, compression)
            children[image.platform] = body
            self.blobs.update({blob.digest: blob.data for blob in blobs})
            self.manifests[repository, sha256(body)] = body, MANIFEST
        single = len(images) == 1
        return self.put(repository, tag, body if single else index_of(children), MANIFEST if single else INDEX)

    def put(self, repository: str, tag: str, body: bytes, media_type: str = MANIFEST) -> str:
        """Puts these bytes under a tag and under their digest, whatever they are."""
        self.manifests[repository, tag] = self.manifests[repository, sha256(body)] = body, media_type
        return sha256(body)

    def honest(self, request: Request) -> Answer:
        """What a registry without faults answers."""
        path = urllib.parse.unquote(request.path.partition("?")[0]).removeprefix("/v2/")
        if match := re.fullmatch(r"(.+)/manifests/([^/]+)", path):
            found = self.manifests.get((match[1], match[2]))
            if found is None:
                return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            body, media_type = found
            return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": sha256(body)}, body)
        if match := re.fullmatch(r"(.+)/blobs/([^/]+)", path):
            return self._blob(match[2], request.headers.get("range", ""))
        if match := re.fullmatch(r"(.+)/tags/list", path):
            tags = sorted(tag for repository, tag in self.manifests if repository == match[1] and ":" not in tag)
            return self._page(request, "tags", tags, {"name": match[1]}) if tags else error(404, "NAME_UNKNOWN")
        if path == "_catalog":
            return self._page(request, "repositories", sorted({repository for repository, _ in self.manifests}), {})
        return Answer(200) if path == "" else error(404)

    def _blob(self, digest: str, ranged: str) -> Answer:
        data = self.blobs.get(digest)
        if data is None:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if match := re.fullmatch(r"bytes=(\d+)-", ranged):
            start = int(match[1])
            if start >= len(data):
                return Answer(416)
            return Answer(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])
        return Answer(200, {"Accept-Ranges": "bytes"}, data)

    def _page(self, request: Request, field: str, names: list[str], more: dict[str, str]) -> Answer:
        rest = [name for name in names if name > request.query.get("last", "")]
        page = rest[: self.page_size]
        body = json.dumps({**more, field: page}).encode()
        if len(page) == len(rest):
            return Answer(200, {}, body)
        where = request.path.partition("?")[0]
        return Answer(200, {"Link": f'<{where}?last={page[-1]}&n={self.page_size}>; rel="next"'}, body)


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
    """A fake registry for as long as the context lasts."""
    registry = FakeRegistry()
    async with listening(registry, tls):
        yield registry
