"""The command line: scan, ldd, rules, serve, config.

Knows words, options and exit statuses (decisions 15); everything else is imported when a command needs it, so that
`enoent --help` is there at once. Results go to standard output; progress and what went wrong go to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from analyzers.errors import EnoentError, Malformed
from service.errors import SettingsError

if TYPE_CHECKING:
    from service.scan import Onlooker, Question
    from service.settings import Settings
    from service.terminal import Line

USAGE, UNDECIDED, INTERRUPTED, DEFECT = 64, 2, 130, 70
NARROWEST, WIDEST = 60, 100
SEVERITIES = ("fatal", "later", "warning", "info")
EXIT_STATUSES = """\b
Exit status:
  0   every image starts, and has no finding that counts
  1   an image will not start, or has such a finding
  2   could not be decided: unreachable, absent, or analysed in part
  64  wrong usage, or a malformed reference
"""
REFERENCES = """\b
REF is one of:
  registry/repository:tag     a registry; alpine is docker.io/library/alpine
  registry/repository@DIGEST  the same, by digest
  docker:NAME                 the local Docker engine (DOCKER_HOST)
  oci:DIR[:TAG]               a folder that is an OCI image layout
  oci-archive:FILE            the tar of such a folder
  docker-archive:FILE         what `docker save` writes
"""
Answer = TypeVar("Answer")


class Commands(click.Group):
    """A group whose commands return their exit status, and whose usage errors are 64."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the command; ends the process with its status unless told otherwise."""
        try:
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra) or 0
        except click.ClickException as error:
            error.show()
            status = USAGE
        except click.Abort:
            status = INTERRUPTED
        except (Malformed, SettingsError) as error:
            _complain(str(error))
            status = USAGE
        except EnoentError as error:
            _complain(str(error))
            status = UNDECIDED
        if standalone_mode:
            sys.exit(status)
        return status


