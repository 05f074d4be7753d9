"""From how far an image comes to what is told about it: the finding, its cause, and what would mend it.

The chain itself is start.py's; this file only looks around in the image for the likeliest reason (another family's
loader, the same file at another place) and words the remedies of scenarios.md. `list_objects` is ldd for images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from analyzers.accounts import Credentials
from analyzers.builds import built_words, static_remedies
from analyzers.facts import ElfFacts, Kind, LayerFacts
from analyzers.finding import Finding, Outcome, Reason, State, Step, show
from analyzers.kernel import NATIVE, Execution, execute_elf
from analyzers.load_causes import Cause, find_file, load_cause, version_key
from analyzers.loader import LoadResult
from analyzers.loader.machines import fits
from analyzers.lookup import STRERROR
from analyzers.oci import ImageConfig
from analyzers.profile import DEFAULT_PROFILE, HostProfile
from analyzers.removed import tell_removal
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.start import NO_OVERRIDES, Overrides, Start, foretell_start, load_program
from analyzers.trail import attempt, show_path

# A1, A2: where a loader lies, by family and OCI architecture.
GLIBC_LOADERS: dict[str, tuple[bytes, ...]] = {
    "amd64": (b"/lib64/ld-linux-x86-64.so.2",),
    "386": (b"/lib/ld-linux.so.2",),
    "arm64": (b"/lib/ld-linux-aarch64.so.1",),
    "arm": (b"/lib/ld-linux-armhf.so.3", b"/lib/ld-linux.so.3"),
    "ppc64le": (b"/lib64/ld64.so.2",),
    "ppc64": (b"/lib64/ld64.so.1",),
    "s390x": (b"/lib/ld64.so.1",),
    "riscv64": (b"/lib/ld-linux-riscv64-lp64d.so.1", b"/lib/ld-linux-riscv64-lp64.so.1"),
    "loong64": (b"/lib64/ld-linux-loongarch-lp64d.so.1",),
    "mips": (b"/lib/ld.so.1", b"/lib/ld-linux-mipsn8.so.1"),
    "mipsle": (b"/lib/ld.so.1", b"/lib/ld-linux-mipsn8.so.1"),
    "mips64": (b"/lib64/ld.so.1", b"/lib64/ld-linux-mipsn8.so.1"),
    "mips64le": (b"/lib64/ld.so.1", b"/lib64/ld-linux-mipsn8.so.1"),
}
MUSL_LOADERS: dict[str, tuple[bytes, ...]] = {
    "amd64": (b"/lib/ld-musl-x86_64.so.1",),
    "386": (b"/lib/ld-musl-i386.so.1",),
    "arm64": (b"/lib/ld-musl-aarch64.so.1",),
    "arm": (b"/lib/ld-musl-armhf.so.1", b"/lib/ld-musl-arm.so.1"),
    "ppc64le": (b"/lib/ld-musl-powerpc64le.so.1",),
    "s390x": (b"/lib/ld-musl-s390x.so.1",),
    "riscv64": (b"/lib/ld-musl-riscv64.so.1",),
    "loong64": (b"/lib/ld-musl-loongarch64.so.1",),
    "ppc64": (b"/lib/ld-musl-powerpc64.so.1",),
    "mips": (b"/lib/ld-musl-mips.so.1", b"/lib/ld-musl-mips-sf.so.1"),
    "mipsle": (b"/lib/ld-musl-mipsel.so.1", b"/lib/ld-musl-mipsel-sf.so.1"),
    "mips64": (b"/lib/ld-musl-mips64.so.1",),
    "mips64le": (b"/lib/ld-musl-mips64el.so.1",),
}
_LIBRARY_FOLDERS = (
    b"/lib",
    b"/lib64",
    b"/usr/lib",
    b"/usr/lib64",
    b"/usr/local/lib",
    b"/usr/glibc-compat/lib",
    b"/lib/x86_64-linux-gnu",
    b"/usr/lib/x86_64-linux-gnu",
    b"/lib/aarch64-linux-gnu",
    b"/usr/lib/aarch64-linux-gnu",
    b"/lib32",
    b"/libx32",
)
_INTERPRETER_FOLDERS = (b"/bin", b"/usr/bin", b"/usr/local/bin", b"/sbin", b"/usr/sbin", b"/busybox")
_FOREIGN_PREFIXES = (b"/nix/", b"/gnu/", b"/home/linuxbrew", b"@@HOMEBREW", b"/opt/homebrew")
_SHOWN_NEEDED = 20
_DF_1_PIE = 0x08000000

_ABSENCES = frozenset(
    {
        "elf.interpreter-absent",
        "elf.interpreter-foreign-prefix",
        "elf.no-loader",
        "load.library-absent",
        "path.absent",
        "path.not-found",
        "path.shell-absent",
        "script.env-target-absent",
        "script.interpreter-absent",
    }
)
"""Rules whose cause is a file that is not there, which a build may have had and lost."""


class ObjectListing(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One program or library as `enoent ldd` shows it."""

    path: str
    interpreter: str = ""
    verdict: State = State.STARTS
    error: str = ""
    needed: dict[str, str | None] = {}
    """DT_NEEDED of the object itself to where each was found; None where it was not."""
    unmet_versions: tuple[str, ...] = ()
    unbound_symbols: tuple[str, ...] = ()
    tree: tuple[Step, ...] = ()
    """The search for every object of the closure, in load order."""
    layer: int | None = None


