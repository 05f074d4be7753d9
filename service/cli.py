"""The command line: scan, gate, ldd, rules, serve, doctor, top, config.

Knows words, options and exit statuses (decisions 15); everything else is imported when a command needs it, so that
`enoent --help` is there at once. How things are shown is console.py's.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from analyzers.errors import EnoentError, Malformed
from service.console import WIDEST, coloured, complain, page_width, print_lines, wait_for, watching, write
from service.errors import SettingsError

if TYPE_CHECKING:
    from service.scan import Question, Scan
    from service.settings import Settings

USAGE, UNDECIDED, INTERRUPTED = 64, 2, 130
SEVERITIES = ("fatal", "later", "warning", "info")
REFERENCES = """\b
REF is one of:
  registry/repository:tag     a registry; alpine is docker.io/library/alpine
  registry/repository@DIGEST  the same, by digest
  docker:NAME                 the local Docker engine, or that of DOCKER_HOST
  oci:DIR[:TAG]               a folder that is an OCI image layout
  oci-archive:FILE            the tar of such a folder
  docker-archive:FILE         what `docker save` writes
"""
SCAN_STATUSES = """\b
Exit status:
  0   every image starts, and has no finding that counts
  1   an image will not start, or has such a finding
  2   could not be decided: unreachable, absent, or analysed in part
  64  wrong usage, or a malformed reference
"""
LDD_STATUSES = """\b
Exit status:
  0   every object would be loaded
  1   something is missing or refused
  2   could not be decided: unreachable, absent, or analysed in part
  64  wrong usage, or a malformed reference
"""
DOCTOR_STATUSES = """\b
Exit status:
  0   a daemon could work here
  1   something has to be mended first
"""
TOP_STATUSES = """\b
Exit status:
  0   shown
  2   the daemon gives no answer
"""
SCAN_EXAMPLES = """\b
Examples:
  enoent scan registry.example/team/app:1.4
  enoent scan --platform linux/arm64 --format sarif alpine > alpine.sarif
  enoent scan docker:app --entrypoint /bin/sh --cmd -c --cmd 'sleep 1'
"""
GATE_EXAMPLES = """\b
Examples:
  docker buildx build --push -t registry.example/app:1 --metadata-file build.json .
  enoent gate --metadata-file build.json --server https://enoent.example
  enoent gate --timeout 60 registry.example/app@sha256:...
"""
LDD_EXAMPLES = """\b
Examples:
  enoent ldd oci:build/app /usr/bin/tool /usr/lib/plugin.so
  enoent ldd --all --format jsonl app | jq 'select(.verdict != "starts")'
"""


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
            complain(str(error))
            status = USAGE
        if standalone_mode:
            sys.exit(status)
        return status


def main() -> NoReturn:
    """The console script."""
    sys.exit(cli.main(prog_name="enoent", standalone_mode=False))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
    epilog=SCAN_STATUSES,
)
@click.version_option(package_name="enoent", message="enoent %(version)s")
def cli() -> None:
    """Says ahead of time whether a container image starts, and with which sentence it would not.

    Nothing from an image is executed or unpacked.
    """


_config_option = click.option(
    "--config",
    "config",
    metavar="FILE",
    envvar="ENOENT_CONFIG",
    type=click.Path(path_type=Path),
    help="Settings [ENOENT_CONFIG, else ./enoent.toml if there].",
)
_no_color_option = click.option("--no-color", is_flag=True, help="No colours; so does the variable NO_COLOR.")


def _looking(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command has that looks at an image."""
    for option in (
        _no_color_option,
        click.option("--no-progress", is_flag=True, help="No bars while reading."),
        click.option("-q", "--quiet", is_flag=True, help="Verdicts only, one line each; no bars and no notes."),
        click.option("-v", "--verbose", is_flag=True, help="Every place looked at, every finding in full."),
        click.option("--no-cache", is_flag=True, help="Neither use nor keep facts of layers (~/.cache/enoent)."),
        _config_option,
        click.option("-w", "--workdir", metavar="DIR", help="Start in this directory."),
        click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user."),
        click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable; may be repeated."),
        click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be repeated."),
        click.argument("reference", metavar="REF"),
    ):
        command = option(command)
    return command


