"""From an image's config and the facts of its layers to its report; the list of judges and their versions.

A report is the same bytes for the same config, facts, profile, overrides and versions. Nothing unseen is clean:
whatever was not read is listed, and the verdict is UNKNOWN where it could have been otherwise.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from analyzers import plugins
from analyzers.closure import host_fit, start_parts
from analyzers.contents import DEBUG, SYMBOLS, Weighing
from analyzers.dotnet import dotnet_findings
from analyzers.driver import judge_driver
from analyzers.facts import Coverage, LayerFacts, Verified
from analyzers.finding import Content, Finding, LayerSummary, Reason, Report, Severity, State, Verdict, Weight, show
from analyzers.health import health_findings
from analyzers.java import java_findings
from analyzers.linkage import explain
from analyzers.load_findings import dlopen_findings, host_assumptions, host_findings
from analyzers.loader import LoadResult
from analyzers.needs import find_needs
from analyzers.node import judge_node
from analyzers.oci import ImageConfig
from analyzers.php import php_findings
from analyzers.profile import DEFAULT_PROFILE, HostProfile
from analyzers.python import judge_python
from analyzers.rootfs import Rootfs
from analyzers.ruby import ruby_findings
from analyzers.rules import RULES
from analyzers.size import ImageSize, measure
from analyzers.start import NO_OVERRIDES, Overrides, Start, foretell_start, load_program
from analyzers.supervisor import supervisor_findings
from analyzers.trail import show_path


class Judge(NamedTuple):
    """One part of the judging. Its version rises whenever its answers may change."""

    name: str
    version: int


JUDGES = (
    Judge("start", 5),
    Judge("layers", 2),
    Judge("size", 3),
    Judge("python", 1),
    Judge("java", 1),
    Judge("dotnet", 1),
    Judge("php", 1),
    Judge("ruby", 1),
    Judge("node", 1),
    Judge("driver", 1),
    Judge("needs", 1),
    Judge("parts", 1),
)
RULES_VERSION = ",".join(f"{judge.name}-{judge.version}" for judge in JUDGES)

_SEVERITIES = tuple(Severity)
_SHOWN_SYMBOLS = 12
_SHOWN_PACKAGES = 4_000
_SHOWN_NOTES = 20
"""Findings of one rule in one layer that are listed one by one."""
_WASTE_FLOOR = 1_000_000
"""Bytes of one layer that must be hidden before it is worth a finding."""
_ASSUMPTIONS = (
    "Nothing is mounted over the image's files but what every container has.",
    "Nothing but the image and the overrides sets the environment.",
)
_COMPARED_APART = "A layer was read in place: its large files were compared for doubles with each other, not with other layers'."


def judge_image(
    image_id: str,
    config: ImageConfig,
    layers: Sequence[LayerFacts],
    *,
    profile: HostProfile = DEFAULT_PROFILE,
    overrides: Overrides = NO_OVERRIDES,
) -> Report:
    """The whole report. `layers` are bottom first, as many as the config has diff IDs; never raises for odd images."""
    rootfs = Rootfs(layers, bare_parents=profile.bare_parents)
    start = foretell_start(rootfs, config, profile, overrides)
    explained = explain(start, rootfs, config)
    findings = list(_note_findings(config, rootfs))
    if explained is not None:
        findings.append(explained[0])
    findings.extend(_loader_findings(start))
    findings.extend(_cpu_findings(start, rootfs, profile))
    plugged = plugins.Start(start.env, start.cwd, start.user.credentials(dac_override=profile.dac_override), profile)
    findings.extend(judge_python(rootfs, plugged))
    findings.extend(java_findings(rootfs, start, config.platform.architecture))
    findings.extend(dotnet_findings(rootfs, start))
    findings.extend(php_findings(rootfs, start, config, profile))
    findings.extend(ruby_findings(rootfs))
    findings.extend(judge_node(rootfs, plugged))
    findings.extend(judge_driver(rootfs))
    findings.extend(find_needs(start, rootfs))
    findings.extend(_remark_findings(start))
    findings.extend(health_findings(rootfs, config, profile, overrides))
    findings.extend(supervisor_findings(start, rootfs))
    incomplete = tuple(_incomplete(layers))
    if incomplete:
        rule = RULES["image.not-wholly-read"]
        findings.append(Finding(rule.id, rule.severity, f"{rule.title}: {incomplete[0]}", why=rule.why, remedies=(rule.remedy,)))
    weighing = Weighing()
    size = measure(rootfs, weighing)
    weights = weighing.finish()
    findings.extend(_waste_findings(size))
    findings.extend(_content_findings(weights.contents))
    findings.extend(_double_findings(weights.doubles))
    fit = host_fit(start, rootfs)
    return Report(
        image_id=image_id,
        platform=str(config.platform),
        argv=tuple(show(item) for item in start.argv),
        user=config.user if overrides.user is None else overrides.user,
        working_dir=show(start.cwd),
        verdict=_verdict(start, None if explained is None else explained[1]),
        chain=start.steps,
        findings=tuple(sorted(findings, key=_order)),
        layers=tuple(_summaries(config, layers, size)),
        os=_distribution(rootfs),
        libc=_libc(start, rootfs),
        x86_level=_x86_level(start, rootfs),
        max_page_size=fit.max_page_size,
        kernel=fit.kernel,
        parts=start_parts(start, rootfs),
        missing=() if start.loaded is None else tuple(dict.fromkeys(name for name, _ in start.loaded.missing)),
        packages=_packages(layers),
        size_bytes=sum(each.file_bytes for each in size.layers),
        wasted_bytes=sum(each.wasted_bytes for each in size.layers),
        files=size.files,
        elf_files=size.elf_files,
        directories=weights.directories,
        biggest=weights.biggest,
        contents=weights.contents,
        doubles=weights.doubles,
        complete=not incomplete,
        incomplete=incomplete,
        assumptions=(
            *_ASSUMPTIONS,
            *dict.fromkeys((*start.assumptions, *host_assumptions(start.loaded))),
            *_in_place(layers),
        ),
        versions={judge.name: str(judge.version) for judge in JUDGES},
        profile=str(profile),
    )


def _in_place(layers: Sequence[LayerFacts]) -> tuple[str, ...]:
    """What layers read where they lie do not tell (decisions 2)."""
    return (_COMPARED_APART,) if any(facts.verified is Verified.LOCAL for facts in layers) else ()


def _verdict(start: Start, reason: Reason | None) -> Verdict:
    if start.state is State.STARTS:
        return Verdict(start.state, start.stage)
    if start.state is State.UNKNOWN:
        return Verdict(start.state, why_unknown=start.why_unknown)
    return Verdict(
        start.state,
        start.stage,
        reason,
        show(start.message),
        tuple(show(line) for line in start.lines),
        start.exit_code,
    )


def _order(finding: Finding) -> tuple[int, str, str, int, str]:
    layer = -1 if finding.layer is None else finding.layer
    return _SEVERITIES.index(finding.severity), finding.rule, finding.subject, layer, finding.message


def _note_findings(config: ImageConfig, rootfs: Rootfs) -> Iterator[Finding]:
    """Oddities of the config and the layers, those of one kind in one layer summed up beyond a few."""
    for code, detail in config.notes:
        yield _note_finding("config." + code.removeprefix("config-"), None, "", detail)
    noted = [(index, note) for index, facts in enumerate(rootfs.layers) for note in facts.notes]
    noted += [(each.layer, each.note) for each in rootfs.notes]
    counts: dict[tuple[int, str], int] = {}
    for index, note in noted:
        count = counts[index, note.code] = counts.get((index, note.code), 0) + 1
        if count <= _SHOWN_NOTES:
            yield _note_finding("layer." + note.code, index, show_path(note.path) if note.path else "", note.detail)
    for (index, code), count in sorted(counts.items()):
        if count > _SHOWN_NOTES:
            yield _note_finding("layer." + code, index, "", f"{count - _SHOWN_NOTES} more like these")


def _note_finding(rule_id: str, layer: int | None, subject: str, detail: str) -> Finding:
    rule = RULES.get(rule_id, RULES["layer.odd"])
    what = rule.title if rule.id == rule_id else rule_id.partition(".")[2].replace("-", " ")
    message = f"{what}: {detail}" if detail else what
    return Finding(rule.id, rule.severity, message, subject, layer, why=rule.why, remedies=(rule.remedy,))


def _loader_findings(start: Start) -> Iterator[Finding]:
    if start.loaded is None:
        return
    rule = RULES["load.warning"]
    for line in start.loaded.warnings:
        yield Finding(rule.id, rule.severity, show(line), why=rule.why, remedies=(rule.remedy,))
    if start.loaded.ok:
        yield from _later_findings(start.loaded)
        yield from host_findings(start.loaded)
        yield from dlopen_findings(start.loaded)


def _later_findings(loaded: LoadResult) -> Iterator[Finding]:
    """Functions that are missing when they are first called, object by object."""
    rule = RULES["load.later-symbol"]
    wanting: dict[str, list[str]] = {}
    for path, name, version in loaded.later:
        wanting.setdefault(path, []).append(name + (f"@{version}" if version else ""))
    for path, names in list(wanting.items())[:_SHOWN_NOTES]:
        more = f" and {len(names) - _SHOWN_SYMBOLS} more" if len(names) > _SHOWN_SYMBOLS else ""
        text = f"undefined when first called: {', '.join(names[:_SHOWN_SYMBOLS])}{more}"
        yield Finding(rule.id, rule.severity, text, path, why=rule.why, remedies=(rule.remedy,))


def _remark_findings(start: Start) -> Iterator[Finding]:
    """What was found on the way through scripts and wrappers."""
    for each in dict.fromkeys(start.remarks):
        rule = RULES[each.rule]
        yield Finding(rule.id, rule.severity, each.message, each.subject, trail=each.steps, why=rule.why, remedies=(rule.remedy,))


def _cpu_findings(start: Start, rootfs: Rootfs, profile: HostProfile) -> Iterator[Finding]:
    """Decisions 12: judged for the host's CPU level and for the baseline; a difference is a finding."""
    executed, loaded = start.execution, start.loaded
    if executed is None or loaded is None or not loaded.ok or profile.x86_level <= 1:
        return
    nodes = [executed.interp, *(each.node for each in loaded.objects)]
    facts = [rootfs.elf(node) for node in nodes if node is not None]
    picky = any(each is not None and each.x86_isa_needed > 1 for each in facts)
    if not picky and not any(b"/glibc-hwcaps/" in each.path for each in loaded.objects):
        return
    baseline = load_program(rootfs, executed, start.env, start.cwd, msgspec.structs.replace(profile, x86_level=1))
    if baseline.ok is False:
        rule = RULES["load.depends-on-cpu"]
        line = next((each for each in baseline.lines if each not in baseline.warnings), b"")
        subject = show(baseline.wanted_by)
        yield Finding(rule.id, rule.severity, show(line) or rule.title, subject, why=rule.why, remedies=(rule.remedy,))


