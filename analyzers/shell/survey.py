"""All ways through a script, and what they have in common."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from analyzers.accounts import Credentials
from analyzers.handover.place import Surroundings
from analyzers.shell.commands import Speaker
from analyzers.shell.core import Budget
from analyzers.shell.outcomes import Ended, Failed, GaveUp, Lost, Missing, Outcome, Over, Return, Stays
from analyzers.shell.state import Field, Gap, Launched, State, Variable
from analyzers.shell.walk import Walk

MAX_WAYS = 48
"""Walks through one script before it is given up."""


class Script(NamedTuple):
    """What a shell is asked to run."""

    text: bytes
    file: str
    """Its path, for people."""
    positional: tuple[Field, ...]
    options: tuple[bytes, ...] = ()
    """`-e`, `-u`, `+e`, `+u`."""


class Survey(NamedTuple):
    """What is known of all ways together."""

    outcome: Outcome
    others: tuple[Launched, ...] = ()
    """Other programs that it may end with."""
    failures: tuple[Failed, ...] = ()
    """Ways that fail, where not all do."""
    gave_up: tuple[GaveUp, ...] = ()
    missing: tuple[Missing, ...] = ()
    """Commands that every way wants and that cannot be run."""
    ways: int = 1


def survey(place: Surroundings, speaker: Speaker, creds: Credentials, script: Script) -> Survey:
    """Walk every way through the script, up to a bound. Never raises for what a script contains."""
    budget, choices = Budget(), list[tuple[int, int]]()
    outcomes: list[Outcome] = []
    missing: list[tuple[Missing, ...]] = []
    for _ in range(MAX_WAYS):
        walk = Walk(place, speaker, creds, first_state(place, script), file=script.file, budget=budget, choices=choices)
        outcomes.append(_walked(walk, script))
        missing.append(tuple(walk.missing))
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            break
        choices[-1] = (choices[-1][0] + 1, choices[-1][1])
    else:
        outcomes.append(Lost(script.file, 1, "there are too many ways through it"))
    return _together(outcomes, missing)


def first_state(place: Surroundings, script: Script) -> State:
    """What a shell knows before its first command."""
    variables = {}
    for item in place.env:
        name, equals, value = item.partition(b"=")
        if equals:
            variables[name] = Variable(value, True)
    variables[b"OPTIND"] = Variable(b"1")
    variables[b"HOSTNAME"] = Variable(Gap.ONE, True)  # the engine's own choice
    state = State(variables, script.positional, place.cwd)
    for name in variables:
        if name.startswith(b"BASH_FUNC_") and name.endswith(b"%%"):
            state.functions[name[10:-2]] = None
    for option in script.options:
        if option.endswith(b"e"):
            state.errexit = option.startswith(b"-")
        else:
            state.nounset = option.startswith(b"-")
    return state


def _walked(walk: Walk, script: Script) -> Outcome:
    try:
        status = walk.run_text(script.text)
    except Over as over:
        return over.outcome
    except Return as way:
        status = way.status
    state = walk.state
    if state.last is not None:
        return state.last
    if status and state.blame is not None:
        return Failed(script.file, state.blame)
    return Ended(status)


def _together(outcomes: Sequence[Outcome], missing: Sequence[tuple[Missing, ...]]) -> Survey:
    everywhere = tuple(each for each in missing[0] if all(each in others for others in missing[1:]))
    gave_up = tuple(dict.fromkeys(each for each in outcomes if isinstance(each, GaveUp)))
    failures = tuple(dict.fromkeys(each for each in outcomes if isinstance(each, Failed)))
    launched: dict[tuple[object, ...], Launched] = {}
    for each in outcomes:
        if isinstance(each, Launched):
            launched.setdefault((each.executed.subject, each.executed.argv, each.executed.script), each)
    programs = tuple(launched.values())
    survey = functools.partial(Survey, gave_up=gave_up, missing=everywhere, ways=len(outcomes))
    lost = next((each for each in outcomes if isinstance(each, Lost)), None)
    if lost is not None:
        return survey(lost, programs, failures)
    others = next((each for each in outcomes if isinstance(each, Ended | Stays)), None)
    if others is not None:
        return survey(others, programs, failures)
    if programs:
        return survey(programs[0], programs[1:], failures)
    if failures:
        return survey(failures[0], (), ())
    return survey(gave_up[0], (), ())
