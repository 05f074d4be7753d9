"""The programs of the fleet, each compiled and linked for real by the tool a user would take.

Every one first writes the mark (engine_words.MARK) without buffering, so that whatever fails later is no failed start.
"""

from __future__ import annotations

import functools

from tests.make import elves
from tests.make.elves import GCC, MUSL_GCC, c, function_of, library, zig

MARKED = (
    '#include <unistd.h>\n{declared}int main(int argc, char **argv) {{ int n = write(1, "hello\\n", 6) - 6; {body}return n; }}\n'
)
HELLO = MARKED.format(declared="", body="")
DL = MARKED.format(declared="#include <dlfcn.h>\n", body="dlerror(); ")
STRLCPY = MARKED.format(declared="#include <string.h>\n", body="char copy[8]; strlcpy(copy, argv[0], 8); ")
GO_NET = """package main

import (
    "net"
    "os"
)

func main() {
    os.Stdout.WriteString("hello\\n")
    net.LookupHost("localhost")
}
"""
GO_NET_AND_C = (
    GO_NET.replace('"net"', '"net"', 1)
    .replace("import (", '// static int twice(int n) { return 2 * n; }\nimport "C"\n\nimport (')
    .replace('net.LookupHost("localhost")', 'net.LookupHost("localhost")\n    C.twice(1)')
)
RUST_HELLO = """
#[link(name = "dl")] extern "C" { fn dlerror() -> *const u8; }
#[link(name = "pthread")] extern "C" { fn pthread_self() -> usize; }
fn main() {
    println!("hello");
    std::thread::spawn(|| unsafe { dlerror(); pthread_self(); }).join().unwrap();
}
"""
# Debian's rustc has no standard library for musl; its core needs none, and musl-gcc brings musl.
RUST_CORE = """
#![no_std]
#![no_main]
extern "C" { fn write(fd: i32, text: *const u8, length: usize) -> isize; }
#[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
#[no_mangle] pub extern "C" fn main() -> i32 { unsafe { (write(1, b"hello\\n".as_ptr(), 6) - 6) as i32 } }
"""


def hello(*flags: str, by: tuple[str, ...] = GCC) -> bytes:
    """The smallest C program."""
    return c(HELLO, *flags, compiler=by)


def calling(*names: str) -> str:
    """A main() that calls the functions of these libraries after the mark."""
    declared = "".join(f"int {function_of(name)}(void);\n" for name in names)
    return MARKED.format(declared=declared, body="".join(f"n += {function_of(name)}(); " for name in names))


@functools.cache
def lib(name: str, *flags: str, by: tuple[str, ...] = GCC) -> bytes:
    """A library that exports one function named after it and needs only libc."""
    return library(name, None, *flags, compiler=by)


def user_of(*names: str, flags: tuple[str, ...] = (), by: tuple[str, ...] = GCC) -> bytes:
    """A program that needs these libraries, each with the file name as its soname."""
    return c(calling(*names), *flags, compiler=by, libs={name: lib(name, by=by) for name in names})


def musl_hello(*flags: str) -> bytes:
    """As built inside alpine: what is needed is called as Alpine calls it."""
    return elves.patched(hello(*flags, by=MUSL_GCC), "--replace-needed", "libc.so", "libc.musl-x86_64.so.1")


def musl_user_of(*names: str, flags: tuple[str, ...] = ()) -> bytes:
    return elves.patched(user_of(*names, flags=flags, by=MUSL_GCC), "--replace-needed", "libc.so", "libc.musl-x86_64.so.1")


def go_net(*flags: str, **environment: str) -> bytes:
    """A Go program that resolves names; cgo unless told otherwise."""
    return elves.go(GO_NET, *flags, **{"CGO_ENABLED": "1", **environment})


def go_net_for_2_28() -> bytes:
    """Linked for a glibc in which threads were a library of their own, so libpthread is needed besides libc and libresolv."""
    return go_net(CC=" ".join(zig("x86_64-linux-gnu.2.28")))


def go_net_and_c(*flags: str) -> bytes:
    return elves.go(GO_NET_AND_C, *flags, CGO_ENABLED="1")


def go_on_alpine() -> bytes:
    """As golang:alpine builds it: cgo against musl."""
    built = elves.go(GO_NET_AND_C, CGO_ENABLED="1", CC="musl-gcc")
    return elves.patched(built, "--replace-needed", "libc.so", "libc.musl-x86_64.so.1")


def rust() -> bytes:
    """Linked for glibc 2.28: libgcc_s, libdl and libpthread are libraries of their own."""
    return elves.rust(RUST_HELLO)


def rust_for_musl() -> bytes:
    """A static Rust program with musl in it."""
    flags = ["--crate-type", "staticlib", "-C", "panic=abort", "-C", "opt-level=1", "-C", "relocation-model=pic"]
    archive = elves.build(
        ["rustc", "--edition", "2021", *flags, "-o", "librust.a", "main.rs"], {"main.rs": RUST_CORE.encode()}, "librust.a"
    )
    files = {"librust.a": archive, "empty.c": b""}
    return elves.build([*MUSL_GCC, "-static", "-s", "-o", "out", "empty.c", "librust.a"], files, "out")


def cpp() -> bytes:
    """A C++ program: libstdc++ and libgcc_s."""
    source = '#include <iostream>\n#include <unistd.h>\nint main() { write(1, "hello\\n", 6); std::cerr << std::flush; }\n'
    return c(source, "-x", "none", "-lstdc++", compiler=("gcc", "-x", "c++"))
