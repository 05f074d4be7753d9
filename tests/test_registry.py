"""The registry that tests lean on is real: it keeps what is pushed, asks for its password and tells what it was asked."""

from __future__ import annotations

import json

import pytest

from tests.make.images import INDEX, MANIFEST, Image
from tests.make.layers import tar_of
from tests.registry import Registry

pytestmark = pytest.mark.registry

ACCEPT = {"Accept": f"{MANIFEST}, {INDEX}"}

ONE = Image(layers=(tar_of({"bin/x": "x"}), tar_of({"etc/y": "y"})), cmd=["/bin/x"])


def test_an_image_that_was_pushed_is_given_back_and_each_request_is_told(registry: Registry) -> None:
    digest = registry.push("made/one:1", ONE)
    status, headers, body = registry.request("GET", "/v2/made/one/manifests/1", headers=ACCEPT)
    assert (status, headers["docker-content-digest"]) == (200, digest)
    layer = json.loads(body)["layers"][1]
    assert registry.request("GET", f"/v2/made/one/blobs/{layer['digest']}")[0] == 200
    assert registry.blob_path(layer["digest"]).stat().st_size == layer["size"]
    assert [each.status for each in registry.requests("GET", f"made/one/blobs/{layer['digest']}")] == [200]


def test_images_of_several_platforms_become_an_index(registry: Registry) -> None:
    other = Image(layers=ONE.layers, cmd=["/bin/x"], platform="linux/arm64")
    digest = registry.push("made/two:1", [ONE, other])
    _, headers, body = registry.request("GET", f"/v2/made/two/manifests/{digest}", headers=ACCEPT)
    assert headers["content-type"] == "application/vnd.oci.image.index.v1+json"
    assert [child["platform"]["architecture"] for child in json.loads(body)["manifests"]] == ["amd64", "arm64"]


def test_a_deleted_manifest_takes_its_tag_along(registry: Registry) -> None:
    registry.delete("made/gone", registry.push("made/gone:1", ONE))
    assert registry.request("GET", "/v2/made/gone/manifests/1")[0] == 404


def test_a_registry_with_a_password_refuses_everybody_else(guarded_registry: Registry) -> None:
    guarded_registry.push("made/one:1", ONE)
    stranger = Registry(guarded_registry.host, guarded_registry.folder)
    status, headers, _ = stranger.request("GET", "/v2/made/one/tags/list")
    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="test"')
    assert guarded_registry.request("GET", "/v2/made/one/tags/list")[0] == 200
