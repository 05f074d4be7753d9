"""docs/rules.md made anew from the table of rules and the catalogue of failures: `python -m tests.make.rules_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from analyzers.finding import Severity
from analyzers.rules import RULES, Rule

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "rules.md"


class Row(NamedTuple):
    """One way in which images fail, as people report it; `untold` says why no rule, or no rule alone, covers it."""

    number: int
    text: str
    rules: tuple[str, ...] = ()
    untold: str = ""


ABSENT = "`exec ...: no such file or directory`"
FAILURES = (
    Row(1, f"{ABSENT}: a glibc program on musl", ("elf.glibc-program-on-musl",)),
    Row(2, f"{ABSENT}: a dynamic program in an image without a loader", ("elf.no-loader", "elf.interpreter-absent")),
    Row(3, f"{ABSENT}: a musl program on a glibc base", ("elf.musl-program-on-glibc",)),
    Row(4, "`standard_init_linux.go:211: exec user process caused ...`: 1-3 or 12 in an old runc",
        ("elf.glibc-program-on-musl", "elf.no-loader", "elf.musl-program-on-glibc", "script.crlf")),
    Row(5, f"{ABSENT}: a loader's path of another prefix",
        ("elf.interpreter-foreign-prefix", "elf.interpreter-elsewhere", "elf.interpreter-absent")),
    Row(6, "`libdl.so.2: cannot open shared object file` on a subset of glibc", ("load.library-absent",)),
    Row(7, "``version `GLIBC_2.34' not found``", ("load.version-not-found",)),
    Row(8, "``version `GLIBCXX_3.4.30' not found``", ("load.version-not-found",)),
    Row(9, "``version `GLIBC_ABI_DT_RELR' not found``", ("load.version-not-found", "load.mixed-libc")),
    Row(10, "`libssl.so.1.1: cannot open shared object file`", ("load.library-absent",)),
    Row(11, "`libaio.so.1: cannot open shared object file` after a rename", ("load.library-absent",)),
    Row(12, "CRLF in the #! line", ("script.crlf", "script.env-target-absent")),
    Row(13, "the script's interpreter is absent or elsewhere", ("script.interpreter-absent", "script.env-target-absent")),
    Row(14, "`exec format error` on a script", ("script.no-interpreter-line", "script.bad-interpreter-line")),
    Row(15, "`permission denied`: no execute bit", ("path.not-executable",)),
    Row(16, "`executable file not found in $PATH`", ("path.not-found",)),
    Row(17, '`exec: "/bin/sh": stat /bin/sh: no such file or directory`', ("path.shell-absent",)),
    Row(18, "`exec format error`: built for another machine", ("elf.wrong-architecture",)),
    Row(19, "`wrong ELF class: ELFCLASS32`", ("load.wrong-architecture",)),
    Row(20, "`invalid ELF header`: an addon of another system"),
    Row(21, "`file too short`: a flattened link, a pointer of Git LFS", ("load.refused", "elf.malformed")),
    Row(22, "`Error loading shared library ld-linux-x86-64.so.2`: a glibc object on Alpine", ("load.library-absent",)),
    Row(23, "`__strncpy_chk: symbol not found`", ("load.symbol-not-found",)),
    Row(24, "`fcntl64: symbol not found`", ("load.symbol-not-found",)),
    Row(25, "`unsupported relocation type 37`", ("load.refused",)),
    Row(26, "`initial-exec TLS resolves to dynamic definition`", ("load.refused",)),
    Row(27, "libstdc++ or libgcc left out", ("load.library-absent",)),
    Row(28, "`ImportError` of a manylinux wheel under musl"),
    Row(29, "`ModuleNotFoundError` for an installed module: another ABI tag"),
    Row(30, "`ImportError: libGL.so.1`"),
    Row(31, "`libpython3.12.so.1.0: cannot open shared object file`", ("load.library-absent",)),
    Row(32, "`NODE_MODULE_VERSION 69 ... requires 64`"),
    Row(33, "`UnsatisfiedLinkError` of a glibc library inside a jar on Alpine"),
    Row(34, "`UnsatisfiedLinkError: undefined symbol`"),
    Row(35, "`UnsupportedClassVersionError`"),
    Row(36, "`You must install or update .NET`"),
    Row(37, "`Couldn't find a valid ICU package`"),
    Row(38, "`PHP Startup: Unable to load dynamic library`"),
    Row(39, "`undefined symbol`: two builds of a library in one image", ("load.symbol-not-found", "load.later-symbol")),
    Row(40, "`cannot enable executable stack as shared object requires`", ("load.refused",)),
    Row(41, "`cannot allocate memory in static TLS block`", ("load.refused",)),
    Row(42, "`CPU ISA level is lower than required`", ("load.cpu-level", "load.depends-on-cpu")),
    Row(43, "`Unsupported system page size`", (),
        "The page size is the host's, and what an allocator was configured for does not stand in its ELF headers."),
    Row(44, "`cannot open shared object file` though the file is there", ("load.library-absent",)),
    Row(45, "a directory takes the place of `/bin` or `/lib`", ("layer.symlinked-parent", "path.shell-absent")),
    Row(46, "`unable to find user nonroot`", ("user.not-found", "user.group-not-found")),
    Row(47, "HEALTHCHECK names a tool that is absent"),
    Row(48, "`libc.so.6: cannot open shared object file` after minifying", ("load.library-absent",)),
    Row(49, "`x509: certificate signed by unknown authority`, missing zone data",
        ("needs.ca-certificates", "needs.time-zone"), "A zone that a program names by itself does not stand in the image."),
    Row(50, "`libcuda.so.1`: a driver library that the host brings", (),
        "The container runtime mounts it from the host; its absence from the image is as it should be."),
)  # fmt: skip
NOT_YET = "No rule looks at it yet."
TOP = """\
# Rules

