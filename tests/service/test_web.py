"""Health, metrics, who may do what, and the headers of every answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from analyzers.finding import Severity
from service.secret import Secret
from service.settings import ListenSettings, MetricsSettings, Settings, TokenSettings
from service.web import mask
from tests.make.reports import failing, starting
from tests.make.site import World


@pytest.fixture
def world() -> World:
    made = World()
    made.show(starting(1), "shop/api", "1.0")
    made.show(failing(2), "shop/report", "1.0")
    return made


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(world.app())) as made:
        yield made


TOKENS = (
    (TokenSettings(name="reader", scopes=("read",)), Secret("read-me-0123456789")),
    (TokenSettings(name="operator", scopes=("read", "rescan")), Secret("look-again-0123456789")),
)


@pytest.fixture
async def guarded(world: World) -> AsyncIterator[TestClient]:
    settings = Settings(listen=ListenSettings(address="0.0.0.0"))
    async with TestClient(TestServer(world.app(settings=settings, tokens=TOKENS))) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_livez_says_that_the_loop_turns(client: TestClient) -> None:
    assert (await client.get("/livez")).status == 200


async def test_readyz_says_why_not(client: TestClient, world: World) -> None:
    assert (await client.get("/readyz")).status == 200
    world.unready = ["the store takes no writes"]
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert "takes no writes" in await answer.text()


async def test_a_scrape_shows_the_fleet_as_it_is_now(client: TestClient, world: World) -> None:
    text = await (await client.get("/metrics")).text()
    assert 'repository="shop/report",tag="1.0",platform="linux/amd64",verdict="fails",reason="interpreter_absent"} 1' in text
    world.fleet.remove(next(row.sighting for row in world.fleet.rows() if row.repository == "shop/report"))
    text = await (await client.get("/metrics")).text()
    assert "shop/report" not in text


async def test_a_scrape_is_the_same_compressed_and_plain(client: TestClient) -> None:
    await client.get("/livez")
    plain = await (await client.get("/metrics", headers={"Accept-Encoding": "identity"})).read()
    answer = await client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    packed = await answer.read()
    names = [{family.name for family in text_string_to_metric_families(raw.decode())} for raw in (plain, packed)]
    assert names[0] == names[1]


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What Prometheus 2.42 sends."""


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS, "application/openmetrics-text"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.5", "text/plain"),
        ("application/openmetrics-text;q=0, */*", "text/plain"),
        ("application/openmetrics-text;q=high", "text/plain"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain"),
        ("*/*", "text/plain"),
        ("", "text/plain"),
    ],
)
async def test_a_scrape_has_the_form_that_is_asked_for(client: TestClient, accept: str, form: str) -> None:
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.content_type == form
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert (await answer.text()).endswith("\n# EOF\n") == (form == "application/openmetrics-text")


@pytest.mark.parametrize("encoding", ["gzip", "identity", "gzip;q=0"])
async def test_both_forms_say_the_same(client: TestClient, world: World, encoding: str) -> None:
    world.metrics.analysed("done", 2.0)
    world.metrics.analysed('"odd"\n', 0.3)

    async def samples(accept: str, families: Callable[[str], Iterable[Metric]]) -> dict[tuple[str, str], float]:
        answer = await client.get("/metrics", headers={"Accept-Encoding": encoding, "Accept": accept})
        assert answer.headers.get("Content-Encoding") == ("gzip" if encoding == "gzip" else None)
        return {
            (sample.name, str(sorted(sample.labels.items()))): sample.value
            for family in families(await answer.text())
            for sample in family.samples
            if not sample.name.startswith("process_") and sample.name != "enoent_http_requests_total"
        }

    text = await samples("text/plain", text_string_to_metric_families)
    assert await samples(PROMETHEUS, openmetrics.text_string_to_metric_families) == text
    assert text["enoent_analysis_duration_seconds_bucket", "[('le', '2.5')]"] == 2


async def test_an_excluded_image_is_counted_and_has_no_series_of_its_own(world: World) -> None:
    settings = Settings(metrics=MetricsSettings(exclude=("registry.example.test/shop/re*", "elsewhere/*")))
    async with TestClient(TestServer(world.app(settings=settings))) as client:
        text = await (await client.get("/metrics")).text()
        assert "shop/report" in await (await client.get("/")).text()
    assert 'repository="shop/api"' in text
    assert "shop/report" not in text
    assert "enoent_fleet_excluded_images 1\n" in text
    assert 'verdict="fails",reason="interpreter_absent"} 1\n' in text
    [layers] = re.findall(r"^enoent_fleet_layers (\d+)$", text, re.MULTILINE)
    assert int(layers) == 4


async def test_every_answer_has_the_content_policy(client: TestClient) -> None:
    for path in ("/", "/nowhere", "/metrics", "/api/v1/images", "/api/v1/images?x=1"):
        answer = await client.get(path)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers


