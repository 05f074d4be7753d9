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
        example="Error: Cannot find module '/app/dist/server.js'",
        evidence='command line, WORKDIR, package.json; paths of the merged layers',
    ),
    Rule(
        "node.glibc-addon-on-musl",
        _L,
        "Node addons were built for glibc, and Node runs on musl",
        "Prebuilt addons for linux without musl in their name are for glibc.",
        "Run npm ci in the image itself, without node_modules of the host or of another base, or use a slim Debian base.",
        "failures 22, 23, R22",
        example='Error: Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by /app/x.node)',
        evidence="names, DT_NEEDED and symbols of the addon's builds; Node's loader",
    ),
    Rule(
        "node.musl-addon-on-glibc",
        _L,
        "Node addons were built for musl, and Node runs on glibc",
        "node_modules were installed on another base than they are used on.",
        "Run npm ci in the image itself, without node_modules of the host or of another base.",
        "failures 22, R22",
        example='No build of @img/sharp for linux-x64-gnu is in the image; there is linux-x64-musl',
        evidence="names and DT_NEEDED of the addon's builds; Node's loader",
    ),
    Rule(
        "node.addon-for-another-platform",
        _L,
        "Node addons were built for another system or architecture",
        "node_modules were installed on another machine, such as a developer's.",
        "Name node_modules in .dockerignore and run npm ci in the image.",
        "failures 20, R22",
        example='Error: /app/build/Release/x.node: invalid ELF header',
        evidence="names, magic and e_machine of the addon's builds",
    ),
    Rule(
        "node.addon-for-another-release",
        _L,
        "Node addons were built for another release of Node",
        "An addon that does not use Node-API fits one NODE_MODULE_VERSION only.",
        "Run npm rebuild with the Node that the image has; build and run stage must have the same release.",
        "failures 32, R20, R21",
        example="Error: The module '/app/x.node' was compiled against a different Node.js version [...]",
        evidence="exported node_register_module_vN; NODE_MODULE_VERSION by libnode's soname, node_version.h or NODE_VERSION",
    ),
    Rule(
        "node.addon-unloadable",
        _L,
        "Node addons cannot be loaded",
        "A library, a version of one or a symbol that they need is nowhere in the image.",
        "Install the library named, or build the addon on the base that it runs on.",
        "failures 27, R22",
        example='Error: libstdc++.so.6: cannot open shared object file: No such file or directory',
        evidence="DT_NEEDED, versions and symbols of the addon, loaded into Node's process",
    ),
    Rule(
        "node.addon-undecided",
        _I,
        "It cannot be told whether Node addons load",
        "They need something that is not seen, or that lies where the loader does not look.",
        "Require the package once in the built image.",
        "R20, R22",
        example='Error: libonnxruntime.so.1: cannot open shared object file: No such file or directory',
        evidence='DT_NEEDED of the addon; the library elsewhere in the image',
    ),
)  # fmt: skip
