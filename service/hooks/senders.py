"""The table of senders: what each of them posts, read into hints, and how each proves who it is.

Knows the shapes that registries document (distribution 2.8 was seen, the others follow their documentation); refuses to know
who is configured. Every text in a body is somebody else's: a name that cannot be one is dropped, no address is followed.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from analyzers.errors import Malformed, Rejected
from analyzers.oci import Digest, load_json
from service.registry.reference import is_repository, is_tag

MAX_EVENTS = 1000
"""Events one body may hold (hostile 131)."""
BODY_BYTES = 1 << 20
OWN_AGENT = "enoent"
"""Our own reads come back as pull events."""
_YEAR_9999 = 253_402_300_799.0


class Hint(msgspec.Struct, frozen=True):
    """One change that a sender tells of. Nothing in it was checked but its grammar."""

    repository: str
    tag: str = ""
    """Empty where only a digest was told."""
    digest: str = ""
    gone: bool = False
    """It was deleted; that too is only a reason to look."""
    host: str = ""
    """The host as the sender claims it; empty where it claims none."""
    at: float = 0.0
    """When it happened, by the sender's clock; 0 when it does not say."""
    delivery: str = ""
    """What the sender calls this delivery, the same when it sends it again; empty where it has no name for it."""


class Told(msgspec.Struct, frozen=True):
    """What one body tells."""

    hints: tuple[Hint, ...] = ()
    ignored: int = 0
    """Events about something else, such as pulls and blobs."""
    challenge: str = ""
    """What the sender wants to hear back before it sends anything."""


class Letter(msgspec.Struct, frozen=True):
    """A body whose sender is known, and its headers (names in lower case)."""

    headers: Mapping[str, str]
    body: Any
    pulls: bool = False
    """Pulls count too."""


Read = Callable[[Letter], Iterator[Hint | None]]
"""The hints of a letter; None for an event about something else. Raises Rejected where the letter is not this sender's."""


class Sender(msgspec.Struct, frozen=True):
    """One row of the table."""

    read: Read
    token_headers: tuple[str, ...] = ("authorization",)
    """Headers in which its token may stand."""
    signature_header: str = ""
    """Header of `sha256=HEX`, an HMAC of the body; empty where it cannot sign."""
    claims_host: bool = True
    """Whether the host it tells is its own claim. What distribution tells is whatever name a client called it by."""


def read_letter(sender: Sender, raw: bytes, headers: Mapping[str, str], *, pulls: bool = False) -> Told:
    """What a body tells. Raises Rejected: `bad-json`, `bad-event` (not of this sender), `too-many-events`."""
    letter = Letter(headers, load_json(raw, BODY_BYTES), pulls)
    if sender.read is _acr and (challenge := _validation(letter.body)):
        return Told(challenge=challenge)
    hints, ignored = [], 0
    for number, hint in enumerate(sender.read(letter), 1):
        if number > MAX_EVENTS:
            raise Rejected("too-many-events", f"more than {MAX_EVENTS} events in one body")
        sound = _sound(hint)
        hints += [sound] if sound is not None else []
        ignored += sound is None
    return Told(tuple(hints), ignored)


def _sound(hint: Hint | None) -> Hint | None:
    """A hint whose names can be names; a tag that is a digest is one. None where nothing can be looked at."""
    if hint is None or not is_repository(hint.repository):
        return None
    digest = hint.digest or (hint.tag if ":" in hint.tag else "")
    tag = hint.tag if is_tag(hint.tag) else ""
    try:
        digest = str(Digest(digest)) if digest else ""
    except Malformed:
        digest = ""
    # Without a tag only a deletion says something: children of an index come so, and nothing shows them.
    if not tag and not (hint.gone and digest):
        return None
    return msgspec.structs.replace(hint, tag=tag, digest=digest, delivery=hint.delivery[:200])


# distribution, GitLab, ACR


def _distribution(letter: Letter) -> Iterator[Hint | None]:
    events = _list(letter.body, "events")
    if events is None:
        raise Rejected("bad-event", "no list of events")
    for event in events:
        yield _of_target(event, letter.pulls)


def _of_target(event: Any, pulls: bool = False) -> Hint | None:
    """An event with `action` and `target`, as distribution writes it and ACR does after it."""
    target = _dict(event, "target")
    action = _text(event, "action")
    pulled = pulls and action == "pull" and not _text(event, "request", "useragent").startswith(OWN_AGENT)
    if action not in ("push", "delete") and not pulled:
        return None
    return Hint(
        _text(target, "repository"), _text(target, "tag"), _text(target, "digest"), action == "delete",
        _text(event, "request", "host"), _seconds(event, "timestamp"), _text(event, "id"),
    )  # fmt: skip


