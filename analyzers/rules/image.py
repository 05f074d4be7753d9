"""The reading of the image itself."""

from __future__ import annotations

from analyzers.finding import Severity
from analyzers.rules.rule import Rule

_W = Severity.WARNING

TABLE = (
    Rule(
        "image.not-wholly-read",
        _W,
        "Not everything of the image was seen",
        "A limit or an unreadable part; what was not seen is listed.",
        "Raise the limit named, or make the part readable.",
        "decisions 15",
    ),
)  # fmt: skip
