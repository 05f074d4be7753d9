"""What is told of a change, and to whom: Slack-compatible and generic webhooks, and the Atom feed.

Pure: from changes to bodies. Sending is the daemon's, as jobs, so that a receiver that is down gets it later and nobody gets
it twice for one change. Everything from an image is text here and is escaped for its form.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import quote
from xml.etree import ElementTree

import msgspec

from service.history import Change, ChangeKind

SIGNATURE_HEADER = "X-Enoent-Signature-256"
ATOM = "http://www.w3.org/2005/Atom"
CHANGE_WORDS = {
    ChangeKind.FAILS_NOW: "will not start",
    ChangeKind.FAILS_OTHERWISE: "will not start, for another reason than before",
    ChangeKind.VERDICT_LOST: "can no longer be decided",
    ChangeKind.NEW_RULE: "starts, with a new finding",
    ChangeKind.RECOVERED: "starts again",
    ChangeKind.PUSHED: "was pushed",
    ChangeKind.APPEARED: "is new",
}
_MARKS = {
    ChangeKind.FAILS_NOW: "🔴",
    ChangeKind.FAILS_OTHERWISE: "🔴",
    ChangeKind.VERDICT_LOST: "⚪",
    ChangeKind.NEW_RULE: "🟠",
    ChangeKind.RECOVERED: "🟢",
}


class Notice(msgspec.Struct, frozen=True):
    """One change as the generic form tells it."""

    id: int
    """Grows with every change; the same number is the same change, however often it comes."""
    kind: str
    image: str
    platform: str
    team: str
    text: str
    """One sentence."""
    message: str
    """The line the user would see, where the image will not start."""
    reason: str
    before: str
    """Verdict before, empty for a new image."""
    after: str
    new_rules: tuple[str, ...]
    growth_bytes: int
    size_bytes: int
    manifest_digest: str
    image_id: str
    at: float
    url: str
    """Page of the image; empty where the daemon does not know its own address."""


def make_notice(change: Change, *, team: str = "", site: str = "") -> Notice:
    """A change as data. `site` is the address people reach the pages by, without a slash at its end."""
    after = change.after
    return Notice(
        id=after.id, kind=str(change.kind), image=after.name, platform=after.platform, team=team, text=sentence(change),
        message=after.message if after.state == "fails" else "", reason=after.reason,
        before=change.before.state if change.before is not None else "", after=after.state, new_rules=change.new_rules,
        growth_bytes=change.growth_bytes, size_bytes=after.size_bytes, manifest_digest=after.manifest_digest,
        image_id=after.image_id, at=after.at, url=f"{site}/images/{quote(after.image_id, safe=':')}" if site else "",
    )  # fmt: skip


def sentence(change: Change) -> str:
    """What happened, in one line of plain text."""
    after = change.after
    text = f"{after.name} ({after.platform}) {CHANGE_WORDS[change.kind]}"
    if change.kind is ChangeKind.NEW_RULE:
        text += ": " + ", ".join(change.new_rules)
    elif after.message and after.state != "starts":
        text += f": {after.message}"
    return text


def slack_body(notice: Notice, kind: ChangeKind) -> bytes:
    """Slack's incoming-webhook form. The three characters it gives a meaning are escaped."""
    lines = [f"{_MARKS.get(kind, '')} *{_slack(notice.image)}* ({_slack(notice.platform)}) {CHANGE_WORDS[kind]}".strip()]
    if notice.message:
        lines.append(f"`{_slack(notice.message).replace('`', chr(39))}`")
    if notice.new_rules:
        lines.append("new: " + ", ".join(map(_slack, notice.new_rules)))
    if notice.url:
        lines.append(f"<{notice.url}|why, and what mends it>")
    return msgspec.json.encode({"text": "\n".join(lines)})


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def signature(body: bytes, key: str) -> str:
    """`sha256=` and the HMAC-SHA256 of the raw body, as GitHub writes it."""
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def feed(notices: Sequence[Notice], *, site: str, updated: float) -> bytes:
    """An Atom feed (RFC 4287) of changes, the newest first."""
    ElementTree.register_namespace("", ATOM)
    root = ElementTree.Element(f"{{{ATOM}}}feed")
    _add(root, "title", "enoent: changes of the fleet")
    _add(root, "id", f"{site}/feed.atom")
    _add(root, "updated", _time(updated))
    ElementTree.SubElement(root, f"{{{ATOM}}}link", rel="self", href=f"{site}/feed.atom")
    author = ElementTree.SubElement(root, f"{{{ATOM}}}author")
    _add(author, "name", "enoent")
    for notice in notices:
        entry = ElementTree.SubElement(root, f"{{{ATOM}}}entry")
        _add(entry, "title", notice.text)
        _add(entry, "id", f"{site}/changes/{notice.id}")
        _add(entry, "updated", _time(notice.at))
        ElementTree.SubElement(entry, f"{{{ATOM}}}category", term=notice.kind)
        if notice.url:
            ElementTree.SubElement(entry, f"{{{ATOM}}}link", href=notice.url)
        _add(entry, "summary", notice.message or notice.text)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode").encode()


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    # XML 1.0 has no form at all for most control characters; names of images are printable already (finding.show).
    clean = "".join(character if character.isprintable() else " " for character in text)
    ElementTree.SubElement(parent, f"{{{ATOM}}}{name}").text = clean


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")
