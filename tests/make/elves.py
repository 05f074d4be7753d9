"""Real ELF files by real means: gcc, musl-gcc, zig (any target and glibc release), go, rustc, patchelf.

It knows how to ask each tool; what a program is for stands with the image that uses it. Everything built is kept in
.cache/elves under the hash of the command, its inputs and the tool's version, so a second run compiles nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
SILENT_SHARED = "int {name}(void) {{ return 0; }}\n"
SYSCALLS_ONLY = r"""
void _start(void) {
    static const char text[] = "hello\n";
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(1L), "D"(1L), "S"(text), "d"(6L) : "rcx", "r11", "memory");
    __asm__ volatile("syscall" : : "a"(231L), "D"(0L) : "rcx", "r11", "memory");
    for (;;) {}
}
"""

GCC = ("gcc",)
MUSL_GCC = ("musl-gcc",)


class ToolAbsent(Exception):
    """A compiler is not on this machine; the text names it."""


def zig(target: str) -> tuple[str, ...]:
    """The compiler command for a zig target such as `x86_64-linux-gnu.2.28`, `aarch64-linux-musl`."""
    return (sys.executable, "-m", "ziglang", "cc", "-target", target)


def _environment() -> dict[str, str]:
    # /usr/bin first: Debian's rustc has its standard library beside it, one of rustup may lack it.
    return {
        "PATH": f"/usr/bin:/bin:/usr/sbin:/sbin:{os.environ.get('PATH', '')}",
        "HOME": str(CACHE),
        "ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(CACHE / "zig"),
        "GOCACHE": str(CACHE / "go"),
        "GOPATH": str(CACHE / "gopath"),
        "GO111MODULE": "off",
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "0",
    }


@functools.cache
def _version(tool: str, argument: str) -> str:
    program = shutil.which(tool, path=_environment()["PATH"])
    if program is None:
        raise ToolAbsent(f"{tool} is not installed")
    done = subprocess.run([program, argument], capture_output=True, env=_environment(), timeout=60, check=False)
    return done.stdout.decode() + done.stderr.decode()


def build(command: Sequence[str], files: Mapping[str, bytes], output: str, **environment: str) -> bytes:
    """What `command`, run in a folder with `files`, leaves in `output`. RuntimeError with the tool's words when it fails."""
    tool = command[0]
    version = _version(tool, "version" if tool == "go" else "--version")
    if "ziglang" in command:
        version += _zig_version()
    parts = [repr(tuple(command)), output, version, repr(sorted(environment.items()))]
    parts += [f"{name}:{hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items())]
    kept = CACHE / "elves" / hashlib.sha256("\0".join(parts).encode()).hexdigest()
    if kept.exists():
        return kept.read_bytes()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="elf") as folder:
        for name, data in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755)
        done = subprocess.run(
            list(command), cwd=folder, capture_output=True, env={**_environment(), **environment}, timeout=280, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')[-2000:]}")
        made = Path(folder, output).read_bytes()
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(made)
    partial.replace(kept)
    return made


@functools.cache
def _zig_version() -> str:
    done = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise ToolAbsent("the Python package ziglang is not installed")
    return done.stdout.decode()


def c(source: str = HELLO, *flags: str, compiler: Sequence[str] = GCC, libs: Mapping[str, bytes] | None = None) -> bytes:
    """A C source compiled and linked; `libs` are shared objects by file name, each linked against (and so needed)."""
    libs = libs or {}
    command = [*compiler, "-O1", "-w", "-o", "out", "source.c", *libs, *flags]
    return build(command, {"source.c": source.encode(), **libs}, "out")


def library(
    name: str,
    source: str | None = None,
    *flags: str,
    compiler: Sequence[str] = GCC,
    libs: Mapping[str, bytes] | None = None,
    soname: str | None = None,
) -> bytes:
    """A shared object with `name` as its soname (or `soname`); without source it exports one function named after it."""
    text = SILENT_SHARED.format(name=function_of(name)) if source is None else source
    return c(text, "-shared", "-fPIC", f"-Wl,-soname,{soname or name}", *flags, compiler=compiler, libs=libs)


def function_of(name: str) -> str:
    """The function that library() exports for a file name: `liba.so.1` has `liba`."""
    return name.partition(".")[0].replace("-", "_").replace("+", "_")


def caller(*names: str, returns: str = "0") -> str:
    """A main() that calls the functions of these libraries and says hello."""
    declared = "".join(f"int {function_of(name)}(void);\n" for name in names)
    calls = " ".join(f"{function_of(name)}();" for name in names)
    return f'#include <stdio.h>\n{declared}int main(void) {{ {calls} puts("hello"); return {returns}; }}\n'


def chained(name: str, *names: str) -> str:
    """A library source whose one function calls those of other libraries."""
    declared = "".join(f"int {function_of(other)}(void);\n" for other in names)
    return (
        declared
        + f"int {function_of(name)}(void) {{ return {' + '.join(f'{function_of(other)}()' for other in names) or '0'}; }}\n"
    )


def rpath(path: str) -> tuple[str, ...]:
    """Linker flags for DT_RPATH."""
    return ("-Wl,--disable-new-dtags", f"-Wl,-rpath,{path}")


def runpath(path: str) -> tuple[str, ...]:
    """Linker flags for DT_RUNPATH."""
    return ("-Wl,--enable-new-dtags", f"-Wl,-rpath,{path}")


def patched(elf: bytes, *arguments: str) -> bytes:
    """An ELF file edited by patchelf, for what no linker writes."""
    return build(["patchelf", *arguments, "elf"], {"elf": elf}, "elf")


def go(source: str, *flags: str, **environment: str) -> bytes:
    """A Go program of one file, by the machine's own go."""
    return build(["go", "build", "-trimpath", *flags, "-o", "out", "main.go"], {"main.go": source.encode()}, "out", **environment)


def rust(source: str, target: str = "x86_64-linux-gnu.2.28", *flags: str) -> bytes:
    """A Rust program linked by zig for a glibc release of choice: linked for it, not patched to look so.

    zig would put its own unwinder in the place of libgcc_s, so the machine's libgcc_s is handed to it as a file; what
    that one needs of a newer glibc is not the program's concern.
    """
    linker = f"""#!/bin/sh
for word; do
    shift
    case $word in -lgcc_s) set -- "$@" libgcc_s.so.1 -Wl,--allow-shlib-undefined ;; *) set -- "$@" "$word" ;; esac
done
exec "{sys.executable}" -m ziglang cc -target {target} "$@"
"""
    _zig_version()
    command = ["rustc", "--edition", "2021", "-C", "linker=./linker", "-C", "opt-level=1", "-C", "strip=symbols", *flags]
    files = {"main.rs": source.encode(), "linker": linker.encode(), "libgcc_s.so.1": machine_library("libgcc_s.so.1")}
    return build([*command, "-o", "out", "main.rs"], files, "out")


def machine_library(name: str) -> bytes:
    """A library of this machine, from its multiarch directory."""
    for folder in sorted(Path("/usr/lib").glob("*-linux-gnu")):
        if (folder / name).exists():
            return (folder / name).read_bytes()
    raise ToolAbsent(f"{name} is not on this machine")