def explain(start: Start, rootfs: Rootfs, config: ImageConfig) -> tuple[Finding, Reason] | None:
    """The finding behind a start that fails, and the reason of the verdict; None when it does not fail."""
    if start.state is not State.FAILS:
        return None
    cause = _find_cause(start, rootfs, config)
    rule = RULES[cause.rule]
    node = rootfs.resolve(b"/" + start.subject).node if start.subject else None
    layer = None if node is None else rootfs.layer_of(node)
    removed = tell_removal(rootfs, config, _missing_name(start)) if cause.rule in _ABSENCES else ""
    finding = Finding(
        rule=rule.id,
        severity=rule.severity,
        message=show(start.message) or rule.title,
        subject=show_path(start.subject) if start.subject else "",
        layer=layer,
        trail=start.steps,
        why=" ".join(part for part in (rule.why, cause.why, removed) if part),
        remedies=(*cause.remedies, rule.remedy) if cause.remedies else (rule.remedy,),
        assumptions=cause.assumptions,
    )
    return finding, cause.reason or rule.reason


def _missing_name(start: Start) -> bytes:
    """Last component of the file for want of which it does not start."""
    wanted = start.culprit if start.loaded is None else start.loaded.wanted
    return wanted.rstrip(b"/").rpartition(b"/")[2]


def _find_cause(start: Start, rootfs: Rootfs, config: ImageConfig) -> Cause:
    executed = start.execution
    if start.refusal is not None and start.refusal.why:
        return Cause(start.cause, start.refusal.why, start.refusal.remedies)
    if start.cause in ("elf.interpreter-absent",) and executed is not None:
        return _interpreter_absent(executed, rootfs, config)
    if start.cause.startswith("load.") and start.loaded is not None:
        return load_cause(start, rootfs, config)
    if start.cause == "script.interpreter-absent":
        return _script_interpreter_absent(start, rootfs)
    if start.cause == "elf.wrong-architecture":
        return _wrong_architecture(start, rootfs, config)
    if start.cause == "path.absent":
        return _path_absent(start, rootfs)
    if start.cause in ("path.not-found", "path.not-executable") and start.culprit:
        return _unusable_on_path(start, rootfs)
    return Cause(start.cause)


# -- the loader is missing --


def _interpreter_absent(executed: Execution, rootfs: Rootfs, config: ImageConfig) -> Cause:
    name = executed.culprit
    facts = None if executed.program is None else rootfs.elf(executed.program)
    architecture = config.platform.architecture
    musl_wanted = b"ld-musl" in name
    glibc_wanted = not musl_wanted and (b"/ld-linux" in name or b"/ld64" in name or name.endswith(b"/ld.so.1"))
    wants = f"{_needs_words(name, facts)} {built_words(facts)}".strip()
    remedies = static_remedies(facts)
    if name.startswith(_FOREIGN_PREFIXES):
        return Cause("elf.interpreter-foreign-prefix", wants)
    elsewhere = _elsewhere(rootfs, name)
    if elsewhere is not None:
        where = f"{wants} The same file name stands at {show_path(elsewhere)}."
        return Cause("elf.interpreter-elsewhere", where, (f"ln -s {show_path(elsewhere)} {show(name)}", *remedies))
    own = _present(rootfs, MUSL_LOADERS if glibc_wanted else GLIBC_LOADERS, architecture)
    if own is not None and (glibc_wanted or musl_wanted):
        rule = "elf.glibc-program-on-musl" if glibc_wanted else "elf.musl-program-on-glibc"
        return Cause(rule, f"{wants} The image has {show(own)}.", (*remedies, *_base_remedies(musl_wanted)))
    other = next(
        (
            found
            for family in (GLIBC_LOADERS, MUSL_LOADERS)
            for each in sorted(family)
            if each != architecture and (found := _present(rootfs, family, each)) is not None
        ),
        None,
    )
    if other is not None:
        return Cause("elf.interpreter-other-architecture", f"{wants} The image has {show(other)}.")
    if own is None and _present(rootfs, GLIBC_LOADERS if glibc_wanted else MUSL_LOADERS, architecture) is None:
        return Cause("elf.no-loader", wants, (*remedies, *_base_remedies(musl_wanted)))
    return Cause("elf.interpreter-absent", wants, remedies)