def _waste_findings(size: ImageSize) -> Iterator[Finding]:
    rule = RULES["size.hidden-bytes"]
    for index, each in enumerate(size.layers):
        if each.wasted_bytes >= _WASTE_FLOOR:
            text = f"{each.wasted_bytes / 1e6:.1f} MB of this layer are hidden by later ones"
            yield Finding(rule.id, rule.severity, text, layer=index, why=rule.why, remedies=(rule.remedy,))


def _content_findings(contents: Sequence[Content]) -> Iterator[Finding]:
    for each in contents:
        if each.size_bytes < _WASTE_FLOOR:
            continue
        rule = RULES["size.unstripped" if each.kind in (DEBUG, SYMBOLS) else "size." + each.kind]
        text = f"{each.size_bytes / 1e6:.1f} MB: {each.what}"
        yield Finding(rule.id, rule.severity, text, each.path, each.layer, why=rule.why, remedies=(each.remedy,))


def _double_findings(doubles: Sequence[Weight]) -> Iterator[Finding]:
    rule = RULES["size.duplicate-files"]
    for each in doubles:
        if each.size_bytes >= _WASTE_FLOOR:
            text = f"The same content stands at {each.files} paths; one would spare {each.size_bytes / 1e6:.1f} MB"
            yield Finding(rule.id, rule.severity, text, each.path, each.layer, why=rule.why, remedies=(rule.remedy,))