def main() -> NoReturn:
    """The console script."""
    sys.exit(cli.main(prog_name="enoent", standalone_mode=False))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
    epilog=EXIT_STATUSES,
)
@click.version_option(package_name="enoent", message="enoent %(version)s")
def cli() -> None:
    """Says ahead of time whether a container image starts, and with which sentence it would not.

    Nothing from an image is executed or unpacked.
    """


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that looks at an image."""
    options = (
        click.argument("reference", metavar="REF"),
        click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be repeated."),
        click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Set a variable, as docker run does."),
        click.option("--user", "-u", metavar="USER[:GROUP]", help="Run as this user instead of the image's."),
        click.option("--workdir", "-w", metavar="DIR", help="Start in this directory instead of the image's."),
        click.option("--config", "config", type=click.Path(path_type=Path), help="Settings [default: ./enoent.toml if there]."),
        click.option("--no-cache", is_flag=True, help="Read every layer, and keep no facts in ~/.cache/enoent."),
        click.option("--quiet", "-q", is_flag=True, help="Verdicts only: no progress, no notes."),
        click.option("--no-progress", is_flag=True, help="No progress bars on a terminal."),
        click.option("--no-color", is_flag=True, help="No colours; so does the variable NO_COLOR."),
        click.option("--verbose", "-v", is_flag=True, help="Every place looked at, every finding in full."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cli.command(epilog=REFERENCES + "\n" + EXIT_STATUSES)
@_shared
@click.option("--entrypoint", multiple=True, metavar="WORD", help="Replace ENTRYPOINT and drop CMD; repeat for more words, or give a JSON list.")  # fmt: skip  # noqa: E501
@click.option("--cmd", multiple=True, metavar="WORD", help="Replace CMD; repeat for more words, or give a JSON list.")
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", show_default=True)
@click.option("--fail-on", type=click.Choice(SEVERITIES), default="fatal", show_default=True, help="Least severity that makes the exit status 1; a fatal finding always does.")  # fmt: skip  # noqa: E501
def scan(reference: str, entrypoint: Sequence[str], cmd: Sequence[str], form: str, fail_on: str, **shared: Any) -> int:
    """Tell whether an image starts: what the user would see, why, and what would mend it.

    All platforms of an index are looked at unless --platform chooses. `--format json` is described by
    docs/report.schema.json.
    """
    from service import scan as scans

    question = _question(reference, shared, entrypoint, cmd, fail_on)
    settings = _settings(shared["config"])
    with _onlooker(str(question.reference), shared) as onlooker:
        try:
            answer = _wait(scans.scan(question, scans.Surroundings(settings, os.environ, onlooker)))
        except EnoentError as error:
            if isinstance(error, (Malformed, SettingsError)):
                raise
            answer = scans.failed_scan(question.reference, error)
    if answer.error:
        _complain(f"{answer.reference}: {answer.error}")
    for image in answer.images:
        if image.report is None:
            _complain(f"{answer.reference} ({image.platform}): {image.detail or image.outcome}")
    if form == "json":
        import msgspec

        _write(msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")
    elif form == "sarif":
        from service.sarif import sarif_log

        _write(sarif_log(answer) + b"\n")
    elif answer.images:
        from service.report_text import scan_lines, verdict_lines

        lines = verdict_lines(answer) if shared["quiet"] else scan_lines(answer, _width(), verbose=shared["verbose"])
        _print(lines, shared)
    return answer.exit_status


@cli.command(epilog=REFERENCES + "\n" + EXIT_STATUSES.replace("every image starts, and has no finding that counts", "every object would be loaded").replace("an image will not start, or has such a finding", "something is missing or refused"))  # fmt: skip  # noqa: E501
@_shared
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--all", "all_elf", is_flag=True, help="Every ELF file of the image; one line for each that is fine.")
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
def ldd(reference: str, paths: Sequence[str], all_elf: bool, form: str, **shared: Any) -> int:
    """List what the loader would load, and how it would find it: ldd for images.

    Without PATH, the program that the image starts. Of an index, this machine's platform unless --platform chooses.
    """
    from service import scan as scans
    from service.ldd_text import listing_jsonl, listing_lines

    if paths and all_elf:
        raise click.UsageError("give either PATH or --all")
    question = _question(reference, shared)
    settings = _settings(shared["config"])
    with _onlooker(str(question.reference), shared) as onlooker:
        around = scans.Surroundings(settings, os.environ, onlooker)
        try:
            listings = _wait(scans.list_objects(question, around, [os.fsencode(path) for path in paths], all_elf=all_elf))
        except EnoentError as error:
            if isinstance(error, (Malformed, SettingsError)):
                raise
            _complain(f"{question.reference}: {scans.describe(error)}")
            return UNDECIDED
    if form == "jsonl":
        _write(listing_jsonl(listings))
    else:
        _print(listing_lines(listings, _width(), brief=all_elf, verbose=shared["verbose"]), shared)
    return scans.worst([scans.objects_status(listing.objects) for listing in listings])


@cli.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--no-color", is_flag=True, help="No colours; so does the variable NO_COLOR.")
def rules(ids: Sequence[str], form: str, no_color: bool) -> int:
    """List every rule with its severity and remedy; with ID (which may have * in it) also why it is, and its source."""
    from service.rules_text import chosen_rules, rules_json, rules_lines

    try:
        chosen = chosen_rules(ids)
    except KeyError as error:
        raise click.UsageError(f"no rule is called {error.args[0]!r}") from None
    if form == "json":
        _write(rules_json(chosen) + b"\n")
    else:
        _print(rules_lines(chosen, _width(), verbose=bool(ids)), {"no_color": no_color})
    return 0


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--config", "config", type=click.Path(path_type=Path), help="Settings [default: ./enoent.toml if there].")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[--KEY VALUE]...")
def serve(config: Path | None, flags: Sequence[str]) -> int:
    """Watch registries, Docker engines and layouts; serve pages, API and metrics.

    Every key of enoent.toml that is not in a list is a flag: listen.port is --listen-port, state.dir is --state-dir. So is
    the environment: ENOENT_LISTEN_PORT. Flags win over the environment, and that over the file.
    """
    from service.daemon import serve as serve_daemon
    from service.settings import load_settings

    given = _flags(flags)

    def read() -> Settings:
        return load_settings(config, os.environ, given)

    return serve_daemon(read(), os.environ, read)


@cli.group()
def config() -> None:
    """Look at settings."""


@config.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check_config(file: Path | None) -> int:
    """Say whether FILE [default: ./enoent.toml] and the ENOENT_ variables are sound. Exit status 1 when they are not."""
    from service.settings import DEFAULT_FILE, load_settings, read_tokens

    try:
        read_tokens(load_settings(file, os.environ), os.environ)
    except SettingsError as error:
        _complain(str(error))
        return 1
    place = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    click.echo(f"{place}: fine" if place else "no enoent.toml here; the defaults are fine")
    return 0


@config.command("schema")
def config_schema() -> int:
    """Print the JSON Schema of enoent.toml."""
    import msgspec

    from service.settings import Settings

    _write(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Settings)), indent=2) + b"\n")
    return 0


# From words to values


def _question(
    reference: str, shared: Mapping[str, Any], entrypoint: Sequence[str] = (), cmd: Sequence[str] = (), fail_on: str = "fatal"
) -> Question:
    """Raises Malformed and UsageError."""
    from analyzers.finding import Severity
    from analyzers.oci import parse_platform
    from analyzers.start import Overrides
    from service.registry.reference import parse_reference
    from service.scan import Question

    for item in shared["env"]:
        if not item.partition("=")[1] or item.startswith("="):
            raise click.UsageError(f"--env wants NAME=VALUE, not {item!r}")
    overrides = Overrides(_words(entrypoint), _words(cmd), tuple(shared["env"]), shared["user"], shared["workdir"])
    platforms = tuple(parse_platform(text) for text in shared["platforms"])
    return Question(parse_reference(reference), platforms, overrides, Severity(fail_on), not shared["no_cache"])


def _words(given: Sequence[str]) -> tuple[str, ...] | None:
    """Each a word; a single JSON list of strings is as many. None when nothing was given."""
    if len(given) == 1 and given[0].startswith("[") and given[0].endswith("]"):
        import msgspec

        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(given[0], type=tuple[str, ...])
    return tuple(given) or None


def _settings(path: Path | None) -> Settings:
    from service.settings import load_settings

    return load_settings(path, os.environ)


def _flags(words: Sequence[str]) -> dict[str, object]:
    """`--listen-port 80` and `--listen-port=80` by key. Raises UsageError for what is no key."""
    import difflib

    from service.settings import described, from_text

    keys = {"--" + key.replace(".", "-").replace("_", "-"): key for key, _ in described() if "[]" not in key}
    found: dict[str, object] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag not in keys:
            close = difflib.get_close_matches(flag, keys, 1)
            raise click.UsageError(f"no such flag: {flag}" + (f" (did you mean {close[0]}?)" if close else ""))
        if not equals:
            if not rest:
                raise click.UsageError(f"{flag} wants a value")
            value = rest.pop(0)
        found[keys[flag]] = from_text(keys[flag], value)
    return found


# What is seen


def _wait(work: Coroutine[Any, Any, Answer]) -> Answer:
    import asyncio

    with _without_log():
        return asyncio.run(work)


@contextlib.contextmanager
def _onlooker(reference: str, shared: Mapping[str, Any]) -> Iterator[Onlooker]:
    """Bars on a terminal, notes elsewhere, silence when asked for."""
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    if shared["quiet"] or shared["no_progress"] or dumb or not sys.stderr.isatty():
        yield _Quiet(notes=not shared["quiet"])
        return
    from service.progress import Bars

    with Bars(sys.stderr, reference, colour=_coloured(sys.stderr, shared)) as bars:
        yield bars


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """The log is the daemon's: what goes wrong in a scan is told as its answer."""
    import logging

    import structlog

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


class _Quiet:
    """Implements scan.Onlooker where nobody watches."""

    def __init__(self, *, notes: bool) -> None:
        self._notes = notes

    def begin(self, image: object) -> None:
        return None

    def note(self, text: str) -> None:
        if self._notes:
            _complain(text)


def _coloured(stream: Any, shared: Mapping[str, Any]) -> bool:
    if shared["no_color"] or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM", "dumb") != "dumb")


def _width() -> int:
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((80, 24)).columns)) if sys.stdout.isatty() else 80


def _print(lines: Iterable[Line], shared: Mapping[str, Any]) -> None:
    from service.terminal import paint

    plain = "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    text = paint(lines, colour=_coloured(sys.stdout, shared), ascii_only=plain)
    _write(text.encode("ascii", "backslashreplace") if plain else text.encode())


def _write(data: bytes) -> None:
    """To standard output. A reader that has gone away changes no verdict."""
    try:
        click.echo(data, nl=False)
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _complain(text: str) -> None:
    """One line on standard error."""
    from service.terminal import printable

    click.echo(f"enoent: {printable(' '.join(text.split()))}", err=True)
