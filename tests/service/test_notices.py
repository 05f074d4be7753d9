"""What is told of changes: the generic form, Slack's, signatures and the feed."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import msgspec

from service.history import Change, ChangeKind, Moment, kind_of
from service.notices import ATOM, feed, make_notice, sentence, signature, slack_body
from tests.make.reports import digest

SITE = "https://enoent.example"
NS = {"a": ATOM}


def moment(number: int = 1, state: str = "fails", **more: object) -> Moment:
    values: dict[str, object] = {
        "id": number, "source": "hub", "registry": "registry.example", "repository": "team/app", "tag": "1.4",
        "platform": "linux/amd64", "manifest_digest": digest(number), "image_id": digest(number), "report_key": "k",
        "state": state, "reason": "interpreter_absent" if state == "fails" else "",
        "message": "exec /app: no such file or directory" if state == "fails" else "", "rules": (),
        "size_bytes": 1000 * number, "compressed_bytes": 1, "at": 1_700_000_000.0,
    }  # fmt: skip
    return Moment(**(values | more))  # type: ignore[arg-type]


def change(before: Moment | None, after: Moment) -> Change:
    return Change(kind_of(before, after), after, before)


BROKEN = change(moment(1, "starts"), moment(3))


def test_a_notice_says_what_happened_to_which_image_with_the_very_sentence() -> None:
    notice = make_notice(BROKEN, team="payments", site=SITE)
    assert notice.text == ("registry.example/team/app:1.4 (linux/amd64) will not start: exec /app: no such file or directory")
    assert (notice.before, notice.after, notice.growth_bytes, notice.team) == ("starts", "fails", 2000, "payments")
    assert notice.url == f"{SITE}/images/{digest(3)}"


def test_a_recovery_carries_no_old_error() -> None:
    notice = make_notice(change(moment(1), moment(2, "starts")))
    assert (notice.message, notice.url) == ("", "")
    assert sentence(change(moment(1), moment(2, "starts"))).endswith("starts again")


def test_slack_gets_no_markup_from_an_images_name() -> None:
    hostile = moment(3, repository="a<b>&c", message="exec `x` <!channel>: no such file")
    body = json.loads(slack_body(make_notice(change(None, hostile), site=SITE), ChangeKind.FAILS_NOW))
    assert "<!channel>" not in body["text"]
    assert "a&lt;b&gt;&amp;c" in body["text"]
    assert body["text"].count("`") == 2


def test_the_signature_is_hmac_sha256_of_the_raw_body() -> None:
    """RFC 4231, test case 2."""
    expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert signature(b"what do ya want for nothing?", "Jefe") == expected


def test_the_feed_is_atom_with_one_entry_a_change_and_escapes_what_images_say() -> None:
    hostile = change(None, moment(9, message="exec /<script>\x00: no such file"))
    body = feed([make_notice(BROKEN, site=SITE), make_notice(hostile, site=SITE)], site=SITE, updated=1_700_000_000)
    root = ElementTree.fromstring(body)
    entries = root.findall("a:entry", NS)
    assert root.findtext("a:updated", namespaces=NS) == "2023-11-14T22:13:20+00:00"
    assert [entry.findtext("a:id", namespaces=NS) for entry in entries] == [f"{SITE}/changes/3", f"{SITE}/changes/9"]
    assert entries[0].find("a:category", NS).get("term") == "fails-now"  # type: ignore[union-attr]
    assert b"<script>" not in body


def test_the_generic_form_is_json_of_the_notice() -> None:
    notice = make_notice(BROKEN)
    assert msgspec.json.decode(msgspec.json.encode(notice), type=type(notice)) == notice