def _incomplete(layers: Sequence[LayerFacts]) -> Iterator[str]:
    for index, facts in enumerate(layers):
        for unread in facts.unread[:_SHOWN_NOTES]:
            yield f"layer {index}: {show_path(unread.path) if unread.path else 'the layer'}: {unread.reason}"
        if len(facts.unread) > _SHOWN_NOTES:
            yield f"layer {index}: {len(facts.unread) - _SHOWN_NOTES} more files"
        if facts.coverage is not Coverage.FULL and not facts.unread:
            yield f"layer {index}: read in part"


def _summaries(config: ImageConfig, layers: Sequence[LayerFacts], size: ImageSize) -> Iterator[LayerSummary]:
    created = [text for text, empty in config.history if not empty]
    for index, (facts, each) in enumerate(zip(layers, size.layers, strict=True)):
        yield LayerSummary(
            facts.diff_id,
            show(created[index].encode("utf-8", "surrogatepass")) if index < len(created) else "",
            each.file_bytes,
            each.entries,
            each.wasted_bytes,
            facts.coverage.value,
        )


def _packages(layers: Sequence[LayerFacts]) -> dict[str, str]:
    """What the package databases of all layers say, the uppermost first to speak, at most a few thousand libraries."""
    found: dict[bytes, bytes] = {}
    for facts in reversed(layers):
        for name, package in facts.packages.items():
            found.setdefault(name, package)
    return {show(name): show(found[name]) for name in sorted(found)[:_SHOWN_PACKAGES]}