def _needs_words(name: bytes, facts: ElfFacts | None) -> str:
    words = f"It wants {show(name)}"
    if facts is None or not facts.needed:
        return words + "."
    versions: dict[bytes, list[str]] = {}
    for need in facts.verneed:
        versions.setdefault(need.file, []).append(show(need.version))
    shown = []
    for needed in facts.needed[:_SHOWN_NEEDED]:
        newest = max(versions.get(needed, [""]), key=version_key)
        shown.append(show(needed) + (f" ({newest})" if newest else ""))
    more = len(facts.needed) - len(shown)
    return f"{words}, and the libraries {', '.join(shown)}" + (f" and {more} more." if more > 0 else ".")


def _base_remedies(musl: bool) -> tuple[str, ...]:
    if musl:
        return ("Use the base it was built on (alpine), or build for glibc.",)
    return (
        "Use a base with glibc: debian:stable-slim or distroless/base; busybox:glibc suffices when the program needs no more "
        "than libc, libm, libpthread and libresolv.",
    )


def _present(rootfs: Rootfs, family: dict[str, tuple[bytes, ...]], architecture: str) -> bytes | None:
    return next((path for path in family.get(architecture, ()) if rootfs.resolve(path).node is not None), None)


def _elsewhere(rootfs: Rootfs, name: bytes) -> bytes | None:
    """The same file name in another usual directory."""
    base = name.rpartition(b"/")[2]
    for folder in _LIBRARY_FOLDERS:
        found = rootfs.resolve(folder + b"/" + base)
        if found.node is not None and found.node.entry.kind == Kind.FILE:
            return folder + b"/" + base
    return None


# -- other causes --


def _script_interpreter_absent(start: Start, rootfs: Rootfs) -> Cause:
    base = start.culprit.rpartition(b"/")[2]
    for folder in _INTERPRETER_FOLDERS:
        path = folder + b"/" + base
        if rootfs.resolve(path).node is not None:
            return Cause(start.cause, f"The image has {show(path)}.", (f"Begin the script with #!{show(path)}",))
    if base == b"bash" and rootfs.resolve(b"/bin/sh").node is not None:
        return Cause(start.cause, "The image has /bin/sh but no bash.", ("Install bash, or write the script for /bin/sh.",))
    return Cause(start.cause, f"Nothing named {show(base)} is in the usual directories.")


def _wrong_architecture(start: Start, rootfs: Rootfs, config: ImageConfig) -> Cause:
    node = rootfs.resolve(b"/" + start.subject).node
    facts = None if node is None else rootfs.elf(node)
    if facts is None:
        return Cause(start.cause)
    own = next((name for name, kind in NATIVE.items() if facts.machine in kind.machines and facts.bits == kind.bits), "unknown")
    return Cause(start.cause, f"The image says {config.platform}, the program is for {own} (machine {facts.machine}).")


def _path_absent(start: Start, rootfs: Rootfs) -> Cause:
    if start.argv[:2] == (b"/bin/sh", b"-c"):
        return Cause("path.shell-absent")
    base = start.culprit.rstrip(b"/").rpartition(b"/")[2]
    found = find_file(rootfs, base)
    if found is None:
        return Cause("path.absent")
    return Cause("path.absent", f"A file of that name lies at {show_path(found.path)}.", (f"Use {show_path(found.path)}.",))