Everything that enoent can find, made from the table in `analyzers/rules/`. `enoent rules ID` shows the same in the terminal,
`/findings/ID` of the daemon every image that has it. A rule's id never changes its meaning.

| severity | means |
|---|---|
| fatal | the image will not start; the message is the very line that `docker run` would show |
| later | it starts, and fails when that part is used |
| warning | it starts, and somebody should look |
| info | worth knowing |

A rule can be silenced for a repository or a path, for a reason and until a day (`[[silence]]` in
[config.example.toml](../deploy/config.example.toml)); what is silenced is still shown, as silenced.
"""
CATALOGUE = """\
## The catalogue of failures

Ways in which images are known to fail, collected from public reports, and the rules that foretell them.

| # | what people see | rules |
|---|---|---|
"""
UNTOLD = """\
## What cannot be told from the image

Failures of the catalogue that no rule covers, and why.

| # | what people see | why |
|---|---|---|
"""


def page() -> str:
    """The whole file."""
    areas: dict[str, list[Rule]] = {}
    for rule in RULES.values():
        areas.setdefault(rule.id.partition(".")[0], []).append(rule)
    parts = [TOP]
    for area, rules in areas.items():
        parts.append(f"## {area}\n")
        parts += [_described(rule) for rule in rules]
    parts.append(CATALOGUE + "".join(_catalogued()))
    parts.append(
        UNTOLD + "".join(f"| {row.number} | {row.text} | {row.untold or NOT_YET} |\n" for row in FAILURES if not row.rules)
    )
    return "\n".join(parts)


def _described(rule: Rule) -> str:
    reason = f", reason `{rule.reason}`" if rule.severity is Severity.FATAL else ""
    lines = [
        f"### {rule.id}",
        "",
        f"**{rule.title}** ({rule.severity}{reason}). {rule.why}",
        "",
        f"- Example: {_code(rule.example)}",
        f"- Evidence: {rule.evidence or 'see the source'}",
        f"- Remedy: {rule.remedy}",
        f"- Source: {rule.source}",
    ]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _catalogued() -> Iterator[str]:
    for row in FAILURES:
        linked = ", ".join(f"[{each}](#{RULES[each].id.replace('.', '')})" for each in row.rules)
        told = "; ".join(part for part in (linked, row.untold if row.rules else "") if part)
        yield f"| {row.number} | {row.text} | {told or 'none, see below'} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
