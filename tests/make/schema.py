"""docs/report.schema.json made anew from the Structs: `python -m tests.make.schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from analyzers import finding
from service import scan, silencing
from tests.make.example import docstrings

SCHEMA = Path(__file__).resolve().parent.parent.parent / "docs" / "report.schema.json"
KINDS = (
    scan.Scan, scan.ScannedImage, finding.Report, finding.Verdict, finding.Finding, finding.Step, finding.Attempt,
    finding.LayerSummary, finding.Part, silencing.Silenced,
)  # fmt: skip
HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "enoent scan --format json",
    "description": "What became of every image behind a reference. A key of a Report that is absent has its default. "
    "The API gives the same Report (#/$defs/Report). New keys may appear; no key changes its meaning within a version.",
}


def schema() -> dict[str, Any]:
    """The whole document, each field with what its docstring says."""
    made: dict[str, Any] = HEAD | msgspec.json.schema(scan.Scan)
    for kind in KINDS:
        told = docstrings(kind)
        for name, rules in made["$defs"][kind.__name__]["properties"].items():
            if name in told:
                rules["description"] = told[name]
    return made


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def strict(made: Any) -> Any:
    """The same schema, refusing keys that it does not know: for tests, where an unknown key is one left undocumented."""
    if isinstance(made, dict):
        closed = {key: strict(value) for key, value in made.items()}
        return closed | {"additionalProperties": False} if "properties" in made else closed
    return [strict(value) for value in made] if isinstance(made, list) else made


if __name__ == "__main__":
    SCHEMA.parent.mkdir(exist_ok=True)
    SCHEMA.write_text(text())
