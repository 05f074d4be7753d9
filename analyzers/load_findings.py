"""What is told of libraries that a start relies on and an image has not: the host's, and those that objects open by themselves.

The loaders say which they are (LoadResult.assumed, LoadResult.wished); neither stops a start.
"""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.finding import Finding, Step
from analyzers.host_libraries import assumption
from analyzers.loader import LoadResult
from analyzers.loader.dlopens import REQUIRED
from analyzers.rules import RULES

_SHOWN = 20


def host_assumptions(loaded: LoadResult | None) -> tuple[str, ...]:
    """What the verdict relies on."""
    return tuple(assumption(name) for name in dict(loaded.assumed)) if loaded is not None else ()


def host_findings(loaded: LoadResult) -> Iterator[Finding]:
    """Libraries of the host's driver that are rightly not there; copies that are there are driver.py's."""
    rule = RULES["load.host-library"]
    for name, by in dict(loaded.assumed).items():
        text = f"{name} is not in the image: the host's driver brings it"
        said = (assumption(name),)
        yield Finding(rule.id, rule.severity, text, by, why=rule.why, remedies=(rule.remedy,), assumptions=said)


def dlopen_findings(loaded: LoadResult) -> Iterator[Finding]:
    """What objects will open by themselves, by their own notes, and not find."""
    for each in loaded.wished[:_SHOWN]:
        rule = RULES["load.dlopen-required-absent" if each.priority == REQUIRED else "load.dlopen-absent"]
        feature = f" for {each.feature}" if each.feature else ""
        described = f": {each.description}" if each.description else ""
        text = f"{' or '.join(each.sonames)} is {each.priority}{feature} and not in the image{described}"
        step = Step("dlopen", each.sonames[0], each.by, ok=False, attempts=each.attempts)
        yield Finding(rule.id, rule.severity, text, each.by, trail=(step,), why=rule.why, remedies=(rule.remedy,))
