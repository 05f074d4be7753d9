"""The pull side of the distribution API for one registry: catalog, tags, manifests, blobs.

HEAD before GET, GET only by need (hostile 60). Every request is tried again where that can help, with pauses that grow and
are drawn at random; a host that asks for peace gets it; after five failures in a row nobody asks for a while (hostile 59, 70).
Blobs are streams that resume where they broke and that raise at their end unless digest and size hold.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from analyzers.errors import Malformed, Rejected
from analyzers.oci import INDEX_TYPES, MANIFEST_TYPES, Digest, load_json
from service.blobs import collect, verified
from service.errors import SourceError
from service.outbound import Outbound, is_loopback
from service.registry.auth import Authenticator, parse_challenges
from service.registry.credentials import Credentials
from service.sources.manifests import sha256
from service.sources.settings import RegistrySettings

MANIFEST_BYTES = 8 << 20
ERROR_BYTES = 64 << 10
LISTING_BYTES = 16 << 20
LISTING_PAGES = 10_000
TRIES = 5
PAUSE_FIRST_SECONDS = 1.0
PAUSE_LONGEST_SECONDS = 60.0
PATIENCE_SECONDS = 10.0
"""A longer wait than this is not sat out inside a request: the job comes back later."""
RETRY_AFTER_LONGEST = 3600.0
BREAKER_FAILURES = 5
BREAKER_SECONDS = 60.0
PARALLEL = 4
RATE_WINDOW_SECONDS = 60.0
RATE_BYTES = 64 * 1024
_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_API_HOSTS = {"docker.io": "registry-1.docker.io"}


class Listing:
    """Names, and whether they are all there are."""

    def __init__(self, names: list[str], *, complete: bool = True) -> None:
        self.names = names
        self.complete = complete


class RegistryClient:
    """One registry. Safe for many tasks of one loop; `outbound` is closed by its owner."""

    def __init__(
        self,
        settings: RegistrySettings,
        outbound: Outbound,
        credentials: Credentials,
        *,
        tries: int = TRIES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.host = settings.host
        api_host = _API_HOSTS.get(settings.host, settings.host)
        bare = URL(f"https://{api_host}").host or api_host
        scheme = "http" if settings.insecure or is_loopback(bare) else "https"
        self._base = URL(f"{scheme}://{api_host}/v2/")
        self._outbound = outbound
        self._auth = Authenticator(api_host, outbound, credentials, frozenset(settings.trusted_hosts), clock)
        self._slots = asyncio.Semaphore(PARALLEL)
        self._tries = tries
        self._clock = clock
        self._sleep = sleep
        self._quiet_until = 0.0
        self._failures = 0

    async def head(self, repository: str, reference: str) -> str | None:
        """Digest of a manifest, or None when there is none. Falls back to GET for servers without HEAD (hostile 74)."""
        path = f"{repository}/manifests/{reference}"
        asked = self._ask("HEAD", path, _pull(repository), {"Accept": _ACCEPT}, also_good=(404, 405, 501))
        async with asked as response:
            if response.status == 404:
                return None
            if response.status == 200 and (stated := response.headers.get("Docker-Content-Digest")):
                try:
                    return Digest(stated)
                except Malformed as error:
                    raise SourceError(f"{self.host}: {error}", temporary=False, code="bad-digest") from error
        body, _ = await self.manifest(repository, reference)
        return sha256(body)

    async def manifest(self, repository: str, reference: str) -> tuple[bytes, str]:
        """Body and content type. Verified when `reference` is a digest. Raises SourceError (`not-found`, ...)."""
        async with self._ask("GET", f"{repository}/manifests/{reference}", _pull(repository), {"Accept": _ACCEPT}) as response:
            chunks: AsyncIterator[bytes] = _body(response, self._clock)
            if reference.startswith(("sha256:", "sha512:")):
                chunks = verified(chunks, reference)
            return await collect(chunks, MANIFEST_BYTES), response.headers.get("Content-Type", "")

    async def catalog(self) -> Listing:
        """Every repository. Raises SourceError where the registry refuses its catalog."""
        return await self._pages("_catalog?n=1000", "registry:catalog:*", "repositories")

    async def tags(self, repository: str) -> Listing | None:
        """Every tag of a repository; None when there is no such repository."""
        try:
            return await self._pages(f"{repository}/tags/list?n=1000", _pull(repository), "tags")
        except SourceError as error:
            if error.code == "not-found":
                return None
            raise

    async def _pages(self, first: str, scope: str, field: str) -> Listing:
        names: dict[str, None] = {}
        url = self._base.join(URL(first))
        for _ in range(LISTING_PAGES):
            async with self._ask("GET", url, scope, {}) as response:
                fields = _listing(await collect(_body(response, self._clock), LISTING_BYTES), self.host)
                rows = fields.get(field)
                before = len(names)
                names.update((row, None) for row in (rows if isinstance(rows, list) else ()) if isinstance(row, str))
                following = _next_page(response, url)
            if following is None or len(names) == before:
                return Listing(list(names), complete=following is None)
            if following.origin() != self._base.origin():
                return Listing(list(names), complete=False)
            url = following
        return Listing(list(names), complete=False)

    async def blob(self, repository: str, digest: str, size: int | None) -> AsyncIterator[bytes]:
        """A blob as stored. Resumes by Range when the transfer breaks; raises SourceError unless digest and size hold."""
        async for chunk in verified(self._resumed(repository, Digest(digest), size), digest, size):
            yield chunk

    async def _resumed(self, repository: str, digest: Digest, size: int | None) -> AsyncIterator[bytes]:
        done = 0
        for attempt in range(TRIES):
            headers = {"Range": f"bytes={done}-"} if done else {}
            try:
                async with self._ask("GET", f"{repository}/blobs/{digest}", _pull(repository), headers) as response:
                    skip = _bytes_to_skip(response, done, self.host)
                    async for chunk in _body(response, self._clock):
                        fresh = chunk[skip:] if skip else chunk
                        skip -= len(chunk) - len(fresh)
                        if fresh:
                            done += len(fresh)
                            yield fresh
                if size is None or done >= size:
                    return
            except SourceError as error:
                if not error.temporary or error.code in ("digest-mismatch", "bad-encoding") or attempt == TRIES - 1:
                    raise
            await self._sleep(_pause(attempt))
        raise SourceError(f"{self.host}: {digest} ends after {done} of {size} bytes", code="truncated")

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str | URL,
        scope: str,
        headers: dict[str, str],
        *,
        also_good: tuple[int, ...] = (),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One good answer: 200, 206, or one that the caller knows how to take. Raises SourceError after tries that could help."""
        url = path if isinstance(path, URL) else self._base.join(URL(path))
        challenged = attempt = 0
        handed_over = False
        while True:
            self._check_breaker()
            failure: SourceError
            async with self._slots:
                try:
                    async with self._outbound.request(method, url, headers | self._auth.header(scope)) as response:
                        if response.status == 401 and challenged < 2:
                            challenged += 1
                            self._auth.forget(scope)
                            stated = ", ".join(response.headers.getall("WWW-Authenticate", []))
                            await self._auth.answer(parse_challenges(stated), scope, url)
                            continue
                        if response.status in (200, 206, *also_good):
                            self._failures = 0
                            handed_over = True
                            yield response
                            return
                        failure = await self._failure(response)
                except SourceError as error:
                    if handed_over:
                        raise  # what goes wrong with the body is for whoever reads it
                    failure = error
            if not failure.temporary:
                raise failure
            if failure.code != "rate-limited":
                self._failures += 1
                if self._failures >= BREAKER_FAILURES:
                    self._quiet_until = max(self._quiet_until, self._clock() + BREAKER_SECONDS)
            attempt += 1
            if attempt >= self._tries or failure.retry_after > PATIENCE_SECONDS:
                raise failure
            await self._sleep(max(failure.retry_after, _pause(attempt - 1)))

    def _check_breaker(self) -> None:
        left = self._quiet_until - self._clock()
        if left > 0:
            raise SourceError(f"{self.host} is left in peace for {left:.0f} s more", code="rate-limited", retry_after=left)

    async def _failure(self, response: aiohttp.ClientResponse) -> SourceError:
        detail = await _error_text(response)
        said = f"{self.host} answers {response.status}" + (f": {detail}" if detail else "")
        if response.status == 404:
            return SourceError(said, temporary=False, code="not-found")
        if response.status in (401, 403):
            return SourceError(said, temporary=False, code="unauthorized" if response.status == 401 else "denied")
        if response.status == 429 or "Retry-After" in response.headers:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            self._quiet_until = max(self._quiet_until, self._clock() + wait)
            return SourceError(said, code="rate-limited", retry_after=wait)
        return SourceError(said, temporary=response.status in _TEMPORARY, code=f"http-{response.status}")


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _pause(attempt: int) -> float:
    """Full jitter: anywhere between nothing and a bound that doubles."""
    return random.uniform(0, min(PAUSE_LONGEST_SECONDS, PAUSE_FIRST_SECONDS * 2.0**attempt))


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header, a number or a date; clipped to an hour, 1 where it says nothing usable."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            seconds = 1.0
    return min(max(seconds, 0.0), RETRY_AFTER_LONGEST) if seconds == seconds else 1.0


