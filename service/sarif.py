"""A scan as SARIF 2.1.0, for code scanning: one run an image, all rules described, locations as paths inside the image.

What could not be decided is a notification of a run that says it was not successful, never an empty list of results.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any
from urllib.parse import quote

from analyzers.finding import Finding, Report, Severity, State
from analyzers.rules import RULES, Rule
from service.scan import UNDECIDED, Scan, ScannedImage
from service.silencing import Silenced
from service.words import instruction

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.FATAL: "error", Severity.LATER: "warning", Severity.WARNING: "warning", Severity.INFO: "note"}
ROOT = "IMAGEROOT"
"""The base that paths inside the image are relative to."""
_LINK = re.compile(r"\[([^\[\]]*)\]\(")
_INDEXES = {rule_id: index for index, rule_id in enumerate(RULES)}


def sarif_log(scan: Scan) -> dict[str, Any]:
    """The whole log, for JSON."""
    runs = [_run(scan, image) for image in scan.images] or [_run(scan, None)]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}


def _run(scan: Scan, image: ScannedImage | None) -> dict[str, Any]:
    place = scan.reference if image is None else f"{scan.reference}/{image.platform}"
    driver = {
        "name": "enoent",
        "semanticVersion": metadata.version("enoent"),
        "rules": [_described(rule) for rule in RULES.values()],
    }
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"enoent/{place}/"},
        "invocations": [_invocation(scan, image)],
        "originalUriBaseIds": {ROOT: {"description": {"text": f"The root directory of {place}."}}},
        "results": [] if image is None else _results(scan.reference, image),
        "properties": _properties(scan, image),
    }


def _properties(scan: Scan, image: ScannedImage | None) -> dict[str, Any]:
    if image is None:
        return {"reference": scan.reference}
    verdict = {} if image.report is None else {"verdict": image.report.verdict}
    return {
        "reference": scan.reference, "platform": image.platform, "imageId": image.image_id,
        "manifestDigest": image.manifest_digest, **verdict,
    }  # fmt: skip


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
        "properties": {"severity": rule.severity, "source": rule.source, "tags": [rule.id.partition(".")[0]]},
    }


def _invocation(scan: Scan, image: ScannedImage | None) -> dict[str, Any]:
    told = list(_notifications(scan, image))
    status = scan.exit_status if image is None else image.exit_status
    return {"executionSuccessful": not told and status != UNDECIDED, "exitCode": status, "toolExecutionNotifications": told}


def _notifications(scan: Scan, image: ScannedImage | None) -> Iterator[dict[str, Any]]:
    """Why something is undecided."""
    texts: list[str] = []
    if image is None:
        texts = [scan.error]
    elif image.report is None:
        texts = [f"{image.outcome}: {image.detail}" if image.detail else image.outcome]
    else:
        if image.report.verdict.state is State.UNKNOWN:
            texts = [image.report.verdict.why_unknown]
        texts += image.report.incomplete
    for text in texts:
        yield {"level": "error", "message": _message(text or "Nothing says why.")}


def _message(text: str) -> dict[str, str]:
    """Plain text in which nothing of an image becomes a placeholder (SARIF 3.11.5) or a link (3.11.6)."""
    text = text.replace("{", "{{").replace("}", "}}")
    return {"text": _LINK.sub(r"\\[\1\\](", text)}


def _results(reference: str, image: ScannedImage) -> list[dict[str, Any]]:
    report = image.report
    if report is None:
        return []
    silenced = {each.finding: each for each in image.silenced}
    return [_result(reference, report, finding, silenced.get(place)) for place, finding in enumerate(report.findings)]


def _result(reference: str, report: Report, finding: Finding, silenced: Silenced | None) -> dict[str, Any]:
    text = "\n".join(part for part in (finding.message, finding.why, *finding.remedies) if part)
    identity = "\n".join((reference, report.platform, finding.rule, finding.subject))
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": LEVELS[finding.severity],
        "message": _message(text),
        "locations": [_location(reference, report, finding)],
        "partialFingerprints": {"enoentFinding/v1": hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()},
        "properties": {"severity": finding.severity, "trail": finding.trail, "assumptions": finding.assumptions},
    }
    if silenced is not None:
        justification = f"{silenced.reason} (until {silenced.until})"
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": justification}]
    if finding.rule in _INDEXES:
        result["ruleIndex"] = _INDEXES[finding.rule]
    return result


def _location(reference: str, report: Report, finding: Finding) -> dict[str, Any]:
    """The path inside the image, and the layer that brought it; the image itself where the finding is about no path."""
    path = finding.subject.lstrip("/")
    artifact = {"uri": quote(path), "uriBaseId": ROOT} if path else {"uri": quote(reference)}
    # A file of an image has no lines that matter, but code scanning shows nothing without one.
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 1}}}
    if finding.layer is not None and finding.layer < len(report.layers):
        layer = report.layers[finding.layer]
        location["logicalLocations"] = [{"name": f"layer {finding.layer}", "fullyQualifiedName": layer.diff_id, "kind": "layer"}]
        location["message"] = _message(instruction(layer.created_by))
    return location
