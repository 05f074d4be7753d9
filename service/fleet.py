"""The fleet in memory: what each name shows now, ready to be listed, filtered, sorted and exported without the store.

The daemon fills it from the store at its start and after each commit; pages, API and metrics only read it, so that none
of them waits for a database (hostile 127). Reports themselves are not here: a row has the key under which one is stored.
Knows no clock and no I/O. A revision counts every change.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from analyzers.errors import Malformed
from analyzers.finding import Reason, Report, Severity, Stage, State
from service.owners import Owners
from service.risk import FindingCount, count_findings, risk_of, without
from service.silencing import Silences
from service.sources import Build, Sighting

MAX_PAGE = 500
KEPT_BUILDS = 10_000
_SEVERITIES = tuple(Severity)


class Standing(enum.StrEnum):
    """Where a row stands, worst first. Not analysed is never clean: it is `unknown` or `waiting`."""

    FAILS = "fails"
    UNKNOWN = "unknown"
    WAITING = "waiting"
    STARTS = "starts"
    ARTIFACT = "artifact"
    """Not an image at all: a signature, an SBOM, a chart."""


class FleetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One name and platform, and what is known of the image behind it."""

    source: str
    registry: str
    repository: str
    tag: str
    """Empty for an image without a tag."""
    platform: str
    """Empty until the name was examined for the first time."""
    digest: str = ""
    """What the source claims, as in Sighting."""
    manifest_digest: str = ""
    image_id: str = ""
    report_key: str = ""
    """Key of the stored report; empty when there is none."""
    outcome: str = "queued"
    """`queued`, `done`, `not-an-image`, or the code of what kept it from being analysed (docs/hostile.md)."""
    detail: str = ""
    """The outcome in a sentence."""
    state: State | None = None
    stage: Stage | None = None
    reason: Reason | None = None
    message: str = ""
    """The line the user would see, or why the verdict is unknown."""
    exit_code: int | None = None
    os: str = ""
    libc: str = ""
    isa_level: int = 0
    """x86-64 level that the start chain needs (1 to 4); 0 where that does not apply or is not known."""
    max_page_size: int = 0
    """Largest page of a kernel that can map the start chain; 0 where that does not apply."""
    kernel: str = ""
    """Oldest Linux that the start chain says it runs on."""
    team: str = ""
    """Whose it is, by the owners of the configuration."""
    build: Build | None = None
    """The build that made it, where a source told of one."""
    growth_bytes: int | None = None
    """Change of the uncompressed size by the last push of this tag; None before there were two."""
    new_rules: tuple[str, ...] | None = None
    """Rules of fatal and later findings that the last push brought; None before there were two."""
    compressed_bytes: int = 0
    """Bytes of the layers as transported; 0 when the source does not tell."""
    size_bytes: int = 0
    """Bytes of the files of all layers."""
    wasted_bytes: int = 0
    layers: tuple[str, ...] = ()
    """Diff IDs, lowest first."""
    layer_bytes: tuple[int, ...] = ()
    """Bytes of the files of each."""
    findings: tuple[FindingCount, ...] = ()
    """Worst first; the silenced ones are among them."""
    silenced: tuple[FindingCount, ...] = ()
    """Those that the configuration silences today."""
    complete: bool = False
    first_seen: float = 0.0
    last_seen: float = 0.0
    analysed_at: float = 0.0

    @property
    def name(self) -> str:
        """registry/repository:tag as people write it; by digest where there is no tag."""
        place = f"{self.registry}/{self.repository}" if self.registry else self.repository
        if self.tag:
            return f"{place}:{self.tag}"
        return f"{place}@{self.digest}" if self.digest else place

    @property
    def key(self) -> tuple[str, str, str, str, str, str]:
        """What makes a row; rows in the order of their keys are in the order of their names."""
        untagged = "" if self.tag else self.digest
        return (self.registry, self.repository, self.tag, untagged, self.platform, self.source)

    @property
    def sighting(self) -> Sighting:
        return Sighting(self.source, self.registry, self.repository, self.tag, self.digest)

    @property
    def standing(self) -> Standing:
        if self.outcome == "not-an-image":
            return Standing.ARTIFACT
        if self.outcome == "queued" and self.state is None:
            return Standing.WAITING
        return Standing.UNKNOWN if self.state is None else Standing(str(self.state))

    @property
    def short_digest(self) -> str:
        """Twelve digits of the manifest's digest, else of the image ID."""
        return short_digest(self.manifest_digest or self.image_id)

    @property
    def loud(self) -> tuple[FindingCount, ...]:
        """The findings that nobody silenced."""
        return without(self.findings, self.silenced) if self.silenced else self.findings

    @property
    def hushed(self) -> bool:
        """Whether it fails for a reason that is silenced: a failure all the same, of which nobody need be told."""
        fatal = any(found.severity is Severity.FATAL for found in self.silenced)
        return fatal and self.state is State.FAILS and not self.count(Severity.FATAL)

    @property
    def risk(self) -> int | None:
        """0 to 100; None where nothing is known (risk.py). What is silenced does not count."""
        return risk_of(State.STARTS if self.hushed else self.state, self.loud)

    def count(self, severity: Severity) -> int:
        """Findings of that severity that nobody silenced."""
        return sum(found.count for found in self.loud if found.severity is severity)


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a source does, in the words of its last attempt."""

    name: str
    kind: str
    up: bool | None = None
    """None until its first attempt has ended."""
    last_success: float = 0.0
    """Time of the last listing that went through; 0 when none did."""
    error: str = ""
    """Why the last attempt failed; empty when it did not."""
    remark: str = ""
    """What went well and yet left a doubt, such as a gap in what was listed."""


class FleetQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to list. Empty fields do not filter; a leading `-` of `sort` turns the order round."""

    q: str = ""
    """Text that must stand in the name, the digest, the image ID or the verdict's sentence."""
    standing: str = ""
    reason: str = ""
    severity: str = ""
    """Has a finding of this severity."""
    rule: str = ""
    source: str = ""
    registry: str = ""
    repository: str = ""
    tag: str = ""
    platform: str = ""
    team: str = ""
    os: str = ""
    """Exact, or the distribution alone: `debian` for every version of it."""
    libc: str = ""
    """Exact, or the family alone."""
    layer: str = ""
    """Diff ID that the image has."""
    digest: str = ""
    """Digest of the index or the manifest, or the image ID."""
    build: str = ""
    """Ref of the build that made it."""
    sort: str = "standing"


