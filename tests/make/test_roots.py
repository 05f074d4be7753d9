"""The base roots are systems: their own tools start in them, and what is said to be missing is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import absent
from tests.engine import Engine
from tests.make import elves, roots
from tests.make.images import Image, docker_archive
from tests.make.layers import program, tar_of

pytestmark = pytest.mark.docker


def run(engine: Engine, root: Callable[[], roots.Root], *command: str, **more: bytes) -> str:
    try:
        layers = (tar_of(root()), *([tar_of({name: program(data) for name, data in more.items()})] if more else []))
    except elves.ToolAbsent as error:
        absent(str(error))
    engine.load(docker_archive({"roots/base:1": Image(layers=layers, cmd=command)}))
    result = engine.run("roots/base:1")
    return result.stdout + result.stderr


@pytest.mark.parametrize("root", [roots.alpine, roots.busybox, roots.busybox_glibc, roots.debian, roots.musl_of_debian])
def test_a_shell_starts_in_every_root(engine: Engine, root: Callable[[], roots.Root]) -> None:
    assert run(engine, root, "/bin/sh", "-c", "/usr/bin/env true && cat /etc/passwd") == roots.PASSWD


@pytest.mark.parametrize("root", [roots.busybox_glibc, roots.debian])
def test_a_glibc_program_starts_where_glibc_is(engine: Engine, root: Callable[[], roots.Root]) -> None:
    assert run(engine, root, "/hello", hello=elves.c()) == "hello\n"


@pytest.mark.parametrize("root", [roots.alpine, roots.musl_of_debian])
def test_a_musl_program_starts_where_musl_is(engine: Engine, root: Callable[[], roots.Root]) -> None:
    program_file = elves.patched(elves.c(compiler=elves.MUSL_GCC), "--replace-needed", "libc.so", "libc.musl-x86_64.so.1")
    assert run(engine, root, "/hello", hello=program_file) == "hello\n"


def test_a_cpp_program_finds_libstdc_in_debian_and_not_in_busybox(engine: Engine) -> None:
    source = '#include <iostream>\nint main() { std::cout << "hello" << std::endl; }\n'
    built = elves.c(source, "-x", "none", "-lstdc++", compiler=("gcc", "-x", "c++"))
    assert run(engine, roots.debian, "/hello", hello=built) == "hello\n"
    assert "libstdc++.so.6: cannot open shared object file" in run(engine, roots.busybox_glibc, "/hello", hello=built)


def test_a_rust_program_linked_for_glibc_2_28_wants_libdl_and_libgcc(engine: Engine) -> None:
    source = (
        '#[link(name = "dl")] extern "C" { fn dlerror() -> *const u8; }\nfn main() { unsafe { dlerror(); } println!("hello"); }'
    )
    built = elves.rust(source)
    assert b"libdl.so.2" in built
    assert b"GLIBC_2.34" not in built
    assert run(engine, roots.debian, "/hello", hello=built) == "hello\n"
    assert "cannot open shared object file" in run(engine, roots.busybox_glibc, "/hello", hello=built)
