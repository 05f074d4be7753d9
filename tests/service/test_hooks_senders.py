"""What each sender posts, read into hints: the shapes of tests/make/deliveries.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from analyzers.errors import Rejected
from service.hooks.senders import MAX_EVENTS, SENDERS, Hint, Told, read_letter
from tests.make.deliveries import AT, ECR, EVENT_GRID, HARBOR, HARBOR_CLOUD, JFROG, SECONDS, ZOT, A, B, event, github, pubsub


def told(sender: str, body: Any, headers: Mapping[str, str] | None = None, *, pulls: bool = False) -> Told:
    return read_letter(SENDERS[sender], json.dumps(body).encode(), headers or {}, pulls=pulls)


SHAPES: dict[str, tuple[str, Any, dict[str, str], Hint]] = {
    "distribution": (
        "distribution", {"events": [event(tag="1.0")]}, {},
        Hint("shop/api", "1.0", A, host="127.0.0.1:5000", at=SECONDS, delivery="e7a5d6f2-0f3b-4b64-9a9a-9a3a5e0f2f0b"),
    ),
    "distribution, a deleted tag": (
        "gitlab", {"events": [event("delete", tag="1.0", digest="", mediaType="")]}, {},
        Hint("shop/api", "1.0", "", True, "127.0.0.1:5000", SECONDS, "e7a5d6f2-0f3b-4b64-9a9a-9a3a5e0f2f0b"),
    ),
    "distribution, a deleted digest": (
        "distribution", {"events": [event("delete")]}, {},
        Hint("shop/api", "", A, True, "127.0.0.1:5000", SECONDS, "e7a5d6f2-0f3b-4b64-9a9a-9a3a5e0f2f0b"),
    ),
    "Harbor": ("harbor", HARBOR, {}, Hint("shop/api", "1.0", A, host="hub.example", at=SECONDS)),
    "Harbor, CloudEvents": (
        "harbor", HARBOR_CLOUD, {}, Hint("shop/api", "1.0", A, True, "hub.example", SECONDS, "c1 1.0"),
    ),
    "Docker Hub": (
        "dockerhub",
        {
            "callback_url": "http://169.254.169.254/latest", "push_data": {"pushed_at": SECONDS, "pusher": "ann", "tag": "1.0"},
            "repository": {"repo_name": "octo/api", "name": "api", "namespace": "octo", "repo_url": "https://hub.docker.com/r/x"},
        },
        {}, Hint("octo/api", "1.0", at=SECONDS),
    ),
    "Quay": (
        "quay",
        {"name": "api", "repository": "octo/api", "namespace": "octo", "docker_url": "quay.io/octo/api", "updated_tags": ["1.0"]},
        {}, Hint("octo/api", "1.0", host="quay.io"),
    ),
    "Quay of old": (
        "quay", {"repository": "octo/api", "docker_url": "quay.io/octo/api", "updated_tags": {"1.0": "4e2c"}},
        {}, Hint("octo/api", "1.0", host="quay.io"),
    ),
    "GitHub": (
        "github", github(), {"x-github-event": "registry_package", "x-github-delivery": "d1"},
        Hint("octo/api", "1.0", A, host="ghcr.io", at=SECONDS, delivery="d1"),
    ),
    "GitHub, package": (
        "github", github("package"), {"x-github-event": "package", "x-github-delivery": "d1"},
        Hint("octo/api", "1.0", A, host="ghcr.io", at=SECONDS, delivery="d1"),
    ),
    "ECR": (
        "ecr", ECR, {},
        Hint("shop/api", "1.0", A, host="123456789012.dkr.ecr.us-west-2.amazonaws.com", at=SECONDS, delivery="13cde686"),
    ),
    "Artifact Registry": (
        "google",
        pubsub({"action": "INSERT", "digest": f"eu-docker.pkg.dev/p/shop/api@{A}", "tag": "eu-docker.pkg.dev/p/shop/api:1.0"}),
        {}, Hint("p/shop/api", "1.0", A, host="eu-docker.pkg.dev", at=SECONDS, delivery="m1"),
    ),
    "GCR, a deleted tag": (
        "google", pubsub({"action": "DELETE", "tag": "gcr.io/p/api:1.0"}), {},
        Hint("p/api", "1.0", "", True, "gcr.io", SECONDS, "m1"),
    ),
    "ACR": (
        "acr",
        {
            "id": "w1", "timestamp": AT, "action": "push", "target": {"repository": "shop/api", "tag": "1.0", "digest": A},
            "request": {"host": "x.azurecr.io"},
        },
        {}, Hint("shop/api", "1.0", A, host="x.azurecr.io", at=SECONDS, delivery="w1"),
    ),
    "ACR by Event Grid": ("acr", [EVENT_GRID], {}, Hint("shop/api", "1.0", A, host="x.azurecr.io", at=SECONDS, delivery="g1")),
    "zot, binary": (
        "zot", ZOT, {"ce-type": "zotregistry.image.updated", "ce-id": "z1", "ce-time": AT},
        Hint("shop/api", "1.0", A, at=SECONDS, delivery="z1"),
    ),
    "zot, structured": (
        "zot", {"specversion": "1.0", "type": "acme.image.updated", "id": "z1", "time": AT, "data": ZOT}, {},
        Hint("shop/api", "1.0", A, at=SECONDS, delivery="z1"),
    ),
    "Artifactory": ("artifactory", JFROG, {}, Hint("docker-local/shop/api", "1.0", A)),
    "Artifactory, flat": ("artifactory", {**JFROG, **JFROG["data"], "data": None}, {}, Hint("docker-local/shop/api", "1.0", A)),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_push_is_read_from_what_its_sender_posts(shape: str) -> None:
    sender, body, headers, hint = SHAPES[shape]
    assert told(sender, body, headers) == Told((hint,))


def test_every_sender_has_a_shape() -> None:
    assert {sender for sender, _, _, _ in SHAPES.values()} == set(SENDERS)


@pytest.mark.parametrize(
    ("sender", "body", "headers"),
    [
        ("distribution", {"events": [event("pull", tag="1.0")]}, {}),
        ("distribution", {"events": [event("mount", digest=A)]}, {}),
        ("distribution", {"events": [event(mediaType="application/octet-stream")]}, {}),
        ("harbor", {**HARBOR, "type": "SCANNING_COMPLETED"}, {}),
        ("github", github(package_type="npm", ecosystem="npm"), {"x-github-event": "package"}),
        ("github", {"zen": "Keep it logically awesome."}, {"x-github-event": "ping"}),
        ("ecr", {**ECR, "detail": {**ECR["detail"], "result": "FAILURE"}}, {}),  # type: ignore[dict-item]
        ("ecr", {**ECR, "detail-type": "ECR Image Scan"}, {}),
        ("acr", {"id": "p", "action": "ping"}, {}),
        ("acr", [{**EVENT_GRID, "eventType": "Microsoft.ContainerRegistry.ChartPushed"}], {}),
        ("zot", ZOT, {"ce-type": "zotregistry.repository.created"}),
        ("artifactory", {**JFROG, "event_type": "promoted"}, {}),
    ],
)
def test_what_is_no_push_of_an_image_is_ignored(sender: str, body: Any, headers: dict[str, str]) -> None:
    assert told(sender, body, headers) == Told(ignored=1)


def test_pulls_count_where_the_settings_say_so_except_our_own() -> None:
    others, ours = event("pull", tag="1.0"), event("pull", tag="1.0")
    ours["request"]["useragent"] = "enoent"
    read = told("distribution", {"events": [others, ours]}, pulls=True)
    assert [hint.tag for hint in read.hints] == ["1.0"]
    assert read.ignored == 1


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("body", [[], {}, 0, "x", None, {"events": 1}, {"push_data": []}, [[]], {"message": {"data": "%"}}])
def test_a_body_of_another_shape_is_refused_and_nothing_breaks(sender: str, body: Any) -> None:
    try:
        read = told(sender, body, {"x-github-event": "package"})
    except Rejected as rejected:
        assert rejected.code == "bad-event"  # noqa: PT017 - either answer is right
    else:
        assert not read.hints


@pytest.mark.parametrize("repository", ["../../etc", "shop/api?x=1", "http://10.0.0.1/x", "SHOP/api", "", "a" * 300, "shop//api"])
def test_a_name_that_can_be_none_is_dropped(repository: str) -> None:
    assert told("distribution", {"events": [event(tag="1.0", repository=repository)]}) == Told(ignored=1)


@pytest.mark.parametrize("tag", ["../x", "a b", "x" * 200, "1.0/../../blobs", "ü"])
def test_a_tag_that_can_be_none_is_dropped(tag: str) -> None:
    assert told("distribution", {"events": [event(tag=tag)]}) == Told(ignored=1)


def test_children_of_an_index_come_without_a_tag_and_only_the_index_counts() -> None:
    read = told("distribution", {"events": [event(digest=A), event(digest=B), event(tag="1.0")]})
    assert ([hint.tag for hint in read.hints], read.ignored) == (["1.0"], 2)


def test_harbor_repeats_the_digest_as_tag_of_what_was_pushed_by_digest() -> None:
    by_digest = {"digest": A, "tag": A, "resource_url": f"hub.example/shop/api@{A}"}
    gone = {**HARBOR, "type": "DELETE_ARTIFACT", "event_data": {**HARBOR["event_data"], "resources": [by_digest]}}  # type: ignore[dict-item]
    assert told("harbor", {**gone, "type": "PUSH_ARTIFACT"}).hints == ()
    (hint,) = told("harbor", gone).hints
    assert (hint.tag, hint.digest, hint.gone) == ("", A, True)


def test_event_grid_gets_its_validation_code_back() -> None:
    question = [{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "512d38b6"}}]
    assert told("acr", question).challenge == "512d38b6"


def test_a_body_of_too_many_events_is_refused_as_a_whole() -> None:
    with pytest.raises(Rejected, match="more than 1000 events") as refused:
        told("quay", {"repository": "a/b", "updated_tags": [str(number) for number in range(MAX_EVENTS + 1)]})
    assert refused.value.code == "too-many-events"


@pytest.mark.parametrize("stated", ["", "yesterday", "0001-01-01T00:00:00+14:00", -5, 1e300, True, [], "2026-11-24T18:00:00"])
def test_a_time_that_is_none_is_no_time(stated: Any) -> None:
    (hint,) = told("distribution", {"events": [{**event(tag="1.0"), "timestamp": stated}]}).hints
    assert hint.at == 0.0