def _acr(letter: Letter) -> Iterator[Hint | None]:
    body = letter.body
    if isinstance(body, dict) and isinstance(body.get("action"), str):
        yield _of_target(body)  # the registry's own webhook; `ping` is one as well
        return
    rows = body if isinstance(body, list) else [body]
    for row in rows:
        kind = _text(row, "eventType") or _text(row, "type")
        if not kind.startswith("Microsoft."):
            raise Rejected("bad-event", "neither a webhook of ACR nor an event of Event Grid")
        if kind not in ("Microsoft.ContainerRegistry.ImagePushed", "Microsoft.ContainerRegistry.ImageDeleted"):
            yield None
            continue
        target = _dict(row, "data", "target")
        yield Hint(
            _text(target, "repository"), _text(target, "tag"), _text(target, "digest"), kind.endswith("Deleted"),
            _text(row, "data", "request", "host"), _seconds(row, "eventTime") or _seconds(row, "time"), _text(row, "id"),
        )  # fmt: skip


def _validation(body: Any) -> str:
    """Event Grid asks once whether events are wanted here, and wants its code back."""
    for row in body if isinstance(body, list) else [body]:
        if _text(row, "eventType") == "Microsoft.EventGrid.SubscriptionValidationEvent":
            code = _text(row, "data", "validationCode")
            return code if len(code) <= 200 and code.isascii() and code.isprintable() else ""
    return ""


# Harbor, Docker Hub, Quay


def _harbor(letter: Letter) -> Iterator[Hint | None]:
    kinds = {
        "PUSH_ARTIFACT": False, "DELETE_ARTIFACT": True, "harbor.artifact.pushed": False, "harbor.artifact.deleted": True,
    }  # fmt: skip
    kind = _text(letter.body, "type")
    if not kind:
        raise Rejected("bad-event", "no type")
    data = _dict(letter.body, "event_data") or _dict(letter.body, "data")
    resources = _list(data, "resources")
    if kind not in kinds or resources is None:
        yield None
        return
    for resource in resources:
        yield Hint(
            _text(data, "repository", "repo_full_name"), _text(resource, "tag"), _text(resource, "digest"), kinds[kind],
            _text(resource, "resource_url").partition("/")[0], _seconds(letter.body, "occur_at") or _seconds(letter.body, "time"),
            _part(_text(letter.body, "id"), _text(resource, "tag")),
        )  # fmt: skip


def _dockerhub(letter: Letter) -> Iterator[Hint | None]:
    push = _dict(letter.body, "push_data")
    if not push:
        raise Rejected("bad-event", "no push_data")
    # It has no name for a delivery, signs nothing, and its callback_url is never called.
    yield Hint(_text(letter.body, "repository", "repo_name"), _text(push, "tag"), at=_seconds(push, "pushed_at"))


def _quay(letter: Letter) -> Iterator[Hint | None]:
    tags = letter.body.get("updated_tags") if isinstance(letter.body, dict) else None
    if not isinstance(tags, dict | list):
        raise Rejected("bad-event", "no updated_tags")
    host = _text(letter.body, "docker_url").partition("/")[0]
    for tag in tags:  # old versions: an object from tag to image
        yield Hint(_text(letter.body, "repository"), tag if isinstance(tag, str) else "", host=host)


# GitHub, ECR, Google, zot, Artifactory


def _github(letter: Letter) -> Iterator[Hint | None]:
    kind = letter.headers.get("x-github-event", "")
    package = _dict(letter.body, "registry_package") or _dict(letter.body, "package")
    if not kind or (kind in ("registry_package", "package") and not package):
        raise Rejected("bad-event", "not an event of GitHub's packages")
    flavour = (_text(package, "package_type") or _text(package, "ecosystem")).lower()
    if _text(letter.body, "action") not in ("published", "updated") or flavour not in ("container", "docker"):
        yield None  # a ping, another kind of package
        return
    version = _dict(package, "package_version")
    host, _, rest = _text(version, "package_url").lower().partition("/")
    tag = _dict(version, "container_metadata", "tag")
    digest = _text(tag, "digest") or _text(version, "version")
    # Repositories are told in the spelling of their owner, and are kept in lower case.
    yield Hint(
        rest.partition("@")[0].partition(":")[0], _text(tag, "name"), digest, host=host,
        at=_seconds(version, "updated_at"), delivery=letter.headers.get("x-github-delivery", ""),
    )  # fmt: skip


