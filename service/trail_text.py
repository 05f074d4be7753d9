"""The trail as a tree of lines: each step, each place that was looked at and what was there, and what hangs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from analyzers.finding import Attempt, Outcome, Step
from service.terminal import Line, Span, cells, ends_apart, width_of, wrap
from service.words import ACTION_WORDS, Branch

SIGNS: dict[str, Span] = {"good": ("good", "✓"), "bad": ("bad", "✗"), "doubt": ("doubt", "?")}
MANY_LIBRARIES = 12
"""Found libraries beside each other beyond which only the first few are named."""
NAMED_LIBRARIES = 8
MANY_ATTEMPTS = 24
LONG_PATH = 40
_QUIET = {Outcome.FOUND, Outcome.ABSENT, Outcome.SKIPPED}
"""Outcomes that need no alarm where another place served."""
_Item = Callable[[Line, Line], Iterator[Line]]
"""Gives the lines of one item of a tree, for what goes before its first line and before the others."""


def branch_lines(
    branch: Branch, head: Line, rest: Line, width: int, *, verbose: bool = False, whole: bool = False
) -> Iterator[Line]:
    """A step, the places looked at where that tells something, and the steps that hang on it.

    `head` stands before its own line, `rest` before all others. `verbose`: every place. `whole`: every step, however many.
    """
    items: list[_Item] = [_run_item(run, width) for run in _runs(_telling(branch.step, verbose=verbose))]
    children, hidden = branch.children, 0
    if not (verbose or whole) and len(children) > MANY_LIBRARIES:
        named = [child for child in children if child.ok][:NAMED_LIBRARIES]
        kept = [child for child in children if not child.ok or child in named]
        hidden, children = len(children) - len(kept), kept
    items += [_branch_item(child, width, verbose=verbose, whole=whole) for child in children]
    if hidden:
        items.append(lambda head, _: iter([(*head, SIGNS["good"], ("faint", f" {hidden} more, all found"))]))
    yield from _step_lines(branch.step, head, (*rest, ("faint", "│  " if items else "   ")), width)
    yield from item_lines(items, rest)


def item_lines(items: Sequence[_Item], guide: Line) -> Iterator[Line]:
    """Items of one level of a tree below `guide`."""
    for place, item in enumerate(items, start=1):
        last = place == len(items)
        yield from item((*guide, ("faint", "└─ " if last else "├─ ")), (*guide, ("faint", "   " if last else "│  ")))


def _branch_item(branch: Branch, width: int, *, verbose: bool, whole: bool) -> _Item:
    return lambda head, rest: branch_lines(branch, head, rest, width, verbose=verbose, whole=whole)


# Steps


def _step_lines(step: Step, head: Line, rest: Line, width: int) -> Iterator[Line]:
    """What was wanted, where it was found and how, and by which layer it came; on two lines where one is too short."""
    action = "" if step.ok and step.action == "library" else f"{ACTION_WORDS.get(step.action, step.action)} "
    wanted: Line = (
        *head, SIGNS["good" if step.ok else "bad"], ("faint", f" {action}"),
        ("" if step.ok else "strong", step.wanted or '""'),
    )  # fmt: skip
    path: Line = (("faint", "→ "), ("", step.path)) if step.ok and step.path and step.path != step.wanted else ()
    said = _how(step.attempts[-1], step) if step.attempts and step.ok else ""
    how: Line = (("faint", f"  ({said})"),) if said else ()
    layer: Line = () if step.layer is None else (("faint", f"layer {step.layer}"),)
    whole: Line = (*wanted, ("", " "), *path, *how) if path else (*wanted, *how)
    if not path or width_of(whole) + (2 + width_of(layer) if layer else 0) <= width:
        yield ends_apart(whole, layer, width)
    else:
        yield ends_apart((*wanted, *how), layer, width)
        yield (*rest, *path)


def _how(attempt: Attempt, step: Step) -> str:
    """How something was found, where its name does not say so; and whose run path it was."""
    if attempt.origin in ("entrypoint", "path", "symlink", "#!", "PT_INTERP"):
        return attempt.detail if attempt.outcome is not Outcome.FOUND else ""
    return f"{attempt.origin} of {attempt.whose}" if attempt.whose and attempt.whose != step.by else attempt.origin


# Places


def _telling(step: Step, *, verbose: bool) -> Iterator[Attempt]:
    """Every place of a step that failed; of one that went well only what should not have been so."""
    for attempt in step.attempts[:MANY_ATTEMPTS]:
        if verbose or not step.ok or attempt.outcome not in _QUIET:
            yield attempt


def _runs(attempts: Iterator[Attempt]) -> list[list[Attempt]]:
    """Places of one origin after each other."""
    return [list(run) for _, run in groupby(attempts, key=lambda each: (each.origin, each.whose))]


def _run_item(run: Sequence[Attempt], width: int) -> _Item:
    """One place with its origin before it; several hang below their origin, what was there in a column."""
    origin = f"{run[0].origin} of {run[0].whose}" if run[0].whose else run[0].origin
    column = max((cells(each.path) for each in run if cells(each.path) <= LONG_PATH), default=0)

    def lines(head: Line, rest: Line) -> Iterator[Line]:
        if len(run) == 1:
            yield from _place_lines(run[0], (*head, ("faint", f"{origin}  ")), rest, 0, width)
            return
        yield (*head, ("faint", origin))
        yield from item_lines([_place_item(each, column, width) for each in run], rest)

    return lines


def _place_item(attempt: Attempt, column: int, width: int) -> _Item:
    return lambda head, rest: _place_lines(attempt, head, rest, column, width)


def _place_lines(attempt: Attempt, head: Line, rest: Line, column: int, width: int) -> Iterator[Line]:
    """One place and what was there; on two lines where one is too short."""
    place: Line = (*head, ("", f"{attempt.path:<{column}}  " if attempt.path else ""))
    style = "good" if attempt.outcome is Outcome.FOUND else "faint" if attempt.outcome in _QUIET else "bad"
    told: list[Span] = [(style, attempt.outcome.value)]
    if attempt.detail:
        told = [(style, f"{attempt.outcome.value}: "), ("faint", attempt.detail)]
    if attempt.layer is not None:
        told.append(("faint", f" (layer {attempt.layer})"))
    if width_of(place) + width_of(told) <= width:
        yield (*place, *told)
        return
    yield place
    yield from wrap(told, width, (*rest, ("", "  ")), (*rest, ("", "  ")))
