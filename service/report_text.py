"""A report as text for people: what would happen, in whose words, why, where one would look, and what mends it.

Pure functions from what was found to lines of 80 columns. The first line says whether it starts. Everything shown of the
image passes terminal.paint, which writes out whatever a terminal might act upon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzers.finding import Finding, Reason, Report, Severity, State, Step
from service.bases import fits
from service.remedies import remedies_of
from service.scan import Scan, ScannedImage, hushes_failure
from service.silencing import Silenced
from service.terminal import Line, shorten, width_of, wrap
from service.trail_text import SIGNS, branch_lines
from service.words import SEVERITY_STYLES, STAGE_WORDS, human_bytes, instruction, tree

MANY_FINDINGS = 20
_OF_THE_BASE = (Reason.INTERPRETER_ABSENT, Reason.LIBRARY_ABSENT, Reason.VERSION, Reason.SYMBOL)
"""Failures that another base may mend."""
LABEL_WIDTH = 6
"""Of the facts at the end; an image ID then just fits into 80 columns."""


def scan_lines(scan: Scan, width: int = 80, *, verbose: bool = False) -> Iterator[Line]:
    """The whole answer. Of several images, those that start are one line each unless `verbose`."""
    if len(scan.images) == 1:
        yield from image_lines(scan.reference, scan.images[0], width, verbose=verbose)
    else:
        yield from _summary(scan, width)
        for image in scan.images:
            if verbose or not _plain(image):
                yield ()
                yield (("faint", "─" * width),)
                yield from image_lines(scan.reference, image, width, verbose=verbose)
    if scan.answered_by:
        yield from _fact("asked", f"{scan.answered_by}, which had read it before", width)


def verdict_lines(scan: Scan) -> Iterator[Line]:
    """One line an image, the sentence behind it, whatever its length."""
    for image in scan.images:
        style, words = _standing(image)
        said = _saying(image)
        head: Line = (
            SIGNS[style],
            ("", " "),
            ("strong", scan.reference),
            ("", " "),
            (style, words),
            ("faint", f"  {image.platform}"),
        )
        yield (*head, ("", f"  {said}")) if said else head


def _plain(image: ScannedImage) -> bool:
    """Whether one line says all: it starts, and nothing was found."""
    return image.report is not None and _standing(image)[0] == "good" and not image.report.findings


def _standing(image: ScannedImage) -> tuple[str, str]:
    """Style and words of what becomes of an image."""
    report = image.report
    if report is None:
        return "doubt", "could not be analysed"
    if hushes_failure(report, image.silenced):
        return "doubt", "will not start, which is silenced"
    if report.verdict.state is State.FAILS:
        return "bad", "will not start"
    if report.verdict.state is State.UNKNOWN:
        return "doubt", "could not be decided"
    return ("good", "starts") if report.complete else ("doubt", "starts as far as it was seen")


def _summary(scan: Scan, width: int) -> Iterator[Line]:
    standings = [_standing(image) for image in scan.images]
    counts = {words: sum(each[1] == words for each in standings) for _, words in standings}
    style = next((style for style in ("bad", "doubt") if style in {each[0] for each in standings}), "good")
    told = ", ".join(f"{count} {'start' if words == 'starts' and count > 1 else words}" for words, count in counts.items())
    yield (SIGNS[style], ("", " "), ("strong", scan.reference), (style, f": {told}"))
    yield ()
    longest = max(len(image.platform) for image in scan.images)
    for image, (style, words) in zip(scan.images, standings, strict=True):
        line: Line = (("", "  "), SIGNS[style], ("", f" {image.platform:<{longest}}  "), (style, words))
        said = _saying(image)
        yield (*line, ("", "  "), ("", shorten(said, width - width_of(line) - 2))) if said else line


def _saying(image: ScannedImage) -> str:
    """The one sentence that goes with a standing."""
    if image.report is None:
        return image.detail or image.outcome
    return image.report.verdict.message or image.report.verdict.why_unknown


def image_lines(reference: str, image: ScannedImage, width: int = 80, *, verbose: bool = False) -> Iterator[Line]:
    """Everything about one image of one platform."""
    style, words = _standing(image)
    yield (SIGNS[style], ("", " "), ("strong", reference), ("", " "), (style, words), ("faint", f"  {image.platform}"))
    if image.report is None:
        yield ()
        yield from wrap((("", image.detail or image.outcome),), width, (("", "  "),))
        yield (("faint", f"  {image.outcome}"),)
        return
    report = image.report
    cause = next((finding for finding in report.findings if finding.severity is Severity.FATAL), None)
    yield from _verdict(report, width)
    silenced = {id(report.findings[each.finding]): each for each in image.silenced if each.finding < len(report.findings)}
    if cause is not None and id(cause) in silenced:
        yield from wrap((("doubt", _silence_words(silenced[id(cause)])),), width, (("", "  "),))
    if cause is not None:
        yield from _cause(report, cause, width)
    yield from _trail(report, width, verbose=verbose)
    others = [finding for finding in report.findings if finding is not cause]
    yield from _findings([finding for finding in others if id(finding) not in silenced], width, verbose=verbose)
    yield from _silenced([(finding, silenced[id(finding)]) for finding in others if id(finding) in silenced], width)
    yield from _layers(report, image.compressed_layer_bytes, cause, width, verbose=verbose)
    yield from _bases(report, width, verbose=verbose)
    yield from _facts(report, cause, width)


def _heading(text: str) -> Iterator[Line]:
    yield ()
    yield (("strong", text),)


def _verdict(report: Report, width: int) -> Iterator[Line]:
    """The very words, never broken, so that they can be searched for."""
    verdict = report.verdict
    if verdict.state is State.UNKNOWN:
        yield ()
        yield from wrap((("", verdict.why_unknown or "Nothing says why."),), width, (("", "  "),))
    if verdict.state is not State.FAILS:
        return
    yield ()
    for line in verdict.lines or (verdict.message,):
        if line:
            yield (("", "  "), ("alarm" if line == verdict.message else "", line))
    if not any(verdict.lines) and not verdict.message:
        yield (("faint", "  (nothing is printed)"),)
    stage = STAGE_WORDS[verdict.stage] if verdict.stage else ""
    code = f"exit status {verdict.exit_code}" if verdict.exit_code is not None else ""
    yield (("faint", "  " + " · ".join(part for part in (stage, code) if part)),)


def _cause(report: Report, cause: Finding, width: int) -> Iterator[Line]:
    if cause.why:
        yield from _heading("Why")
        yield from wrap((("", cause.why),), width, (("", "  "),))
    if cause.layer is not None and cause.layer < len(report.layers):
        told = f"{cause.subject or 'It'} came with layer {cause.layer}:"
        yield from wrap((("", told), ("name", instruction(report.layers[cause.layer].created_by))), width, (("", "  "),))
    learned = [remedy.text for remedy in remedies_of(report, {})]
    if cause.remedies or learned:
        yield from _heading("What would mend it")
        for remedy in (*learned, *cause.remedies):
            yield from wrap((("", remedy),), width, (("good", "  • "),))
    if cause.assumptions:
        yield from _heading("Provided that")
        for text in cause.assumptions:
            yield from wrap((("", text),), width, (("", "  • "),))


# The trail


def _trail(report: Report, width: int, *, verbose: bool) -> Iterator[Line]:
    if not report.chain:
        return
    words = {State.STARTS: "How it starts", State.FAILS: "How it fails", State.UNKNOWN: "How far it comes"}
    yield from _heading(words[report.verdict.state])
    for branch in tree(_without_echoes(report.chain)):
        yield from branch_lines(branch, (("", "  "),), (("", "  "),), width, verbose=verbose)


def _without_echoes(steps: Sequence[Step]) -> list[Step]:
    """The exec of what was just looked up says nothing new while it goes well."""
    kept: list[Step] = []
    for step in steps:
        if step.action == "exec" and step.ok and kept and kept[-1].ok and kept[-1].path == step.path:
            continue
        kept.append(step)
    return kept


# What else is told


def _findings(findings: Sequence[Finding], width: int, *, verbose: bool) -> Iterator[Line]:
    if not findings:
        return
    yield from _heading("Also found" if len(findings) < 2 else f"Also found: {len(findings)}")
    for finding in findings if verbose else findings[:MANY_FINDINGS]:
        label: Line = (("", "  "), (SEVERITY_STYLES[finding.severity], f"{finding.severity.value:<8}"), ("", " "))
        yield from wrap((("", finding.message),), width, label)
        where = [finding.subject] if finding.subject else []
        where += [f"layer {finding.layer}"] if finding.layer is not None else []
        indent: Line = (("", " " * width_of(label)),)
        yield from wrap((("faint", " · ".join([finding.rule, *where])),), width, indent)
        if verbose or finding.severity in (Severity.FATAL, Severity.LATER):
            for text in (finding.why, *finding.remedies):
                yield from wrap((("faint", text),), width, indent)
    if not verbose and len(findings) > MANY_FINDINGS:
        yield (("faint", f"  and {len(findings) - MANY_FINDINGS} more (--verbose shows them)"),)


def _silenced(findings: Sequence[tuple[Finding, Silenced]], width: int) -> Iterator[Line]:
    if not findings:
        return
    yield from _heading(f"Silenced: {len(findings)}")
    for finding, silence in findings:
        yield from wrap((("faint", finding.message),), width, (("faint", f"  {finding.severity.value:<8} "),))
        where = [finding.subject] if finding.subject else []
        yield from wrap((("faint", " · ".join([finding.rule, *where])),), width, (("", " " * 11),))
        yield from wrap((("faint", _silence_words(silence)),), width, (("", " " * 11),))


def _silence_words(silence: Silenced) -> str:
    return f"silenced until {silence.until}: {silence.reason}"


def _layers(report: Report, compressed: Sequence[int], cause: Finding | None, width: int, *, verbose: bool) -> Iterator[Line]:
    if not report.layers:
        return
    yield from _heading("Layers")
    pulled = len(compressed) == len(report.layers) and any(compressed)
    wasted = any(layer.wasted_bytes for layer in report.layers)
    columns = ["unpacked", *(["to pull"] if pulled else []), *(["wasted"] if wasted else [])]
    yield (("faint", "     " + "".join(f"{name:>9}" for name in columns) + "  made by"),)
    for index, layer in enumerate(report.layers):
        sizes = [human_bytes(layer.size_bytes)]
        sizes += [human_bytes(compressed[index])] if pulled else []
        sizes += [human_bytes(layer.wasted_bytes) if layer.wasted_bytes else ""] if wasted else []
        guilty = cause is not None and cause.layer == index
        start: Line = (
            ("bad", "▸ " if guilty else "  "), ("strong" if guilty else "", f"{index:>3}"),
            ("", f"{sizes[0]:>9}"), *(("faint", f"{size:>9}") for size in sizes[1:]), ("", "  "),
        )  # fmt: skip
        text = instruction(layer.created_by)
        note = "" if layer.coverage == "full" else f" ({layer.coverage})"
        if verbose:
            yield from wrap((("name", text), ("doubt", note.strip())), width, start)
        else:
            yield (*start, ("name", shorten(text, width - width_of(start) - len(note))), ("doubt", note))
    if len(report.layers) > 1:
        totals = [human_bytes(sum(layer.size_bytes for layer in report.layers))]
        totals += [human_bytes(sum(compressed))] if pulled else []
        totals += [human_bytes(report.wasted_bytes) if report.wasted_bytes else ""] if wasted else []
        yield (("faint", "     " + "".join(f"{size:>9}" for size in totals) + "  together"),)


def _bases(report: Report, width: int, *, verbose: bool) -> Iterator[Line]:
    """Where the program could run, in full with `verbose`; for one that fails, those that would do."""
    found = [fit for fit in fits(report) if fit.starts or verbose]
    if not found or not (verbose or report.verdict.reason in _OF_THE_BASE):
        return
    yield from _heading("What it would run on")
    for fit in found:
        weight = human_bytes(fit.size_bytes) if fit.starts else "no"
        yield from wrap(
            (("", f"{fit.base}: "), ("faint", fit.why)), width, (("good" if fit.starts else "bad", f"  {weight:>8}  "),)
        )
    own = human_bytes(sum(part.size_bytes for part in report.parts))
    text = f"Program, loader and libraries alone are {own}. Bases as published; what the program opens by itself is not seen."
    yield from wrap((("faint", text),), width, (("", "  "),))


def _facts(report: Report, cause: Finding | None, width: int) -> Iterator[Line]:
    yield ()
    runs = " ".join(report.argv) or "nothing"
    yield from _fact("runs", f"{runs} as {report.user or 'root'} in {report.working_dir}", width)
    files = "1 file" if report.files == 1 else f"{report.files} files"
    libc = {"": "", "none": "", "static": ", static", "unknown": ""}.get(report.libc, f", {report.libc}")
    yield from _fact("on", f"{report.os or 'nothing known'}{libc}; {files}, {report.elf_files} ELF", width)
    yield from _fact("image", report.image_id, width)
    yield from _fact("host", report.profile, width)
    for index, text in enumerate(report.assumptions):
        yield from _fact("assume" if not index else "", text, width)
    if report.complete:
        yield from _fact("unseen", "nothing: every layer was read in full", width)
    for index, text in enumerate(report.incomplete):
        yield from _fact("unseen" if not index else "", text, width, "doubt")


def _fact(label: str, text: str, width: int, style: str = "faint") -> Iterator[Line]:
    yield from wrap(((style, text),), width, (("faint", f"  {label:<{LABEL_WIDTH}} "),))
