"""How far real scripts of Debian, npm and PyPI packages are followed: the rows of docs/entrypoints.md, and the page itself.

The files come from tests/setup/entrypoints.sh. Programs that other packages would bring are stubs: what matters is where
they are. Run as a module, this writes the page.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import State
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig
from tests.make.elves import CACHE, ToolAbsent
from tests.make.layers import program
from tests.make.starts import tiny
from tests.make.views import Item, LayerFacts, file, folder, layer, symlink

ROOT = CACHE / "entrypoints"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "entrypoints.md"
_KEPT = 128 * 1024
_STUBS = (
    "awk", "base64", "basename", "cat", "chgrp", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname", "du", "echo",
    "egrep", "env", "expr", "find", "fold", "getopt", "gawk", "grep", "head", "hostname", "id", "install", "kill", "ln",
    "locale", "logger", "ls", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "mv", "nice", "nohup", "od", "paste", "ps",
    "pwd", "printf", "readlink", "realpath", "rm", "rmdir", "runuser", "sed", "seq", "setpriv", "sha256sum", "sleep", "sort",
    "stat", "su", "tail", "tar", "tee", "test", "touch", "tr", "true", "tty", "uname", "uniq", "wc", "which", "xargs",
    "nproc", "stty", "tput", "java", "javac", "node", "python", "python3", "perl", "perl5", "ruby", "less", "gzip", "bzip2",
    "xz", "lsof", "pgrep", "timeout", "umask", "flock", "dpkg", "openssl", "whoami", "setsid", "comm", "diff", "cmp",
    "mysqld", "mariadbd", "mysql", "my_print_defaults", "mysqladmin", "erl", "erlc", "epmd", "curl", "wget",
)  # fmt: skip


class Row(NamedTuple):
    """One script as an image would run it."""

    source: str
    package: str
    path: str
    arguments: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


class Result(NamedTuple):
    row: Row
    program: str
    """The final program, empty where none was reached."""
    why: str
    """What stopped the following."""
    seen: bool
    """Reached without an assumption of its own."""


def _d(package: str, path: str, *arguments: str, env: tuple[str, ...] = ()) -> Row:
    return Row("Debian", package, path, arguments, env)


ROWS = (
    _d("activemq", "/usr/bin/activemq", "console"),
    _d("ant", "/usr/share/ant/bin/ant"),
    _d("ant", "/usr/share/ant/bin/antRun", "/usr", "true"),
    _d("bsh", "/usr/bin/bsh"),
    _d("bsh", "/usr/bin/xbsh"),
    _d("checkstyle", "/usr/bin/checkstyle"),
    _d("clojure", "/usr/bin/clojure1.11"),
    _d("ejabberd", "/usr/sbin/ejabberdctl", "foreground"),
    _d("elixir", "/usr/lib/elixir/bin/elixir", "app.exs"),
    _d("elixir", "/usr/lib/elixir/bin/iex"),
    _d("elixir", "/usr/lib/elixir/bin/mix"),
    _d("erlang-base", "/usr/lib/erlang/bin/erl", "-noshell"),
    _d("erlang-base", "/usr/lib/erlang/bin/start_erl", "/a", "/b", "/c"),
    _d("fop", "/usr/bin/fop"),
    _d("gradle", "/usr/share/gradle/bin/gradle"),
    _d("grep", "/bin/egrep", "x"),
    _d("grep", "/bin/fgrep", "x"),
    _d("grep", "/usr/bin/rgrep", "x"),
    _d("groovy", "/usr/share/groovy/bin/groovy"),
    _d("gzip", "/bin/gunzip"),
    _d("gzip", "/bin/zcat"),
    _d("gzip", "/bin/zless"),
    _d("init-system-helpers", "/usr/sbin/service", "mariadb", "start"),
    _d("jedit", "/usr/bin/jedit"),
    _d("jmeter", "/usr/bin/jmeter"),
    _d("josm", "/usr/bin/josm"),
    _d("jruby", "/usr/share/jruby/bin/jruby"),
    _d("leiningen", "/usr/bin/lein"),
    _d("libsaxonb-java", "/usr/bin/saxonb-xslt"),
    _d("mariadb-server", "/usr/bin/mariadbd-safe"),
    _d("maven", "/usr/share/maven/bin/mvn"),
    _d("maven", "/usr/share/maven/bin/mvnDebug"),
    _d("plantuml", "/usr/bin/plantuml"),
    _d("postgresql-common", "/usr/bin/pg_config"),
    _d("rhino", "/usr/bin/rhino"),
    _d("tomcat10-common", "/usr/share/tomcat10/bin/catalina.sh", "run"),
    _d("tomcat10-common", "/usr/share/tomcat10/bin/version.sh"),
    _d("xz-utils", "/usr/bin/xzless"),
    _d("yarnpkg", "/usr/share/nodejs/yarn/bin/yarn"),
    Row("npm", "bats", "/usr/lib/node_modules/bats/bin/bats"),
    Row("npm", "npm", "/usr/lib/node_modules/npm/bin/npm"),
    Row("npm", "npm", "/usr/lib/node_modules/npm/bin/npx"),
    Row("npm", "yarn", "/usr/lib/node_modules/yarn/bin/yarn"),
    Row("npm", "node-red", "/usr/lib/node_modules/node-red/bin/node-red-pi"),
    Row("PyPI", "graphite-web", "/opt/graphite-web/bin/build-index.sh"),
)


@functools.cache
def facts() -> LayerFacts:
    """All packages in one root. Raises ToolAbsent where they were not fetched."""
    if not ROOT.exists():
        raise ToolAbsent("packages with entrypoints were not fetched (tests/setup/entrypoints.sh)")
    stub = program(tiny())
    items: dict[str | bytes, Item | bytes | str] = {
        "bin/sh": symlink("dash"), "bin/dash": stub, "bin/bash": stub, "usr/bin/bash": symlink("/bin/bash"),
        "usr/bin/sh": symlink("/bin/dash"), "tmp": folder(0o1777),
        "etc/passwd": file("root:x:0:0:root:/root:/bin/sh\nejabberd:x:100:100::/:/bin/sh\nmysql:x:101:101::/:/bin/sh\n"),
        "usr/lib/jvm/default-java/bin/java": stub, "usr/lib/jvm/default-java/bin/javac": stub,
        **{f"usr/bin/{name}": stub for name in _STUBS},
    }  # fmt: skip
    for path in sorted(ROOT.rglob("*")):
        name = str(path.relative_to(ROOT))
        if path.is_symlink():
            items[name] = symlink(str(path.readlink()))
        elif path.is_dir():
            items[name] = folder()
        else:
            content = path.read_bytes()
            kept = content if content.startswith(b"#!") or len(content) <= _KEPT else content[:64]
            items[name] = stub if content.startswith(b"\x7fELF") else Item(Kind.FILE, kept, path.stat().st_mode & 0o7777)
    return layer(items)


def result_of(row: Row) -> Result:
    """Judge an image that runs this script."""
    base = ("JAVA_HOME=/usr/lib/jvm/default-java", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    config = ImageConfig(entrypoint=(row.path, *row.arguments), env=(*base, *row.env))
    report = judge_image("", config, [facts()])
    # How far the program behind the script was followed (the stub of java is of no release) is another question.
    followed = [each for each in report.assumptions if "follow" in each or "may end" in each]
    assumptions = [each for each in followed if not each.startswith("java was not followed")]
    shells = ("/bin/dash", "/bin/bash")
    last = next((step for step in reversed(report.chain) if step.action == "exec" and step.ok and step.path not in shells), None)
    scripts = {row.path.lstrip("/"), ""}
    program = last.path if last is not None else ""
    if report.verdict.state is State.FAILS:
        return Result(row, "", "foretold to fail: " + report.verdict.message, False)
    gave_up = next((each.message for each in report.findings if each.rule == "shell.gives-up"), "")
    if program.lstrip("/") in scripts or program == _resolved(row.path):
        return Result(row, "", (assumptions or [gave_up or "it ends by itself"])[0], False)
    return Result(row, program, assumptions[0] if assumptions else "", not assumptions)


def _resolved(path: str) -> str:
    real = (ROOT / path.lstrip("/")).resolve()
    root = ROOT.resolve()
    return "/" + str(real.relative_to(root)) if real.is_relative_to(root) else path


def page(results: list[Result]) -> str:
    """docs/entrypoints.md."""
    reached = sum(each.seen for each in results)
    lines = [
        "# Real scripts, and how far they are followed",
        "",
        "Made by `python -m tests.make.entrypoints` from the packages that tests/setup/entrypoints.sh fetches; a test holds it",
        "to them. Only scripts that end in another program are listed, as entrypoints do.",
        "",
        f"{len(results)} scripts of Debian, npm and PyPI packages; "
        f"the final program of {reached} ({reached / len(results):.0%}) is reached without an assumption.",
        "",
        "| source | package | command | final program, or where following ends |",
        "|---|---|---|---|",
    ]
    for each in results:
        command = " ".join((each.row.path, *each.row.arguments))
        end = f"`{each.program}`" if each.seen else f"{each.program + '; ' if each.program else ''}{each.why}"
        lines.append(f"| {each.row.source} | {each.row.package} | `{command}` | {end.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page([result_of(row) for row in ROWS]))


if __name__ == "__main__":
    main()
