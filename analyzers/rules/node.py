"""Node: its script, and the addons that it loads."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

_F, _L, _I = Severity.FATAL, Severity.LATER, Severity.INFO

TABLE = (
    Rule(
        "node.script-absent",
        _F,
        "Node's script is not in the image",
        "Node tries the path itself, then with .js, .json and .node behind it, and of a directory its package.json and index.",
        "Copy the file into the image (see .dockerignore and the build's output directory), or mend the path or WORKDIR.",
        "Node lib/internal/modules/cjs/loader.js",
        Reason.SCRIPT,
    ),
    Rule(
        "node.glibc-addon-on-musl",
        _L,
        "Node addons were built for glibc, and Node runs on musl",
        "Prebuilt addons for linux without musl in their name are for glibc.",
        "Run npm ci in the image itself, without node_modules of the host or of another base, or use a slim Debian base.",
        "failures 22, 23, R22",
    ),
    Rule(
        "node.musl-addon-on-glibc",
        _L,
        "Node addons were built for musl, and Node runs on glibc",
        "node_modules were installed on another base than they are used on.",
        "Run npm ci in the image itself, without node_modules of the host or of another base.",
        "failures 22, R22",
    ),
    Rule(
        "node.addon-for-another-platform",
        _L,
        "Node addons were built for another system or architecture",
        "node_modules were installed on another machine, such as a developer's.",
        "Name node_modules in .dockerignore and run npm ci in the image.",
        "failures 20, R22",
    ),
    Rule(
        "node.addon-for-another-release",
        _L,
        "Node addons were built for another release of Node",
        "An addon that does not use Node-API fits one NODE_MODULE_VERSION only.",
        "Run npm rebuild with the Node that the image has; build and run stage must have the same release.",
        "failures 32, R20, R21",
    ),
    Rule(
        "node.addon-unloadable",
        _L,
        "Node addons cannot be loaded",
        "A library, a version of one or a symbol that they need is nowhere in the image.",
        "Install the library named, or build the addon on the base that it runs on.",
        "failures 27, R22",
    ),
    Rule(
        "node.addon-undecided",
        _I,
        "It cannot be told whether Node addons load",
        "They need something that is not seen, or that lies where the loader does not look.",
        "Require the package once in the built image.",
        "R20, R22",
    ),
)  # fmt: skip