@cli.command(
    epilog="\n".join((REFERENCES, SCAN_EXAMPLES, SCAN_STATUSES)),
    short_help="Tell whether an image starts, and why not.",
)
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", show_default=True)
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    default="fatal",
    show_default=True,
    help="Least severity of a finding that makes the exit status 1; a fatal one always does.",
)
@click.option(
    "--entrypoint",
    multiple=True,
    metavar="WORD",
    help="In place of ENTRYPOINT, and CMD is dropped; repeat it, or give a JSON list.",
)
@click.option("--cmd", multiple=True, metavar="WORD", help="In place of CMD; repeat it, or give a JSON list.")
@click.option("--server", metavar="URL", help="Ask this running daemon first [scan.server, ENOENT_SCAN_SERVER].")
@_looking
def scan(
    reference: str, entrypoint: Sequence[str], cmd: Sequence[str], form: str, fail_on: str, server: str | None, **shared: Any
) -> int:
    """Tell whether an image starts: what the user would see, why, and what would mend it.

    All platforms of an index are looked at unless --platform chooses. The JSON is described by docs/report.schema.json.
    """
    from service import scan as scans

    question = _question(reference, shared, entrypoint, cmd, fail_on)
    settings = _settings(shared["config"], {} if server is None else {"scan.server": server})
    answering = scans.scan
    if settings.scan.server:
        from service.remote import scan_by_daemon as answering
    with watching(str(question.reference), shared) as onlooker:
        try:
            answer = wait_for(answering(question, scans.Surroundings(settings, os.environ, onlooker)))
        except (Malformed, SettingsError):
            raise
        except EnoentError as error:
            answer = scans.failed_scan(question.reference, error)
    _show(answer, form, shared)
    return answer.exit_status


def _show(answer: Scan, form: str, shared: Mapping[str, Any]) -> None:
    """An answer in the form that was asked for; what kept an image from having one is complained about."""
    if answer.error:
        complain(f"{answer.reference}: {answer.error}")
    for image in answer.images:
        if image.report is None:
            complain(f"{answer.reference} ({image.platform}): {image.detail or image.outcome}")
    if form == "json":
        write(_indented(answer))
    elif form == "sarif":
        from service.sarif import sarif_log

        write(_indented(sarif_log(answer)))
    elif any(image.report for image in answer.images):
        from service.report_text import scan_lines, verdict_lines

        text = verdict_lines(answer) if shared["quiet"] else scan_lines(answer, page_width(), verbose=shared["verbose"])
        print_lines(text, no_color=shared["no_color"])


@cli.command(epilog="\n".join((GATE_EXAMPLES, SCAN_STATUSES)), short_help="Let a pipeline pass only with an image that starts.")
@click.option("--metadata-file", metavar="FILE", type=click.Path(path_type=Path), help="What buildx wrote about the build.")
@click.option("--timeout", type=click.FloatRange(min=0), default=300.0, show_default=True, help="Seconds to wait for a daemon.")
@click.option("--server", metavar="URL", help="The daemon that watches [scan.server, ENOENT_SCAN_SERVER].")
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", show_default=True)
@click.option("--fail-on", type=click.Choice(SEVERITIES), default="fatal", show_default=True, help="As for scan.")
@click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be repeated.")
@_config_option
@click.option("--no-cache", is_flag=True, help="Neither use nor keep facts of layers (~/.cache/enoent).")
@click.option("-v", "--verbose", is_flag=True, help="Every place looked at, every finding in full.")
@click.option("-q", "--quiet", is_flag=True, help="Verdicts only, one line each; no notes.")
@_no_color_option
@click.argument("image", required=False, metavar="[REF|DIGEST]")
def gate(
    image: str | None, metadata_file: Path | None, timeout: float, server: str | None, form: str, fail_on: str, **shared: Any
) -> int:
    """Wait for the verdict of what was built or pushed, and fail when it will not start.

    A daemon that watches the builder or the registry is asked until it has a verdict. Without one the image is read here: from
    the local engine, else from the registry it was pushed to.
    """
    from service import gate as gates
    from service import scan as scans

    if (image is None) == (metadata_file is None):
        raise click.UsageError("give either REF, or --metadata-file")
    wanted = (gates.wanted_of(image),) if image else gates.read_metadata(metadata_file or Path())
    question = _question("gate", {**shared, "env": (), "user": None, "workdir": None}, fail_on=fail_on)
    settings = _settings(shared["config"], {} if server is None else {"scan.server": server})
    with watching(wanted[0].shown, {**shared, "no_progress": True}) as onlooker:
        asked = gates.Gate(wanted, question, timeout)
        try:
            answer = wait_for(gates.gate(asked, scans.Surroundings(settings, os.environ, onlooker)))
        except (Malformed, SettingsError):
            raise
        except EnoentError as error:
            answer = gates.failed_gate(wanted, scans.describe(error))
    _show(answer, form, shared)
    return answer.exit_status


