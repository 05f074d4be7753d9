"""Objects that say by FDO notes what they will dlopen: what is told of it is what dlopen then does (R42)."""

from __future__ import annotations

import json
import tarfile

from analyzers.elf import read_elf
from analyzers.finding import Report, Severity, State
from analyzers.judges import judge_image
from analyzers.loader.dlopens import REQUIRED, SUGGESTED, Wish, read_wishes
from analyzers.oci import ImageConfig, Platform
from tests.conftest import absent
from tests.make.elves import CACHE, ToolAbsent, c
from tests.make.glibc_cases import LOADER, MULTIARCH, lib, other_machine
from tests.make.glibc_loaders import library_of, loader_of
from tests.make.layers import Item, file, program
from tests.make.views import layer
from tests.oracle.chroots import run, unpacked

_NOTE = """
__asm__(".pushsection .note.dlopen,\\"a\\",%note\\n.balign 4\\n"
        ".long 4\\n.long 2f-1f\\n.long 0x407c0c0a\\n.asciz \\"FDO\\"\\n1: .asciz {text}\\n2: .balign 4\\n.popsection\\n");
"""
_OPENS = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **names) {
    for (int at = 1; at < count; at++)
        if (!dlopen(names[at], RTLD_NOW)) fprintf(stderr, "%s\\n", names[at]);
    return 0;
}
"""
WISHES = (
    {"soname": ["libhere.so.1"], "priority": "required"},
    {"soname": ["libgone.so.1"], "priority": "required", "feature": "sound", "description": "Plays sounds"},
    {"soname": ["libgone.so.2", "libhere.so.1"], "priority": "required"},
    {"soname": ["libgone.so.3"]},
    {"soname": ["libforeign.so.1"], "priority": "suggested"},
    {"soname": ["libbeside.so.1"], "priority": "recommended"},
)


def _noted(source: str, wishes: object, *flags: str) -> bytes:
    text = json.dumps(json.dumps(wishes)).replace("\\", "\\\\").replace('"', '\\"')
    return c(source + _NOTE.replace("{text}", text), *flags)


def _items() -> dict[str, Item | bytes | str]:
    try:
        return {
            LOADER: loader_of("machine"),
            f"{MULTIARCH}/libc.so.6": library_of("machine", "libc.so.6"),
            "x": program(_noted(_OPENS, WISHES, "-Wl,-rpath,$ORIGIN/opt")),
            "usr/lib/libhere.so.1": lib("libhere.so.1"),
            "usr/lib/libforeign.so.1": file(other_machine()),
            "opt/libbeside.so.1": lib("libbeside.so.1"),
        }
    except ToolAbsent as error:
        absent(str(error))


def _judged(items: dict[str, Item | bytes | str], *names: str) -> Report:
    config = ImageConfig(cmd=("/x", *names), platform=Platform("linux", "amd64"))
    return judge_image("x", config, [layer(items)])


def test_r42_what_dlopen_does_not_find_is_told_by_its_priority() -> None:
    items = _items()
    names = [name for wish in WISHES for name in wish["soname"]]
    made = _judged(items, *names)
    told = {step.wanted: each.severity for each in made.findings if each.rule.startswith("load.dlopen") for step in each.trail}
    assert made.verdict.state is State.STARTS
    assert told == {
        "libgone.so.1": Severity.LATER,
        "libgone.so.3": Severity.INFO,
        "libforeign.so.1": Severity.INFO,
    }
    with unpacked(items) as root:
        ended = run(root, ("/x", *names))
    # One of several that will do is enough.
    assert set(ended.lines) == {*told, "libgone.so.2"}


def test_r42_the_finding_says_what_for_and_where_was_looked() -> None:
    found = next(each for each in _judged(_items()).findings if each.rule == "load.dlopen-required-absent")
    assert found.message == "libgone.so.1 is required for sound and not in the image: Plays sounds"
    assert found.subject == "/x"
    assert [each.path for each in found.trail[0].attempts if each.path][:2] == [
        "//opt/libgone.so.1",
        f"/{MULTIARCH}/libgone.so.1",
    ]


def test_r42_notes_that_are_no_wishes_are_passed_over() -> None:
    good = b'[{"soname":["liba.so.1"],"priority":"suggested"}]'
    bad = (b"", b"{", b"[1]", b'[{"feature":"x"}]', b'[{"soname":[]}]', b'[{"soname":"a"}]', b"\xff", b"[" * 10_000)
    assert list(read_wishes((*bad, good))) == [Wish((b"liba.so.1",), SUGGESTED)]
    assert [wish.priority for wish in read_wishes((b'[{"soname":["a"],"priority":"nice"}]',))] == ["recommended"]
    assert len(list(read_wishes((b'[{"soname":["a"]}]',) * 1_000))) < 100


def test_r42_a_real_library_of_systemd_says_what_it_opens() -> None:
    path = CACHE / "roots/trixie.tar"
    if not path.exists():
        absent("no trixie.tar in .cache/roots: run tests/setup/roots.sh")
    with tarfile.open(path) as archive:
        member = next(each for each in archive if each.isreg() and "/libsystemd.so.0." in each.name)
        content = archive.extractfile(member)
        assert content is not None
        facts = read_elf(content.read()).facts
    wishes = {wish.sonames: wish for wish in read_wishes(facts.dlopen_notes)}
    assert wishes[b"liblzma.so.5",].priority == SUGGESTED
    assert all(wish.priority != REQUIRED for wish in wishes.values())
    assert all(wish.feature and wish.description for wish in wishes.values())