def _unusable_on_path(start: Start, rootfs: Rootfs) -> Cause:
    tried = [each for step in start.steps if step.action == "lookup" for each in step.attempts]
    blocked = next((each.path for each in tried if each.outcome == "not executable"), None)
    if start.cause == "path.not-found" and blocked is not None:
        return Cause(start.cause, f"{blocked} exists but is not executable.", (f"chmod +x {blocked}",))
    found = find_file(rootfs, start.culprit) if start.cause == "path.not-found" else None
    if found is not None:
        folder = show_path(found.path.rpartition(b"/")[0])
        why = f"A file of that name lies at {show_path(found.path)}, and PATH does not name {folder}."
        return Cause(start.cause, why, (f"Use {show_path(found.path)}, or add {folder} to PATH.",))
    return Cause(start.cause)


# -- ldd for images --


def list_objects(
    config: ImageConfig,
    layers: Sequence[LayerFacts],
    *,
    paths: Sequence[bytes] | None = None,
    all_elf: bool = False,
    profile: HostProfile = DEFAULT_PROFILE,
    overrides: Overrides = NO_OVERRIDES,
) -> Iterator[ObjectListing]:
    """The named paths, every ELF file, or by default the program that the image starts."""
    rootfs = Rootfs(layers, bare_parents=profile.bare_parents)
    start = foretell_start(rootfs, config, profile, overrides)
    if all_elf:
        wanted = [b"/" + node.path for node in rootfs.elf_nodes()]
    elif paths:
        wanted = list(paths)
    else:
        program = start.execution.program if start.execution is not None else None
        wanted = [b"/" + program.path] if program is not None else []
        if program is None:
            # The start ends before any program is mapped; that is what the loader would have been spared.
            name = show(start.argv[0]) if start.argv else ""
            yield ObjectListing(path=name, verdict=start.state, error=show(start.message) or start.why_unknown)
    for path in wanted:
        yield _list_object(rootfs, path, start, config, profile)


def library_error(rootfs: Rootfs, path: bytes, start: Start, config: ImageConfig, profile: HostProfile) -> str:
    """What dlerror says where a program of the image cannot load this library; empty where it can, or nobody knows.

    Symbols are left open: the program may define them.
    """
    listed = _list_object(rootfs, path, start, config, profile)
    if listed.verdict is not State.FAILS:
        return ""
    first = listed.error.partition("\n")[0]
    return first.removeprefix(show(path) + ": ").removeprefix("error while loading shared libraries: ")


def _list_object(rootfs: Rootfs, path: bytes, start: Start, config: ImageConfig, profile: HostProfile) -> ObjectListing:
    found = rootfs.resolve(path, cwd=start.cwd)
    shown = show_path(path)
    if found.node is None:
        return ObjectListing(path=shown, verdict=State.FAILS, error=STRERROR[found.error])
    facts = rootfs.elf(found.node)
    layer = rootfs.layer_of(found.node)
    if facts is None:
        unread = rootfs.unread(found.node)
        verdict = State.UNKNOWN if unread else State.FAILS
        return ObjectListing(path=shown, verdict=verdict, error="not wholly read" if unread else "not an ELF file", layer=layer)
    base = ObjectListing(path=shown, interpreter=show(facts.interp or b""), layer=layer)
    creds = start.user.credentials(dac_override=profile.dac_override)
    if facts.interp is None:
        if not facts.needed and not _is_plug_in(facts):
            return base
        # A library: as its users would have it loaded, by the loader of the image's program or of its family.
        executed = _library_execution(rootfs, found.node, path, start, config, creds)
        if executed.unknown and not facts.needed:
            return base
        return _list_closure(rootfs, base, facts, executed, start, profile)
    tried = attempt(rootfs, "path", path, found)
    executed = execute_elf(
        rootfs,
        [Step("exec", shown, path=show_path(found.path), attempts=(tried,), layer=layer)],
        found.node,
        path,
        [path],
        0,
        None,
        creds,
        cwd=start.cwd,
        profile=profile,
        architecture=config.platform.architecture,
    )
    return _list_closure(rootfs, base, facts, executed, start, profile)


def _is_plug_in(facts: ElfFacts) -> bool:
    """Whether an object that names no library leaves symbols to others: it is no static program and no loader."""
    return facts.dynamic and facts.loader is None and not facts.dt_flags_1 & _DF_1_PIE


