"""Which repositories and tags are looked at, and what the newest of them are."""

from __future__ import annotations

import random

import pytest

from service.errors import SettingsError
from service.registry.choosing import Choice, newest, version_key
from service.settings import Settings
from service.sources.build import watched
from service.sources.settings import RegistrySettings


def choice(**settings: object) -> Choice:
    return Choice(RegistrySettings(host="hub", **settings))  # type: ignore[arg-type]


def test_what_is_named_in_full_is_watched_without_a_catalog() -> None:
    made = choice(repositories=("shop/api", "shop/web"))
    assert not made.needs_catalog
    assert made.repositories([]) == ["shop/api", "shop/web"]
    assert not made.has_repository("shop/other")


def test_patterns_are_held_against_the_catalog_and_an_exclusion_wins() -> None:
    made = choice(repositories=("shop/*", "base"), exclude_repositories=("*/test-*",))
    assert made.needs_catalog
    assert made.repositories(["shop/api", "shop/test-x", "other/api", "base", "shop/api"]) == ["base", "shop/api"]
    assert choice(exclude_repositories=("tmp/*",)).repositories(["tmp/a", "b"]) == ["b"]


def test_an_excluded_tag_is_left_out_of_what_is_taken_in() -> None:
    made = choice(tags=("v*", "latest"), exclude_tags=("*-debug",))
    assert made.tags(["v1", "v1-debug", "latest", "main"]) == ["v1", "latest"]


@pytest.mark.parametrize(
    "ordered",
    [
        ["1.2.9", "1.2.10", "1.10.0", "2.0.0-alpha.1", "2.0.0-rc.1", "2.0.0-rc.2", "2.0.0-rc.10", "2.0.0"],
        ["v1.0.0rc1", "v1.0.0", "v1.0.1"],
        ["1.0-alpine3.9", "1.0-alpine3.18", "1.1-alpine3.9"],
        ["2024.12.31", "20241231", "20250101"],
        ["build-9", "build-10", "1.0"],
        ["9f8e7d6c5b4a", "0.1"],
        ["sha-0a1b2c3", "0.0.1-SNAPSHOT", "0.0.1"],
    ],
)
def test_versions_are_ordered_as_people_read_them(ordered: list[str]) -> None:
    shuffled = list(ordered)
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=version_key) == ordered


def test_the_newest_are_kept_and_so_are_tags_that_move() -> None:
    tags = ["latest", "1.0", "1.1", "1.10", "1.9", "main", "2.0-rc1"]
    assert newest(tags, 2) == ["latest", "1.10", "main", "2.0-rc1"]
    assert newest(tags, 100) == tags
    assert choice(newest=1, exclude_tags=("*rc*",)).tags(tags) == ["latest", "1.10", "main"]


@pytest.mark.parametrize("tag", ["9" * 128, "v", "0" * 128, "a" * 128, "1" + "." * 127, "1." * 63 + "1", "٣"])
def test_any_tag_has_a_place(tag: str) -> None:
    assert newest([tag, "1.0"], 5) == [tag, "1.0"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mirrors": ("user@host",)}, "not host[:port][/prefix]"),
        ({"mirrors_only": True}, "it has no mirrors"),
        ({"key_file": "key.pem"}, "there is no cert_file"),
        ({"platforms": ("a/b/c/d",)}, "platforms of hub"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(settings: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError) as error:
        watched(Settings(registries=(RegistrySettings(host="hub", **settings),)))  # type: ignore[arg-type]
    assert told in str(error.value)