def _ecr(letter: Letter) -> Iterator[Hint | None]:
    body = letter.body
    if _text(body, "source") != "aws.ecr":
        raise Rejected("bad-event", "not an event of ECR")
    detail = _dict(body, "detail")
    action = _text(detail, "action-type")
    if (
        _text(body, "detail-type") != "ECR Image Action"
        or _text(detail, "result") != "SUCCESS"
        or action not in ("PUSH", "DELETE")
    ):
        yield None
        return
    region = _text(body, "region")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    yield Hint(
        _text(detail, "repository-name"), _text(detail, "image-tag"), _text(detail, "image-digest"), action == "DELETE",
        f"{_text(body, 'account')}.dkr.ecr.{region}.{domain}", _seconds(body, "time"), _text(body, "id"),
    )  # fmt: skip


def _google(letter: Letter) -> Iterator[Hint | None]:
    message = _dict(letter.body, "message")
    data = _text(message, "data")
    if not data:
        raise Rejected("bad-event", "no message of Pub/Sub")
    try:
        event = load_json(base64.b64decode(data, validate=True), BODY_BYTES)
    except (binascii.Error, ValueError) as error:
        raise Rejected("bad-event", "no message of Pub/Sub") from error
    action = _text(event, "action")
    named, _, tag = _text(event, "tag").rpartition(":")
    plain, _, digest = _text(event, "digest").partition("@")
    host, _, repository = (named or plain).partition("/")
    if action not in ("INSERT", "DELETE"):
        yield None
        return
    delivery = _text(message, "messageId") or _text(message, "message_id")
    yield Hint(repository, tag, digest, action == "DELETE", host, _seconds(message, "publishTime"), delivery)


def _zot(letter: Letter) -> Iterator[Hint | None]:
    """CloudEvents in binary mode (type and id in headers, the body is the data) or structured (all in the body)."""
    binary = "ce-type" in letter.headers
    kind = letter.headers["ce-type"] if binary else _text(letter.body, "type")
    data = letter.body if binary else _dict(letter.body, "data")
    if not kind:
        raise Rejected("bad-event", "not a CloudEvent")
    updated = kind.endswith("image.updated")
    if not updated and not kind.endswith("image.deleted"):
        yield None
        return
    at = _time_of(letter.headers.get("ce-time", "")) if binary else _seconds(letter.body, "time")
    delivery = letter.headers.get("ce-id", "") if binary else _text(letter.body, "id")
    yield Hint(_text(data, "name"), _text(data, "reference"), _text(data, "digest"), not updated, at=at, delivery=delivery)


def _artifactory(letter: Letter) -> Iterator[Hint | None]:
    data = _dict(letter.body, "data") or letter.body
    if _text(letter.body, "domain") != "docker":
        raise Rejected("bad-event", "not an event of Artifactory's docker domain")
    kind = _text(letter.body, "event_type")
    if kind not in ("pushed", "deleted"):
        yield None
        return
    digest = _text(data, "sha256")
    yield Hint(
        f"{_text(data, 'repo_key')}/{_text(data, 'image_name')}", _text(data, "tag"), digest and f"sha256:{digest}",
        kind == "deleted",
    )  # fmt: skip


SENDERS: Mapping[str, Sender] = {
    "distribution": Sender(_distribution, claims_host=False),
    "gitlab": Sender(_distribution, claims_host=False),
    "harbor": Sender(_harbor),
    "dockerhub": Sender(_dockerhub),
    "github": Sender(_github, signature_header="x-hub-signature-256"),
    "quay": Sender(_quay),
    "ecr": Sender(_ecr),
    "google": Sender(_google),
    "acr": Sender(_acr),
    "zot": Sender(_zot),
    "artifactory": Sender(_artifactory, token_headers=("authorization", "x-jfrog-event-auth")),
}
"""By the name that the settings give them."""


# What stands at a place, and nothing that is not of its kind


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _dict(value: Any, *keys: str) -> dict[str, Any]:
    found = _at(value, *keys)
    return found if isinstance(found, dict) else {}


def _list(value: Any, *keys: str) -> list[Any] | None:
    found = _at(value, *keys)
    return found if isinstance(found, list) else None


def _text(value: Any, *keys: str) -> str:
    found = _at(value, *keys)
    return found if isinstance(found, str) else ""


def _part(delivery: str, part: str) -> str:
    """One of several things told in one delivery."""
    return f"{delivery} {part}" if delivery else ""


def _seconds(value: Any, *keys: str) -> float:
    """A time as a number of seconds or as RFC 3339; 0 where there is none that can be one."""
    found = _at(value, *keys)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return float(found) if 0 < found < _YEAR_9999 else 0.0
    return _time_of(found) if isinstance(found, str) else 0.0


def _time_of(text: str) -> float:
    try:
        when = datetime.datetime.fromisoformat(text[:40])
        return max(when.timestamp(), 0.0) if when.tzinfo is not None else 0.0
    except (ValueError, OverflowError):
        return 0.0
