"""The pull side of the distribution API for one registry: catalog, tags, manifests, blobs.

HEAD before GET, GET only by need (hostile 60). Every request is tried again where that can help, with pauses that grow and
are drawn at random; a host that asks for peace gets it; after five failures in a row nobody asks for a while (hostile 59, 70).
Blobs are streams that resume where they broke and that raise at their end unless digest and size hold.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from analyzers.errors import Malformed, Rejected
from analyzers.finding import show
from analyzers.oci import INDEX_TYPES, MANIFEST_TYPES, Digest, load_json
from service.blobs import collect, verified
from service.errors import SourceError
from service.outbound import Outbound, is_loopback
from service.registry.auth import Authenticator, LoadCredentials, parse_challenges
from service.registry.listing import LISTING_BYTES, LISTING_NAMES, LISTING_PAGES, Listing, names_of, next_page
from service.registry.patience import Patience, retry_after
from service.sources.manifests import sha256
from service.sources.settings import RegistrySettings

MANIFEST_BYTES = 8 << 20
ERROR_BYTES = 64 << 10
ERROR_SECONDS = 10.0
ERROR_WORDS = 300
TRIES = 5
PAUSE_FIRST_SECONDS = 1.0
PAUSE_LONGEST_SECONDS = 60.0
PATIENCE_SECONDS = 10.0
"""A longer wait than this is not sat out inside a request: the job comes back later."""
PROGRESS_BYTES = 4 << 20
"""A transfer that broke after so much more is not counted as a try: honest layers may take hours."""
_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_RESUMABLE = frozenset({"truncated", "slow", "bad-range"})
_API_HOSTS = {"docker.io": "registry-1.docker.io"}


class RegistryClient:
    """One registry. Safe for many tasks of one loop; `outbound` is closed by its owner."""

    def __init__(
        self,
        settings: RegistrySettings,
        outbound: Outbound,
        load_credentials: LoadCredentials,
        *,
        tries: int = TRIES,
        reserve: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.host = settings.host
        api_host = _API_HOSTS.get(settings.host, settings.host)
        bare = URL(f"https://{api_host}").host or api_host
        """`reserve`: share of a quota that the registry states which is left for others: below it no more is polled."""
        scheme = "http" if settings.insecure or is_loopback(bare) else "https"
        self._base = URL(f"{scheme}://{api_host}/v2/")
        self._outbound = outbound
        self._auth = Authenticator(api_host, outbound, load_credentials, frozenset(settings.trusted_hosts), clock)
        self._patience = Patience(settings.host, clock)
        self._slots = asyncio.Semaphore(settings.parallel)
        # Long transfers leave one place for short questions.
        self._transfers = asyncio.Semaphore(max(1, settings.parallel - 1))
        self._reserve = reserve
        self._tries = tries
        self._sleep = sleep

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
            chunks = self._outbound.body(response)
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
                body = await collect(self._outbound.body(response), LISTING_BYTES)
                following, honest = next_page(response.headers.getall("Link", ()), url, self._base)
            before = len(names)
            names.update(dict.fromkeys(names_of(body, field, self.host)))
            if following is None or len(names) == before or len(names) > LISTING_NAMES:
                return Listing(list(names), complete=honest and following is None)
            url = following
        return Listing(list(names), complete=False)

    def blob(self, repository: str, digest: str, size: int | None) -> AsyncGenerator[bytes, None]:
        """A blob as stored. Resumes by Range when the transfer breaks; raises SourceError unless digest and size hold."""
        return verified(self._resumed(repository, Digest(digest), size), digest, size)

    def blob_from(self, repository: str, digest: Digest, size: int | None, start: int) -> AsyncGenerator[bytes, None]:
        """A blob from this byte on, for who verifies it himself."""
        return self._resumed(repository, digest, size, start)

    async def _resumed(self, repository: str, digest: Digest, size: int | None, start: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes in order, none twice; a server that cannot go on where it broke off sends all again, and that is skipped."""
        done, attempt = start, 0
        ranged = True
        while True:
            begun = done
            headers = {"Range": f"bytes={done}-"} if done and ranged else {}
            failure: SourceError | None = None
            try:
                path = f"{repository}/blobs/{digest}"
                asked = self._ask("GET", path, _pull(repository), headers, also_good=(416,), spares=False)
                async with self._transfers, asked as response:
                    skip = _bytes_to_skip(response, done, self.host)
                    async for chunk in self._outbound.body(response):
                        fresh = chunk[skip:] if skip else chunk
                        skip -= len(chunk) - len(fresh)
                        if fresh:
                            done += len(fresh)
                            yield fresh
                    if size is None or done >= size or (response.status == 200 and not skip and done == begun > 0):
                        return  # whether that is all, and the right bytes, is for the digest to say
            except SourceError as error:
                if error.code not in _RESUMABLE:
                    raise
                failure, ranged = error, ranged and error.code != "bad-range"
            attempt = 1 if done - begun >= PROGRESS_BYTES else attempt + 1
            if attempt >= TRIES:
                raise failure or SourceError(f"{self.host}: {digest} ends after {done} of {size} bytes", code="truncated")
            await self._sleep(_pause(attempt - 1))

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str | URL,
        scope: str,
        headers: dict[str, str],
        *,
        also_good: tuple[int, ...] = (),
        spares: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One good answer: 200, 206, or one that the caller knows how to take. Raises SourceError after tries that could help.

        `spares`: it may count against a quota, so that it waits while little of that is left.
        """
        url = path if isinstance(path, URL) else self._base.join(URL(path))
        challenged = attempt = 0
        handed_over = False
        while True:
            if (left := self._patience.left_for(spares=spares)) > PATIENCE_SECONDS:
                raise self._patience.refusal(spares=spares)
            if left:
                await self._sleep(left)
            failure: SourceError
            async with self._slots:
                if self._patience.left_for(spares=spares):
                    continue  # while we waited for a place another task was refused
                self._patience.begin()
                authorization = self._auth.header(scope)
                try:
                    async with self._outbound.request(method, url, headers | authorization) as response:
                        if response.status < 500 and response.status != 429:
                            self._patience.answered()
                        if self._reserve:
                            self._patience.note_quota(response.headers, self._reserve)
                        # Who we were sent to may want credentials of his own; he gets none (hostile 64).
                        if response.status == 401 and challenged < 2 and response.url.origin() == url.origin():
                            stated = ", ".join(response.headers.getall("WWW-Authenticate", ()))
                            await self._auth.answer(parse_challenges(stated), scope, url, authorization)
                            challenged += 1
                            continue
                        if response.status in (200, 206, *also_good):
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
            # An answer that tells of a fault may concern one image only: it counts once, whatever the number of tries.
            if failure.code != "rate-limited" and (attempt == 0 or not failure.code.startswith("http-")):
                self._patience.failed()
            attempt += 1
            if attempt >= self._tries or failure.retry_after > PATIENCE_SECONDS or self._patience.broken:
                raise failure
            await self._sleep(max(failure.retry_after, _pause(attempt - 1)))

    async def _failure(self, response: aiohttp.ClientResponse) -> SourceError:
        detail = self._auth.redact(await self._error_text(response))
        said = f"{self.host} answers {response.status}" + (f": {show(detail.encode())}" if detail else "")
        if response.status == 404:
            return SourceError(said, temporary=False, code="not-found")
        if response.status in (401, 403):
            return SourceError(said, temporary=False, code="unauthorized" if response.status == 401 else "denied")
        if response.status == 429 or "Retry-After" in response.headers:
            wait = retry_after(response.headers)
            self._patience.asked_for(wait)
            return SourceError(said, code="rate-limited", retry_after=wait)
        return SourceError(said, temporary=response.status in _TEMPORARY, code=f"http-{response.status}")

    async def _error_text(self, response: aiohttp.ClientResponse) -> str:
        """The registry's own words, as far as there are any: JSON errors, else nothing (proxies send pages)."""
        try:
            async with asyncio.timeout(ERROR_SECONDS):
                fields = load_json(await collect(self._outbound.body(response), ERROR_BYTES), ERROR_BYTES)
        except (Rejected, SourceError, TimeoutError):
            return ""
        rows = fields.get("errors") if isinstance(fields, dict) else None
        if not isinstance(rows, list):
            return ""
        words = [str(row.get("message") or row.get("code") or "")[:ERROR_WORDS] for row in rows if isinstance(row, dict)]
        return "; ".join(filter(None, words))[:ERROR_WORDS]


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _pause(attempt: int) -> float:
    """Full jitter: anywhere between nothing and a bound that doubles."""
    return random.uniform(0, min(PAUSE_LONGEST_SECONDS, PAUSE_FIRST_SECONDS * 2.0**attempt))


def _bytes_to_skip(response: aiohttp.ClientResponse, done: int, host: str) -> int:
    """How much of this answer we have already. Raises SourceError for a range we did not ask for (hostile 67)."""
    if response.status == 200:
        return done
    if response.status == 416:
        raise SourceError(f"{host} has nothing after {done} bytes", code="bad-range")
    stated = response.headers.getall("Content-Range", [])
    if not done or len(stated) != 1 or not stated[0].startswith(f"bytes {done}-"):
        raise SourceError(f"{host} sends a range that was not asked for", code="bad-range")
    return 0