class FleetPage(msgspec.Struct, frozen=True):
    """Some rows of a listing, how many there are in all, and where to go on."""

    rows: tuple[FleetRow, ...]
    total: int
    cursor: str
    """Empty on the last page."""


SORTS: dict[str, Callable[[FleetRow], Any]] = {
    "standing": lambda row: tuple(Standing).index(row.standing),
    "name": lambda row: row.repository,
    "size": lambda row: row.size_bytes,
    "compressed": lambda row: row.compressed_bytes,
    "wasted": lambda row: row.wasted_bytes,
    "layers": lambda row: len(row.layers),
    "findings": lambda row: [row.count(severity) for severity in _SEVERITIES],
    "os": lambda row: row.os,
    "risk": lambda row: row.risk if row.risk is not None else -1,
    "growth": lambda row: row.growth_bytes or 0,
    "analysed": lambda row: row.analysed_at,
    "seen": lambda row: row.first_seen,
}


class Fleet:
    """Every row, by key. Only the daemon's loop changes it; `rows` may be used in another thread."""

    def __init__(self, owners: Owners | None = None, silences: Silences | None = None) -> None:
        self.owners = owners or Owners()
        self.silences = silences or Silences()
        self.revision = 0
        self._rows: dict[tuple[str, ...], FleetRow] = {}
        self._names: dict[Sighting, set[tuple[str, ...]]] = {}
        self._sources: dict[str, SourceStatus] = {}
        self._builds: dict[str, Build] = {}
        self._sorted: tuple[int, tuple[FleetRow, ...]] = (0, ())

    def __len__(self) -> int:
        return len(self._rows)

    def upsert(self, row: FleetRow) -> None:
        """Adds a row, or replaces the one of the same name and platform. Whose it is and what built it is said here."""
        build = next((self._builds[digest] for digest in _digests(row) if digest in self._builds), None)
        row = msgspec.structs.replace(row, team=self.owners.team_of(row.registry, row.repository), build=build)
        if self._rows.get(row.key) == row:
            return
        self._rows[row.key] = row
        self._names.setdefault(_name_of(row.sighting), set()).add(row.key)
        self.revision += 1

    def replace(self, sighting: Sighting, rows: Iterable[FleetRow]) -> None:
        """What an examination found of a name replaces every row of it: platforms that are no more leave."""
        kept = tuple(rows)
        gone = self._names.get(_name_of(sighting), set()) - {row.key for row in kept}
        self._drop(sighting, gone)
        for row in kept:
            self.upsert(row)

    def remove(self, sighting: Sighting) -> None:
        """The name is gone, with all its platforms."""
        self._drop(sighting, set(self._names.get(_name_of(sighting), ())))

    def renew_owners(self, owners: Owners) -> None:
        """Other owners are in force: every row says so."""
        self.owners = owners
        for row in self.rows():
            self.upsert(row)

    def news_of_builds(self, builds: Mapping[str, Build]) -> dict[str, Build]:
        """Those builds, by the digest of what they made, that are not known yet."""
        return {digest: build for digest, build in builds.items() if digest and self._builds.get(digest) != build}

    def note_builds(self, builds: Mapping[str, Build]) -> None:
        """What builds made: every image of those digests says so."""
        self._builds |= builds
        for digest in list(self._builds)[: max(0, len(self._builds) - KEPT_BUILDS)]:
            del self._builds[digest]
        for row in self.rows() if builds else ():
            if not builds.keys().isdisjoint(_digests(row)):
                self.upsert(row)

    def note_source(self, status: SourceStatus) -> None:
        """How a source does now."""
        if self._sources.get(status.name) != status:
            self._sources[status.name] = status
            self.revision += 1

    def forget_source(self, name: str) -> None:
        """A source that is no longer configured, with every row that came from it."""
        self._sources.pop(name, None)
        for row in [row for row in self._rows.values() if row.source == name]:
            self._drop(row.sighting, {row.key})
        self.revision += 1

    def sources(self) -> tuple[SourceStatus, ...]:
        return tuple(self._sources[name] for name in sorted(self._sources))

    def rows(self) -> tuple[FleetRow, ...]:
        """Every row in the order of names; the same tuple until something changes."""
        revision, rows = self._sorted
        if revision != self.revision or len(rows) != len(self._rows):
            rows = tuple(self._rows[key] for key in sorted(self._rows))
            self._sorted = (self.revision, rows)
        return rows

    def named(self, sighting: Sighting) -> tuple[FleetRow, ...]:
        """The rows of one name, one a platform; whatever digest they show."""
        return tuple(self._rows[key] for key in sorted(self._names.get(_name_of(sighting), ())))

    def names_of(self, source: str) -> tuple[Sighting, ...]:
        """Every name that a source shows."""
        return tuple(name for name in self._names if name.source == source)

    def rows_of_names(self, rows: Iterable[FleetRow]) -> list[FleetRow]:
        """What the names of these rows show at the moment."""
        return [row for name in {_name_of(row.sighting) for row in rows} for row in self.named(name)]

    def of_image(self, digest: str) -> tuple[FleetRow, ...]:
        """The rows behind an image ID or a manifest digest."""
        return tuple(row for row in self.rows() if digest and digest in (row.image_id, row.manifest_digest))

    def matching(self, query: FleetQuery) -> list[FleetRow]:
        """Every row that fits, sorted. Raises Malformed for an order there is not."""
        rows = [row for row in self.rows() if _fits(row, query)]
        field = query.sort.removeprefix("-")
        if field not in SORTS:
            raise Malformed(f"sort: {field[:40]!r} is not one of {', '.join(SORTS)}")
        rows.sort(key=SORTS[field], reverse=query.sort.startswith("-"))
        return rows

    def page(self, query: FleetQuery, *, limit: int = 50, cursor: str = "") -> FleetPage:
        """At most `limit` rows (1 to MAX_PAGE) after a cursor. Raises Malformed for a cursor that is none.

        A cursor names the last row shown, so rows that come and go meanwhile neither repeat nor hide others; where that
        row itself has gone, listing goes on at its place.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise Malformed(f"limit: not within 1 and {MAX_PAGE}")
        rows = self.matching(query)
        start = _place_after(rows, cursor) if cursor else 0
        shown = tuple(rows[start : start + limit])
        more = start + limit < len(rows)
        return FleetPage(shown, len(rows), _cursor(shown[-1], start + len(shown)) if more and shown else "")

    def standings(self) -> dict[Standing, int]:
        """How many rows stand where, worst first; every standing is a key."""
        counted = Counter(row.standing for row in self._rows.values())
        return {standing: counted[standing] for standing in Standing}

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The values a filter can take, by field of FleetQuery."""
        rows = self.rows()
        return {
            "reason": _sorted(str(row.reason or "") for row in rows),
            "registry": _sorted(row.registry for row in rows),
            "platform": _sorted(row.platform for row in rows),
            "team": _sorted(row.team for row in rows),
            "source": _sorted(row.source for row in rows),
            "os": _sorted(row.os.partition(" ")[0] for row in rows),
            "libc": _sorted(row.libc.partition(" ")[0] for row in rows),
            "rule": _sorted(found.rule for row in rows for found in row.findings),
        }

    def _drop(self, sighting: Sighting, keys: Iterable[tuple[str, ...]]) -> None:
        name = _name_of(sighting)
        for key in list(keys):
            if self._rows.pop(key, None) is not None:
                self.revision += 1
            left = self._names.get(name, set())
            left.discard(key)
            if not left:
                self._names.pop(name, None)


