"""What RubyGems says of a native gem that was built for another Ruby is what a real Ruby says (R30)."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from analyzers.facts import Kind
from analyzers.finding import State
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import profile_of
from tests.fleet.foretold import Foreteller
from tests.fleet.run import in_threads, load, run
from tests.make import roots
from tests.make.elves import ToolAbsent
from tests.make.images import Image
from tests.make.layers import Item, file, symlink, tar_of

GEMS = "usr/local/bundle"
SPECIFICATION = (
    'Gem::Specification.new do |s|\n  s.name = "native"\n  s.version = "1.0"\n  s.require_paths = ["lib"]\n'
    '  s.extensions = ["ext/extconf.rb"]\n  s.summary = "x"\n  s.files = []\n  s.authors = ["x"]\nend\n'
)
BUILT_FOR = {
    "this_ruby": "x86_64-linux/3.1.0",
    "an_older_ruby": "x86_64-linux/3.0.0",
    "musl": "x86_64-linux-musl/3.1.0",
}
pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(300)]


@functools.cache
def root() -> roots.Root:
    """Debian with the Ruby of this machine."""
    program = Path("/usr/bin/ruby3.1")
    if not program.exists():
        raise ToolAbsent("ruby3.1 is not on this machine")
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=60, check=True).stdout
    libraries = sorted(set(re.findall(r"=> /(?:usr/)?lib/(\S+)", said)))
    files: roots.Root = {}
    for folder in ("/usr/lib/ruby", f"/usr/lib/{roots.multiarch()}/ruby"):
        for at, _, names in os.walk(folder):
            for name in names:
                path = Path(at, name)
                where = str(path)[1:]
                files[where] = symlink(str(path.readlink())) if path.is_symlink() else Item(Kind.FILE, path.read_bytes(), 0o644)
    return {
        **roots.debian(),
        **roots.machine(*(f"usr/lib/{path}" for path in libraries), "usr/bin/ruby3.1"),
        **files,
        "usr/bin/ruby": symlink("ruby3.1"),
    }


def gem(built_for: str) -> roots.Root:
    return {
        f"{GEMS}/specifications/native-1.0.gemspec": file(SPECIFICATION),
        f"{GEMS}/gems/native-1.0/lib/native.rb": file('puts "hello"\n'),
        f"{GEMS}/extensions/{built_for}/native-1.0/gem.build_complete": file(b""),
    }


def test_a_gem_built_for_another_ruby_is_ignored_as_foretold(engine: Engine) -> None:
    try:
        base = tar_of(root())
    except ToolAbsent as error:
        absent(str(error))
    images = {
        id: Image(layers=(base, tar_of(gem(where))), cmd=("ruby", "-e", 'require "native"'), env=(f"GEM_HOME=/{GEMS}", "HOME=/"))
        for id, where in BUILT_FOR.items()
    }
    load(engine, {f"ruby/{id}:1": image for id, image in images.items()})
    ran = dict(zip(images, in_threads(lambda id: run(engine, f"ruby/{id}:1", f"ruby-{id}"), images), strict=True))
    foreteller, profile = Foreteller(), profile_of(engine)
    for id, image in images.items():
        report = foreteller.image(image, profile, NO_OVERRIDES)
        assert report.verdict.state is State.STARTS, (id, report.verdict)
        told = [each.message for each in report.findings if each.rule == "ruby.gem-not-built"]
        said = [line for line in ran[id].stderr.splitlines() if line.startswith("Ignoring ")]
        assert told == said, (id, ran[id])
        assert bool(said) == (ran[id].stdout != "hello\n"), (id, ran[id])
    assert [id for id in images if ran[id].stdout == "hello\n"] == ["this_ruby"]