async def test_what_is_not_there_is_a_problem(client: TestClient) -> None:
    answer = await client.get("/nowhere")
    assert answer.status == 404
    assert answer.content_type == "application/problem+json"
    answer = await client.put("/api/v1/images")
    assert answer.status == 405
    assert "GET" in answer.headers["Allow"]


async def test_tokens_close_everything_but_the_health_checks(guarded: TestClient) -> None:
    for path in ("/", "/metrics", "/config", "/api/v1/images", "/api/v1/openapi.json", "/findings"):
        assert (await guarded.get(path)).status == 401
    for path in ("/livez", "/readyz", "/static/enoent.css"):
        assert (await guarded.get(path)).status == 200


async def test_a_token_opens_what_its_scopes_say(guarded: TestClient, world: World) -> None:
    assert (await guarded.get("/api/v1/images", headers=bearer("read-me-0123456789"))).status == 200
    body = {"repository": "shop/api"}
    assert (await guarded.post("/api/v1/rescan", json=body, headers=bearer("read-me-0123456789"))).status == 403
    assert (await guarded.post("/api/v1/rescan", json=body, headers=bearer("look-again-0123456789"))).status == 202
    assert [sighting.repository for sighting in world.rescanned] == ["shop/api"]


async def test_wrong_and_doubled_tokens_are_refused(guarded: TestClient) -> None:
    assert (await guarded.get("/api/v1/images", headers=bearer("read-me"))).status == 401
    assert (await guarded.get("/api/v1/images", headers=bearer(""))).status == 401
    twice = [("Authorization", "Bearer read-me-0123456789"), ("Authorization", "Bearer read-me-0123456789")]
    assert (await guarded.get("/api/v1/images", headers=twice)).status == 401
    assert (await guarded.get("/api/v1/images?token=read-me-0123456789")).status == 401


async def test_a_browser_gives_the_token_as_password(guarded: TestClient) -> None:
    answer = await guarded.get("/", headers={"Accept": "text/html"})
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    basic = {"Authorization": "Basic bWU6cmVhZC1tZS0wMTIzNDU2Nzg5"}
    assert (await guarded.get("/", headers=basic)).status == 200


def test_another_bind_than_loopback_without_tokens_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        world.app(settings=Settings(listen=ListenSettings(address="0.0.0.0")))


async def test_another_bind_may_be_open_when_that_is_said(world: World) -> None:
    settings = Settings(listen=ListenSettings(address="0.0.0.0", auth="none"))
    async with TestClient(TestServer(world.app(settings=settings))) as client:
        assert (await client.get("/api/v1/images")).status == 200


async def test_loopback_answers_to_loopback_names_only(client: TestClient) -> None:
    assert (await client.get("/", headers={"Host": "evil.example.test"})).status == 421
    assert (await client.get("/", headers={"Host": "localhost:8736"})).status == 200


async def test_forms_of_other_sites_are_refused(client: TestClient, world: World) -> None:
    answer = await client.post("/api/v1/rescan", json={"tag": "1.0"}, headers={"Origin": "https://evil.example.test"})
    assert answer.status == 403
    assert world.rescanned == []


SECRET = "planted-6f1c0a"


class Upstream(msgspec.Struct):
    url: str = f"https://robot:{SECRET}@registry.example.test/v2?sig={SECRET}"
    password: str = SECRET
    proxy: str = f"http://{SECRET}@proxy.example.test:3128"
    webhook_secret: str = SECRET


class Planted(msgspec.Struct):
    listen: ListenSettings = ListenSettings()
    sources: tuple[Upstream, ...] = (Upstream(),)
    api_token: str = SECRET


async def test_h142_no_page_metric_or_answer_shows_a_secret(world: World) -> None:
    tokens = ((TokenSettings(name="reader"), Secret(SECRET)),)
    async with TestClient(TestServer(world.app(settings=Planted(), tokens=tokens))) as client:
        image = world.fleet.rows()[0].image_id
        for path in (
            "/config", "/metrics", "/", "/sources", "/findings", "/readyz", "/api/v1/images", "/api/v1/openapi.json",
            f"/images/{image}", "/api/v1/images?cursor=x", "/api/v1/nothing",
        ):  # fmt: skip
            answer = await client.get(path, headers=bearer(SECRET))
            assert SECRET not in await answer.text(), path
            assert SECRET not in str(answer.headers), path
        config = await (await client.get("/config", headers=bearer(SECRET))).json()
        assert config["sources"][0]["url"].startswith("https://***@registry.example.test/")


def test_masking_keeps_what_is_no_secret() -> None:
    assert mask({"listen": {"port": 8736, "auth": "none"}, "tokens": [{"token": {"file": "/run/token"}}]}) == {
        "listen": {"port": 8736, "auth": "none"},
        "tokens": [{"token": {"file": "/run/token"}}],
    }


async def test_an_unknown_severity_never_hides_a_page(client: TestClient) -> None:
    assert (await client.get(f"/?severity={Severity.FATAL}")).status == 200
