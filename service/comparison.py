"""Two reports side by side: what changed in verdict, findings, layers and bytes from one tag to the other."""

from __future__ import annotations

import msgspec

from analyzers.finding import Finding, LayerSummary, Report, Weight

SHOWN_PLACES = 30


class PlaceChange(msgspec.Struct, frozen=True):
    """A directory whose weight changed."""

    path: str
    before_bytes: int
    after_bytes: int

    @property
    def grown_bytes(self) -> int:
        return self.after_bytes - self.before_bytes


class Comparison(msgspec.Struct, frozen=True):
    """What is different in `after`."""

    before: Report
    after: Report
    same_verdict: bool
    new_findings: tuple[Finding, ...]
    gone_findings: tuple[Finding, ...]
    shared_layers: int
    """Layers that both have, counted from the bottom until they part."""
    new_layers: tuple[LayerSummary, ...]
    gone_layers: tuple[LayerSummary, ...]
    places: tuple[PlaceChange, ...]
    """Listed directories by how much they changed, deepest cause first: a parent that changed only by its child is left out."""

    @property
    def grown_bytes(self) -> int:
        return self.after.size_bytes - self.before.size_bytes


def compare(before: Report, after: Report) -> Comparison:
    """Findings are the same when rule and subject are."""
    known = {(each.rule, each.subject) for each in before.findings}
    now = {(each.rule, each.subject) for each in after.findings}
    shared = 0
    for one, other in zip(before.layers, after.layers, strict=False):
        if one.diff_id != other.diff_id:
            break
        shared += 1
    verdicts = [(each.verdict.state, each.verdict.reason, each.verdict.message) for each in (before, after)]
    return Comparison(
        before=before,
        after=after,
        same_verdict=verdicts[0] == verdicts[1],
        new_findings=tuple(each for each in after.findings if (each.rule, each.subject) not in known),
        gone_findings=tuple(each for each in before.findings if (each.rule, each.subject) not in now),
        shared_layers=shared,
        new_layers=after.layers[shared:],
        gone_layers=before.layers[shared:],
        places=_places(before.directories, after.directories),
    )


def _places(before: tuple[Weight, ...], after: tuple[Weight, ...]) -> tuple[PlaceChange, ...]:
    was = {each.path: each.size_bytes for each in before}
    is_now = {each.path: each.size_bytes for each in after}
    # A directory that one list has no room for is not known to be empty: only those in both count, or new below the root.
    smallest = max(min(was.values(), default=0), min(is_now.values(), default=0))
    changes = {}
    for path in was.keys() | is_now.keys():
        pair = (was.get(path, 0), is_now.get(path, 0))
        in_both = path in was and path in is_now
        if (in_both and pair[0] != pair[1]) or abs(pair[1] - pair[0]) > smallest:
            changes[path] = PlaceChange(path, *pair)
    if len(changes) > 1:
        changes.pop("/", None)  # all of them together
    explained = {path.rpartition("/")[0] or "/" for path in changes}
    kept = [
        change
        for path, change in changes.items()
        if path not in explained or not any(_explains(child, path, change) for child in changes.values())
    ]
    return tuple(sorted(kept, key=lambda each: (-abs(each.grown_bytes), each.path))[:SHOWN_PLACES])


def _explains(child: PlaceChange, path: str, change: PlaceChange) -> bool:
    """Whether all of a parent's change is that of one child."""
    return (child.path.rpartition("/")[0] or "/") == path and child.path != path and child.grown_bytes == change.grown_bytes