def _bytes_to_skip(response: aiohttp.ClientResponse, done: int, host: str) -> int:
    """How much of this answer we have already. Raises SourceError for a range we did not ask for (hostile 67)."""
    if response.status == 200:
        return done
    stated = response.headers.getall("Content-Range", [])
    if not done or len(stated) != 1 or not stated[0].startswith(f"bytes {done}-"):
        raise SourceError(f"{host} sends a range that was not asked for", code="bad-range")
    return 0


async def _body(response: aiohttp.ClientResponse, clock: Callable[[], float]) -> AsyncIterator[bytes]:
    """The body in pieces, as long as it comes at a least rate (hostile 68). Raises SourceError."""
    window, received = clock(), 0
    try:
        # Each piece as the socket gave it: joined ones would have left the processor's cache before they are hashed.
        async for chunk, _ in response.content.iter_chunks():
            received += len(chunk)
            yield chunk
            now = clock()
            if now - window >= RATE_WINDOW_SECONDS:
                if received < RATE_BYTES * (now - window):
                    raise SourceError(f"{response.url.host} sends {received} bytes in a minute", code="slow")
                window, received = now, 0
    except TimeoutError as error:
        raise SourceError(f"{response.url.host} stopped sending", code="slow") from error
    except (aiohttp.ClientError, OSError) as error:
        raise SourceError(f"{response.url.host} broke off: {type(error).__name__}", code="truncated") from error


