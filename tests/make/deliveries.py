"""What registries post of pushes. distribution's events were recorded; the others follow their makers' documents (sources.md
3.5), since those services cannot run here.
"""

from __future__ import annotations

import base64
import json
from typing import Any

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
AT = "2026-11-24T18:00:00Z"
SECONDS = 1_795_543_200.0


def event(action: str = "push", **target: Any) -> dict[str, Any]:
    """As Debian's docker-registry 2.8.2 sends it."""
    return {
        "id": "e7a5d6f2-0f3b-4b64-9a9a-9a3a5e0f2f0b", "timestamp": "2026-11-24T18:00:00.000000000Z", "action": action,
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 527, "digest": A, "length": 527,
            "repository": "shop/api", "url": "http://127.0.0.1:5000/v2/shop/api/manifests/" + A, **target,
        },
        "request": {
            "id": "1", "addr": "127.0.0.1:52712", "host": "127.0.0.1:5000", "method": "PUT", "useragent": "docker/26.1.5",
        },
        "actor": {}, "source": {"addr": "registry:5000", "instanceID": "2"},
    }  # fmt: skip


def github(kind: str = "registry_package", **changes: Any) -> dict[str, Any]:
    version = {
        "version": B, "package_url": "ghcr.io/Octo/Api:1.0", "updated_at": AT,
        "container_metadata": {"tag": {"name": "1.0", "digest": A}},
    }  # fmt: skip
    package = {"name": "api", "package_type": "CONTAINER", "ecosystem": "CONTAINER", "package_version": version, **changes}
    return {"action": "published", kind: package}


def pubsub(event: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(event).encode()).decode()
    return {"message": {"data": data, "messageId": "m1", "publishTime": AT}, "subscription": "projects/p/subscriptions/s"}


HARBOR = {
    "type": "PUSH_ARTIFACT", "occur_at": int(SECONDS), "operator": "admin",
    "event_data": {
        "resources": [{"digest": A, "tag": "1.0", "resource_url": "hub.example/shop/api:1.0"}],
        "repository": {"name": "api", "namespace": "shop", "repo_full_name": "shop/api", "repo_type": "private"},
    },
}  # fmt: skip
HARBOR_CLOUD = {
    "specversion": "1.0", "id": "c1", "type": "harbor.artifact.deleted", "time": AT,
    "data": {**HARBOR["event_data"]},  # type: ignore[dict-item]
}  # fmt: skip
ECR = {
    "version": "0", "id": "13cde686", "detail-type": "ECR Image Action", "source": "aws.ecr", "account": "123456789012",
    "time": AT, "region": "us-west-2",
    "detail": {"result": "SUCCESS", "repository-name": "shop/api", "image-digest": A, "action-type": "PUSH", "image-tag": "1.0"},
}  # fmt: skip
EVENT_GRID = {
    "id": "g1", "eventType": "Microsoft.ContainerRegistry.ImagePushed", "eventTime": AT,
    "data": {
        "action": "push", "target": {"repository": "shop/api", "tag": "1.0", "digest": A}, "request": {"host": "x.azurecr.io"},
    },
}  # fmt: skip
ZOT = {"name": "shop/api", "reference": "1.0", "digest": A, "mediaType": "x", "manifest": "{}"}
JFROG = {
    "domain": "docker", "event_type": "pushed",
    "data": {"repo_key": "docker-local", "image_name": "shop/api", "tag": "1.0", "sha256": "a" * 64, "platforms": []},
}  # fmt: skip
