"""PHP and its extensions."""

from __future__ import annotations

from analyzers.finding import Severity
from analyzers.rules.rule import Rule

TABLE = (
    Rule(
        "php.extension-unloadable",
        Severity.LATER,
        "PHP cannot load an extension that its settings turn on",
        "PHP warns at each start and goes on; what needs the extension fails when it is used.",
        "Keep the libraries that the extension needs when build packages are removed (apt-mark manual, or apk add the names that "
        "scanelf lists), or turn the extension off.",
        "PHP ext/standard/dl.c, failures 38",
    ),
)  # fmt: skip
