"""Starts under a musl of which only the facts exist, for tests that need neither a compiler nor a real loader."""

from __future__ import annotations

from analyzers.accounts import Credentials
from analyzers.facts import LayerFacts, LoaderFacts
from analyzers.finding import Outcome
from analyzers.loader import LoadResult, Process, load
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs
from tests.make.layers import program
from tests.make.synthetic import R_JUMP_SLOT, Elf, Relocation, Symbol, build
from tests.make.views import Item, elf, elf_facts, file, layer

LOADER = "/lib/ld-musl-x86_64.so.1"
ROOT = Credentials(0, 0, (), True)
USER = Credentials(1000, 1000)


def musl(version: str = "1.2.5", *, machine: int = 62, bits: int = 64, little: bool = True, flags: int = 0) -> Item:
    """A loader by its facts; it exports nothing."""
    facts = LoaderFacts("musl", version)
    return elf(elf_facts(loader=facts, dynamic=True, has_gnu_hash=True, machine=machine, bits=bits, little=little, flags=flags))


def main(*needed: str, **more: object) -> Item:
    return program(build(Elf(needed=needed, interp=LOADER, **more)))  # type: ignore[arg-type]


def library(*needed: str, **more: object) -> Item:
    return file(build(Elf(needed=needed, **more)))  # type: ignore[arg-type]


def calling(*names: str, kind: int = R_JUMP_SLOT, bind: int = 1) -> dict[str, object]:
    return {
        "symbols": tuple(Symbol(name, defined=False, bind=bind) for name in names),
        "relocations": tuple(Relocation(kind, name) for name in names),
    }


def started(
    *layers: LayerFacts,
    env: tuple[str, ...] = (),
    creds: Credentials = ROOT,
    secure: bool = False,
    cwd: bytes = b"/",
    interp: str = LOADER,
    path: str = "/app/main",
    execfn: bytes = b"",
    profile: HostProfile = HostProfile(),  # noqa: B008
) -> LoadResult:
    rootfs = Rootfs(layers)

    def node(of: str) -> Node:
        found = rootfs.resolve(of.encode()).node
        assert found is not None, of
        return found

    return load(
        Process(
            rootfs,
            node(path),
            argv0=b"main",
            opened_as=path.encode(),
            env=tuple(item.encode() for item in env),
            cwd=cwd,
            creds=creds,
            secure=secure,
            interp=node(interp),
            interp_name=interp.encode(),
            profile=profile,
            execfn=execfn,
        )
    )


def root(items: dict[str, Item], version: str = "1.2.5") -> LayerFacts:
    return layer({LOADER[1:]: musl(version), **items})


def tried(result: LoadResult, wanted: str) -> list[tuple[str, str, Outcome, str]]:
    step = next(step for step in result.steps if step.wanted == wanted)
    return [(each.origin, each.path, each.outcome, each.whose) for each in step.attempts]


def details(result: LoadResult, wanted: str) -> list[str]:
    return [each.detail for step in result.steps if step.wanted == wanted for each in step.attempts]