def make_row(
    sighting: Sighting,
    platform: str,
    report: Report | None,
    *,
    outcome: str,
    silences: Silences | None = None,
    detail: str = "",
    manifest_digest: str = "",
    image_id: str = "",
    report_key: str = "",
    compressed_bytes: int = 0,
    first_seen: float = 0.0,
    last_seen: float = 0.0,
    analysed_at: float = 0.0,
) -> FleetRow:
    """The row of a sighting and its report; without a report the outcome alone speaks."""
    row = FleetRow(
        source=sighting.source, registry=sighting.registry, repository=sighting.repository, tag=sighting.tag,
        digest=sighting.digest, platform=platform, manifest_digest=manifest_digest, image_id=image_id,
        report_key=report_key, outcome=outcome, detail=detail, compressed_bytes=compressed_bytes,
        first_seen=first_seen, last_seen=last_seen, analysed_at=analysed_at,
    )  # fmt: skip
    if report is None:
        return row
    verdict = report.verdict
    return msgspec.structs.replace(
        row,
        image_id=report.image_id, state=verdict.state, stage=verdict.stage, reason=verdict.reason,
        message=verdict.message or verdict.why_unknown, exit_code=verdict.exit_code, os=report.os, libc=report.libc,
        isa_level=report.x86_level, max_page_size=report.max_page_size, kernel=report.kernel,
        size_bytes=report.size_bytes, wasted_bytes=report.wasted_bytes, complete=report.complete,
        layers=tuple(layer.diff_id for layer in report.layers),
        layer_bytes=tuple(layer.size_bytes for layer in report.layers), findings=count_findings(report.findings),
        silenced=() if silences is None else silences.counts(sighting.registry, sighting.repository, report),
    )  # fmt: skip


