"""A whole daemon between a registry that repeats every secret it is told and people who look everywhere for one (I7, row 142)."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

from service.registry.credentials import Credentials
from tests.daemon import LiveDaemon, live
from tests.fakes.registry import challenge, error, serving
from tests.fakes.server import Answer, Request
from tests.make.images import Image
from tests.make.layers import script, tar_of

PASSWORD, TOKEN, SIGNATURE = "PASSWORD-PLANTED", "TOKEN-PLANTED", "SIGNATURE-PLANTED"
USER = Credentials("user", PASSWORD)
PLANTED = [PASSWORD, TOKEN, SIGNATURE, USER.basic.removeprefix("Basic ")]
PAGES = ("/", "/metrics", "/api/v1/images", "/readyz", "/openapi.json", "/sources")
LAYER = tar_of({"bin/run": script("#!/none\n")})


def stored(folder: Path) -> bytes:
    """Every byte that the daemon wrote."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "password")


async def test_h142_a_registry_that_repeats_our_secrets_leaves_none_in_the_state_the_log_or_an_answer(tmp_path: Path) -> None:
    """Its errors quote Authorization, redirects are signed, and one image is good."""
    (tmp_path / "password").write_text(PASSWORD)
    async with serving() as registry, serving() as tokens:
        tokens.always("", "/token", Answer(200, {}, json.dumps({"token": TOKEN}).encode()))
        tokens.always("", "/blob", b"garbage\r\n\r\n")
        for repository in ("good", "echo", "moved"):
            registry.push(f"{repository}:1", Image(layers=(LAYER,), entrypoint=["/bin/run"], labels={"in": repository}))
        registry.manifests["echo", "2"] = registry.manifests["echo", "1"]

        def look(request: Request) -> Answer | None:
            if not request.authorization:
                return challenge(f"http://{tokens.host}/token")
            if request.method == "GET" and "/echo/manifests/" in request.path:
                return error(400, "BAD", f"{request.authorization} of {PASSWORD}, {USER.basic}")
            if request.method == "HEAD" and request.path.endswith("/echo/manifests/2"):
                return error(403, "DENIED", request.authorization)
            if "/moved/manifests/" in request.path and request.method == "GET":
                return Answer(307, {"Location": f"http://user:{PASSWORD}@{tokens.host}/blob?X-Signature={SIGNATURE}"})
            return None

        registry.always("", "", look)
        settings = {
            "registries": [
                {"host": registry.host, "username": "user", "password_file": str(tmp_path / "password"), "poll_seconds": 1.0}
            ],
            "log": {"level": "debug"},
        }
        answers = await asyncio.to_thread(told_by, tmp_path / "daemon", settings)
    assert any(request.authorization == f"Bearer {TOKEN}" for request in registry.requests)
    assert tokens.asked("GET", "/blob")
    everything = answers + stored(tmp_path / "daemon")
    assert b"answers 400" in everything
    assert not [secret for secret in PLANTED if secret.encode() in everything]


def told_by(folder: Path, settings: dict[str, object]) -> bytes:
    """All that a daemon says of a registry with one good image and two that fail."""

    def outcomes(daemon: LiveDaemon) -> set[str]:
        return {item["outcome"] for item in daemon.images() if item["outcome"]}

    with live(folder, settings) as daemon:
        daemon.until(lambda: len(outcomes(daemon)) >= 3 and daemon.logged("repository listing failed"), "three outcomes")
        answers = b"".join(_body(daemon, page) for page in PAGES)
        for item in daemon.images():
            answers += json.dumps(item).encode()
        assert daemon.stop() == 0
    return answers


def _body(daemon: LiveDaemon, page: str) -> bytes:
    _, headers, body = daemon.request("GET", page)
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
