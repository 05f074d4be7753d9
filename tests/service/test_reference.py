"""What people type, and what engines call an image, becomes registry, repository, tag and digest, or is clearly refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.errors import Malformed
from service.registry.reference import is_repository, is_tag, parse_image_name, parse_reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("alpine", "docker.io", "library/alpine", "latest", ""),
        ("alpine:3.20", "docker.io", "library/alpine", "3.20", ""),
        ("grafana/grafana", "docker.io", "grafana/grafana", "latest", ""),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest", ""),
        ("index.docker.io/library/alpine:1", "docker.io", "library/alpine", "1", ""),
        ("docker://ghcr.io/a/b:1", "ghcr.io", "a/b", "1", ""),
        ("localhost/app", "localhost", "app", "latest", ""),
        ("localhost:5000/a/b/c:v1", "localhost:5000", "a/b/c", "v1", ""),
        ("127.0.0.1:5000/app:1", "127.0.0.1:5000", "app", "1", ""),
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1", ""),
        (f"quay.io/a/b@sha256:{HEX}", "quay.io", "a/b", "", f"sha256:{HEX}"),
        (f"quay.io/a/b:1@sha256:{HEX}", "quay.io", "a/b", "1", f"sha256:{HEX}"),
        ("Registry/app", "Registry", "app", "latest", ""),
        ("a__b/c-d--e.f:x_1", "docker.io", "a__b/c-d--e.f", "x_1", ""),
    ],
)
def test_names_of_registries_are_completed_as_docker_does(
    text: str, registry: str, repository: str, tag: str, digest: str
) -> None:
    found = parse_reference(text)
    assert (found.transport, found.registry, found.repository, found.tag, found.digest) == (
        "registry", registry, repository, tag, digest,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "transport", "place", "tag"),
    [
        ("docker:app:1", "docker", "app:1", ""),
        (f"docker:sha256:{HEX}", "docker", f"sha256:{HEX}", ""),
        ("oci:images/app", "oci", "images/app", ""),
        ("oci:images/app:1", "oci", "images/app", "1"),
        ("oci:/a:b/c", "oci", "/a:b/c", ""),
        ("oci:.", "oci", ".", ""),
        ("oci-archive:/tmp/x.tar", "oci-archive", "/tmp/x.tar", ""),
        ("docker-archive:x.tar", "docker-archive", "x.tar", ""),
    ],
)
def test_other_places_are_named_by_their_transport(text: str, transport: str, place: str, tag: str) -> None:
    found = parse_reference(text)
    assert (found.transport, found.place, found.tag) == (transport, place, tag)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", "a\nb", "\x1b[31mapp", "UPPER/app:1/x", "ghcr.io/", "ghcr.io/A", "ghcr.io/a//b", "ghcr.io/../b", "a:b:c",
        "ghcr.io/a:", f"ghcr.io/a:{'x' * 129}", "ghcr.io/a@sha256:123", f"ghcr.io/a@sha256:{HEX.upper()}", "ghcr.io/a@md5:1",
        "https://ghcr.io/a", "host:99999/a", "host:0/a", "-host.io/a", "ghcr.io/" + "a" * 256, "docker:", "oci:", "oci::1",
        "oci:dir:not a tag", "oci-archive:", "user:pass@host.io/a", "x" * 5000, "ghcr.io/a?x", "ghcr.io/a#x", "ghcr.io/a%2e",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_reference(text)
    assert len(str(refusal.value)) > 10
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("text", ["docker:26-cli", "oci:1", "docker.io/library/docker:26"])
def test_an_engine_s_image_may_be_called_like_a_transport(text: str) -> None:
    """`docker:26-cli` among an engine's tags is the image of Docker, not an image of the engine called 26-cli."""
    found = parse_image_name(text)
    assert (found.transport, found.registry) == ("registry", "docker.io")
    assert found.repository in ("library/docker", "library/oci")


@pytest.mark.parametrize("text", ["<none>:<none>", "", "a\nb", "oci:x y"])
def test_an_engine_s_empty_name_is_no_name(text: str) -> None:
    with pytest.raises(Malformed):
        parse_image_name(text)


@given(st.text(max_size=60))
def test_a_text_is_a_reference_that_prints_as_itself_or_is_malformed(text: str) -> None:
    try:
        found = parse_reference(text)
    except Malformed:
        return
    assert parse_reference(str(found)) == found


@given(st.text(alphabet="ab./?#%-_:@\n\0é", max_size=300))
def test_no_name_of_a_repository_or_tag_can_change_an_address(text: str) -> None:
    if is_repository(text) or is_tag(text):
        assert not set(text) & set("?#%:@\n\0é")
    if is_repository(text):
        assert ".." not in text.split("/")
        assert not text.startswith("/")
    if is_tag(text):
        assert "/" not in text
        assert text not in (".", "..")