def _listing(body: bytes, host: str) -> dict[str, object]:
    try:
        fields = load_json(body, LISTING_BYTES)
    except Rejected as error:
        raise SourceError(f"{host}: its listing is not readable: {error.detail}") from error
    return fields if isinstance(fields, dict) else {}


def _next_page(response: aiohttp.ClientResponse, url: URL) -> URL | None:
    link = response.headers.get("Link", "")
    target, _, parameters = link.partition(">")
    if not target.startswith("<") or 'rel="next"' not in parameters.replace("rel=next", 'rel="next"'):
        return None
    return url.join(URL(target[1:]))


async def _error_text(response: aiohttp.ClientResponse) -> str:
    """The registry's own words, as far as there are any: JSON errors, else nothing (proxies send pages)."""
    try:
        async with asyncio.timeout(10):
            fields = load_json(await collect(response.content.iter_any(), ERROR_BYTES), ERROR_BYTES)
    except (Rejected, SourceError, TimeoutError, aiohttp.ClientError):
        return ""
    rows = fields.get("errors") if isinstance(fields, dict) else None
    if not isinstance(rows, list):
        return ""
    words = [str(row.get("message") or row.get("code") or "") for row in rows if isinstance(row, dict)]
    return "; ".join(word[:200] for word in words if word)