@cli.command(
    epilog="\n".join((REFERENCES, LDD_EXAMPLES, LDD_STATUSES)),
    short_help="List what the loader would load, and how it is found.",
)
@click.option("--all", "all_elf", is_flag=True, help="Every ELF file of the image; those that are fine in one line each.")
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
@_looking
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def ldd(reference: str, paths: Sequence[str], all_elf: bool, form: str, **shared: Any) -> int:
    """List what the loader would load, how each library is found, and by whose run path: ldd for images.

    Without PATH, the program that the image starts. Of an index, this machine's platform unless --platform chooses. With
    --format jsonl one object a line: platform, path, interpreter, verdict, error, needed (null where nothing was found),
    unmet_versions, unbound_symbols, layer, tree.
    """
    from service import scan as scans
    from service.ldd_text import listing_jsonl, listing_lines

    if paths and all_elf:
        raise click.UsageError("give either PATH or --all")
    question = _question(reference, shared)
    settings = _settings(shared["config"])
    failure = ""
    with watching(str(question.reference), shared) as onlooker:
        around = scans.Surroundings(settings, os.environ, onlooker)
        try:
            listings = wait_for(scans.list_objects(question, around, [os.fsencode(path) for path in paths], all_elf=all_elf))
        except (Malformed, SettingsError):
            raise
        except EnoentError as error:
            listings, failure = [], f"{question.reference}: {scans.describe(error)}"
    if failure:
        complain(failure)
    elif form == "jsonl":
        write(listing_jsonl(listings))
    else:
        lines = listing_lines(listings, page_width(), brief=all_elf or shared["quiet"], verbose=shared["verbose"])
        print_lines(lines, no_color=shared["no_color"])
    return scans.worst([scans.objects_status(listing.objects) for listing in listings])