def _digests(row: FleetRow) -> tuple[str, ...]:
    """What the image may be known by."""
    return (row.digest, row.manifest_digest, row.image_id)


def short_digest(digest: str) -> str:
    """The first twelve hex digits, as people see them."""
    return digest.partition(":")[2][:12]


def _name_of(sighting: Sighting) -> Sighting:
    """A tag is the same name whatever it points to."""
    return msgspec.structs.replace(sighting, digest="") if sighting.tag else sighting


def _fits(row: FleetRow, query: FleetQuery) -> bool:
    exact = (
        (query.standing, row.standing),
        (query.reason, row.reason),
        (query.source, row.source),
        (query.registry, row.registry),
        (query.repository, row.repository),
        (query.tag, row.tag),
        (query.platform, row.platform),
        (query.team, row.team),
    )
    if any(wanted and wanted != has for wanted, has in exact):
        return False
    families = ((query.os, row.os), (query.libc, row.libc))
    if any(wanted and wanted not in (has, has.partition(" ")[0]) for wanted, has in families):
        return False
    if query.rule and not any(found.rule == query.rule for found in row.findings):
        return False
    if query.severity and not any(found.severity == query.severity for found in row.findings):
        return False
    if query.layer and query.layer not in row.layers:
        return False
    if query.digest and query.digest not in _digests(row):
        return False
    if query.build and (row.build is None or row.build.ref != query.build):
        return False
    words = query.q.lower().split()
    if not words:
        return True
    text = f"{row.name} {row.manifest_digest} {row.image_id} {row.message} {row.os} {row.libc} {row.detail}".lower()
    return all(word in text for word in words)


def _cursor(row: FleetRow, place: int) -> str:
    raw = msgspec.msgpack.encode((place, row.key))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _place_after(rows: Sequence[FleetRow], cursor: str) -> int:
    """Where a listing goes on: behind the row the cursor names, or at its old place when it has left."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        place, key = msgspec.msgpack.decode(raw, type=tuple[int, tuple[str, str, str, str, str, str]])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise Malformed("cursor: not one that was given out here") from None
    found = next((index + 1 for index, row in enumerate(rows) if row.key == key), None)
    if found is not None:
        return found
    return max(0, min(place - 1, len(rows)))


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}))