def _distribution(rootfs: Rootfs) -> str:
    """`id version` of os-release; `scratch` for an image without one, `unknown` where it says nothing."""
    for path in (b"/etc/os-release", b"/usr/lib/os-release"):
        node = rootfs.resolve(path).node
        text = None if node is None else rootfs.text(node)
        if text is None:
            continue
        values = dict(_assignments(text))
        name = values.get("ID", "")
        return f"{name} {values.get('VERSION_ID', '')}".strip() or "unknown"
    return "scratch"


def _assignments(text: bytes) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = show(line.strip()).partition("=")
        if not equals or key.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            words = [value]
        yield key, words[0][:100] if words else ""


def _libc(start: Start, rootfs: Rootfs) -> str:
    """The C library of the start chain: that of its loader, `static`, or `none` where nothing is run."""
    executed = start.execution
    if start.loaded is not None:
        return f"{start.loaded.family} {start.loaded.version}".strip()
    if executed is None or executed.program is None:
        return "none"
    facts = rootfs.elf(executed.program)
    return "static" if facts is not None and facts.interp is None else "none"


def _x86_level(start: Start, rootfs: Rootfs) -> int:
    """The highest level that the property notes of the program, its loader and its libraries need (G50)."""
    if start.execution is None or start.execution.program is None:
        return 0
    nodes = [start.execution.program, start.execution.interp]
    nodes += [each.node for each in start.loaded.objects] if start.loaded is not None else []
    needed = 0
    for node in nodes:
        facts = None if node is None else rootfs.elf(node)
        needed |= 0 if facts is None else facts.x86_isa_needed
    return (needed & 0xF).bit_length()