def _library_execution(
    rootfs: Rootfs, node: Node, path: bytes, start: Start, config: ImageConfig, creds: Credentials
) -> Execution:
    interp = None if start.execution is None else start.execution.interp
    name = b"" if start.execution is None else start.execution.interp_name
    for family in (GLIBC_LOADERS, MUSL_LOADERS):
        candidate = _present(rootfs, family, config.platform.architecture) if interp is None else None
        if candidate is not None:
            name, interp = candidate, rootfs.resolve(candidate).node
    if interp is None:
        return Execution((), unknown="the image has no loader for this library")
    own, loader = rootfs.elf(node), rootfs.elf(interp)
    after = creds._replace(dac_override=creds.uid == 0)
    if own is not None and loader is not None and not _same_machine(loader, own):
        if loader.loader is None or loader.loader.family != "glibc":
            return Execution((), unknown="it is for another machine than the image's loader")
        # As the loader would see it: a file that is found, and not for it.
        wrong = Outcome.WRONG_CLASS if own.bits != loader.bits else Outcome.WRONG_MACHINE
        tried = attempt(
            rootfs, "path", path, rootfs.resolve(path), wrong, f"it is a {own.bits} bit file for machine {own.machine}"
        )
        step = Step("library", show_path(path), show(name), ok=False, attempts=(tried,), layer=tried.layer)
        return Execution((step,), program=interp, opened_as=name, argv=(name, path), creds=after)
    return Execution((), program=node, opened_as=path, argv=(path,), interp=interp, interp_name=name, creds=after)


def _same_machine(loader: ElfFacts, own: ElfFacts) -> bool:
    return (own.bits, own.little) == (loader.bits, loader.little) and fits(loader, own)


def _list_closure(
    rootfs: Rootfs, base: ObjectListing, facts: ElfFacts, executed: Execution, start: Start, profile: HostProfile
) -> ObjectListing:
    if executed.unknown or executed.error or executed.crash:
        verdict = State.UNKNOWN if executed.unknown else State.FAILS
        error = executed.unknown or executed.crash or STRERROR[executed.error]
        needed: dict[str, str | None] = {show(name): None for name in facts.needed}
        return msgspec.structs.replace(base, verdict=verdict, error=error, needed=needed, tree=executed.steps)
    given = executed.steps if executed.interp is None else ()  # the loader itself is run, which tells no steps
    result = load_program(rootfs, executed, start.env, start.cwd, profile)
    where = _places(rootfs, result)
    left_open = _left_open(facts, result)
    ok = True if left_open else result.ok
    return msgspec.structs.replace(
        base,
        verdict=State.UNKNOWN if ok is None else State.STARTS if ok else State.FAILS,
        error="" if ok else "\n".join(map(show, result.lines)) or result.crash or result.unknown,
        needed={show(name): show_path(where[show(name)]) if show(name) in where else None for name in facts.needed},
        unmet_versions=tuple(f"{provider}: {version} (for {by})" for provider, version, by in result.unmet_versions),
        unbound_symbols=(
            *(f"{_symbol_words(name, version)} (in {by})" for by, name, version in result.unbound),
            *(f"{_symbol_words(name, version)} (in {by}, when first called)" for by, name, version in result.later),
        ),
        tree=tuple(step for step in (*given, *result.steps, *result.beyond) if not (left_open and step.action == "symbol")),
    )


def _places(rootfs: Rootfs, result: LoadResult) -> dict[str, bytes]:
    """Where the objects of a process lie, by the names they were asked for and by their sonames."""
    places: dict[str, bytes] = {}
    for each in result.objects:
        facts = None if each.node is None else rootfs.elf(each.node)
        if each.path and each.needed_by is not None:
            places[each.name] = each.path
        if each.path and facts is not None and facts.soname is not None:
            places.setdefault(show(facts.soname), each.path)
    for step in result.steps:
        # A name that stands for what is loaded already, as musl's reserved names do (M2).
        if step.action == "library" and step.ok and step.path:
            places.setdefault(step.wanted, step.path.encode("utf-8", "surrogateescape"))
    return places


def _left_open(facts: ElfFacts, result: LoadResult) -> bool:
    """Whether it is a library that lacks symbols only: the program that loads it may define them, and ldd says nothing."""
    return facts.interp is None and result.ok is False and result.reason is Reason.SYMBOL


def _symbol_words(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name
