"""What one kind of finding says: a row of the tables beside this file."""

from __future__ import annotations

import msgspec

from analyzers.finding import Reason, Severity


class Rule(msgspec.Struct, frozen=True):
    """One kind of finding. `reason` is the label of the verdict where the rule is the cause of one."""

    id: str
    severity: Severity
    title: str
    why: str
    remedy: str
    source: str
    reason: Reason = Reason.OTHER
    example: str = ""
    """A message as a report has it."""
    evidence: str = ""
    """What in the image decides."""
