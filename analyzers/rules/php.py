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
        example="PHP Startup: Unable to load dynamic library 'zip.so' (tried: /usr/lib/php/20220829/zip.so "
        "(libzip.so.4: cannot open shared object file: No such file or directory), "
        "/usr/lib/php/20220829/zip.so.so (/usr/lib/php/20220829/zip.so.so: cannot open shared object file: No "
        "such file or directory)) in Unknown on line 0",
        evidence="settings in conf.d; DT_NEEDED of the extension; paths of the merged layers",
    ),
)  # fmt: skip