@cli.command(short_help="List every rule with its remedy.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_no_color_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
def rules(ids: Sequence[str], form: str, no_color: bool) -> int:
    """List every rule with its severity and remedy; those named (elf.no-loader, 'load.*') with why they are, and their source."""
    from service.rules_text import chosen_rules, rules_lines

    try:
        chosen = chosen_rules(ids)
    except KeyError as error:
        raise click.UsageError(f"no rule is called {error.args[0]!r}") from None
    if form == "json":
        write(_indented(chosen))
    else:
        print_lines(rules_lines(chosen, page_width(), verbose=bool(ids)), no_color=no_color)
    return 0


@cli.command(context_settings={"ignore_unknown_options": True}, short_help="Watch, and serve pages, API and metrics.")
@_config_option
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[--KEY VALUE]...")
def serve(config: Path | None, flags: Sequence[str]) -> int:
    """Watch registries, Docker engines and layouts; serve pages, API and metrics.

    Every key of enoent.toml that stands in no list is a flag: listen.port is --listen-port, state.dir is --state-dir. So it is
    in the environment: ENOENT_LISTEN_PORT. Flags win over the environment, and that over the file.
    """
    from service.settings import load_settings

    given = _flags(flags)

    def read() -> Settings:
        return load_settings(config, os.environ, given)

    settings = read()
    from service.daemon import serve as serve_daemon

    return serve_daemon(settings, os.environ, read)


@cli.command(epilog=DOCTOR_STATUSES, short_help="Say whether a daemon could work here, and what to do.")
@_config_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_no_color_option
def doctor(config: Path | None, form: str, no_color: bool) -> int:
    """Look at configuration, state folder, port, workers, credentials and sources; say what to do about what is wrong.

    Nothing is changed. Run it as the user, and in the container, that the daemon runs as.
    """
    from service import doctor as doctors

    checks = wait_for(doctors.examine(config, os.environ))
    if form == "json":
        write(_indented(checks))
    else:
        print_lines(doctors.doctor_lines(checks, page_width()), no_color=no_color)
    return doctors.exit_status(checks)


@cli.command(epilog=TOP_STATUSES, short_help="Watch a running daemon in the terminal.")
@click.argument("server", required=False, metavar="[URL]")
@_config_option
@click.option("--once", is_flag=True, help="Show it once; so it is without a terminal.")
@_no_color_option
def top(server: str | None, config: Path | None, once: bool, no_color: bool) -> int:
    """Watch a daemon: how its fleet stands, what it is examining, what changed last. Ctrl-C leaves.

    URL is [scan.server, else where the settings make the daemon listen]; a token comes from scan.token.
    """
    from service import top as tops
    from service.secret import Secret

    settings = _settings(config)
    listen = f"http://{settings.listen.address}:{settings.listen.port}"
    address = (server or settings.scan.server or listen).rstrip("/")
    wanted = settings.scan.token
    token = wanted.read(os.environ, "scan.token") if wanted.file or wanted.env else Secret("")
    try:
        if once or not sys.stdout.isatty():
            view = wait_for(tops.once(address, token))
            print_lines(tops.top_lines(view, page_width()), no_color=no_color)
        else:
            wait_for(tops.follow(address, token, colour=coloured(sys.stdout, no_color=no_color)))
    except KeyboardInterrupt:
        return 0
    except EnoentError as error:
        complain(tops.describe(error, address))
        return UNDECIDED
    return 0


@cli.group()
def config() -> None:
    """Look at settings."""


@config.command("check", short_help="Say whether the settings are sound.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check_config(file: Path | None) -> int:
    """Say whether FILE [default: ./enoent.toml] and the ENOENT_ variables are sound. Exit status 1 when they are not."""
    from service.settings import DEFAULT_FILE, load_settings, read_tokens

    try:
        read_tokens(load_settings(file, os.environ), os.environ)
    except SettingsError as error:
        complain(str(error))
        return 1
    place = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    click.echo(f"{place}: fine" if place else "no enoent.toml here; the defaults are fine")
    return 0


@config.command("schema")
def config_schema() -> int:
    """Print the JSON Schema of enoent.toml."""
    import msgspec

    from service.settings import Settings

    write(_indented(msgspec.json.schema(Settings)))
    return 0


# From words to values, and back


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


def _settings(path: Path | None, flags: Mapping[str, object] | None = None) -> Settings:
    from service.settings import load_settings

    return load_settings(path, os.environ, flags)


def _flags(words: Sequence[str]) -> dict[str, object]:
    """`--listen-port 80` and `--listen-port=80` by key. Raises UsageError for what is no key."""
    import difflib

    from service.settings import described, from_text

    keys = {"--" + key.replace(".", "-").replace("_", "-"): key for key, _ in described() if "[]" not in key}
    found: dict[str, object] = {}
    rest = list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in keys:
            close = difflib.get_close_matches(flag, keys, 1)
            raise click.UsageError(f"no such flag: {flag}" + (f" (did you mean {close[0]}?)" if close else ""))
        if not equals and not rest:
            raise click.UsageError(f"{flag} wants a value")
        found[keys[flag]] = from_text(keys[flag], value if equals else rest.pop(0))
    return found


def _indented(value: object) -> bytes:
    """JSON for people and programs alike."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
