"""What Python cannot import, on images written as dictionaries: real ELF files and a real loader's libraries, no container."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pytest

from analyzers.accounts import Credentials
from analyzers.facts import Coverage, Unread
from analyzers.finding import Finding, Severity
from analyzers.plugins import Start
from analyzers.profile import DEFAULT_PROFILE
from analyzers.python import judge_python
from analyzers.pythons import find_interpreters
from analyzers.rootfs import Rootfs
from tests.conftest import absent
from tests.make import plugins, roots
from tests.make.elves import GCC, ToolAbsent, function_of, library, runpath
from tests.make.layers import Item, program, script
from tests.make.views import layer, symlink

Items = Mapping[str, Item | bytes | str]
ENV = (b"PATH=/usr/local/bin:/usr/bin:/bin", b"HOME=/root")
SITE = plugins.MUSL_SITE
TAG = "cpython-311-x86_64-linux-gnu.so"
CODE = "void *PyInit_{}(void) {{ return (void *)0; }}\n"


@pytest.fixture(autouse=True)
def _tools() -> None:
    try:
        base()
    except ToolAbsent as error:
        absent(str(error))


@functools.cache
def base() -> roots.Root:
    return plugins.stand_in(roots.debian(), "x86_64-linux-gnu", GCC)


def module(name: str, *flags: str, more: str = "", libs: Mapping[str, bytes] | None = None) -> Item:
    """An extension module that calls a function of each of these libraries."""
    names = [function_of(each) for each in libs or ()] if not more else []
    calls = "".join(f"int {each}(void);\nvoid *use_{each} = {each};\n" for each in names)
    return program(library(f"{name}.so", CODE.format(name) + more + calls, *flags, libs=libs))


def judged(files: Items, *, env: tuple[bytes, ...] = ENV, **more: object) -> list[Finding]:
    rootfs = Rootfs([layer(base()), layer(files, **more)])  # type: ignore[arg-type]
    return list(judge_python(rootfs, Start(env, b"/", Credentials(0, 0, (), True), DEFAULT_PROFILE)))


def rules(files: Items, **more: object) -> list[str]:
    return [each.rule for each in judged(files, **more)]  # type: ignore[arg-type]


def test_an_image_without_python_has_no_findings_of_it() -> None:
    rootfs = Rootfs([layer({**roots.debian(), f"{SITE}/a.so": module("a")})])
    start = Start(ENV, b"/", Credentials(0, 0, (), True), DEFAULT_PROFILE)
    assert [each.rule for each in judge_python(rootfs, start)] == []


def test_the_interpreter_is_known_by_its_program_and_library() -> None:
    (found,) = find_interpreters(Rootfs([layer(base())]), ENV)
    assert (found.path, found.release, found.stdlib) == (b"/usr/bin/python3", "3.11", b"/usr/lib/python3.11")
    assert found.suffixes == (b"." + TAG.encode(), b".abi3.so", b".so")
    assert found.opaque == ""


@pytest.mark.parametrize("ending", [TAG, "abi3.so", "so"])
def test_a_module_with_a_tag_of_the_interpreter_is_fine(ending: str) -> None:
    assert rules({f"{SITE}/pkg/a.{ending}": module("a")}) == []


def test_f29_a_module_for_another_release_is_not_seen() -> None:
    (found,) = judged({f"{SITE}/pkg/a.cpython-312-x86_64-linux-gnu.so": module("a")})
    assert found.rule == "python.extension-for-another-release"
    assert found.message == "ModuleNotFoundError: No module named 'pkg.a'"
    assert found.severity is Severity.LATER
    assert found.layer == 1


@pytest.mark.parametrize("sibling", [f"a.{TAG}", "a.abi3.so", "a.py", "a/__init__.py"])
def test_a_module_with_a_sibling_that_fits_is_fine(sibling: str) -> None:
    other = module("a") if sibling.endswith(".so") else "x = 1\n"
    assert rules({f"{SITE}/pkg/a.cpython-312-x86_64-linux-gnu.so": module("a"), f"{SITE}/pkg/{sibling}": other}) == []


def test_a_module_is_fine_when_any_interpreter_that_looks_there_can_load_it() -> None:
    newer = {
        "usr/bin/python3.12": base()[plugins.PYTHON],
        "usr/lib/python3.12/os.py": "",
        "usr/lib/python3.12/lib-dynload/_empty.cpython-312-x86_64-linux-gnu.so": module("_empty"),
        "usr/lib/python3/dist-packages/a.cpython-312-x86_64-linux-gnu.so": module("a"),
        "usr/lib/python3/dist-packages/b.cpython-311-x86_64-linux-gnu.so": module("b"),
        "usr/lib/python3/dist-packages/c.cpython-310-x86_64-linux-gnu.so": module("c"),
    }
    (found,) = judged(newer)
    assert found.message == "ModuleNotFoundError: No module named 'c'"


def test_many_modules_of_a_package_are_one_finding() -> None:
    names = [f"m{number}" for number in range(9)]
    (found,) = judged({f"{SITE}/pkg/{name}.cpython-39-x86_64-linux-gnu.so": module(name) for name in names})
    assert "pkg.m0, pkg.m1" in found.why
    assert "and 3 more" in found.why


def test_beyond_thirty_packages_the_rest_is_counted() -> None:
    found = judged({f"{SITE}/pkg{number}/a.cpython-39-x86_64-linux-gnu.so": module("a") for number in range(33)})
    assert len(found) == 31
    assert any(each.message == "3 more packages like these" for each in found)


def test_a_library_that_is_no_module_is_not_looked_at() -> None:
    wanting = library("libplain.so", "void nowhere(void);\nvoid *plain = (void *)nowhere;\n")
    assert rules({f"{SITE}/pkg/libplain.so": program(wanting), f"{SITE}/pkg.libs/libx-1.2.so.3": program(wanting)}) == []


def test_f30_a_missing_library_is_named_as_the_loader_names_it() -> None:
    (found,) = judged({f"{SITE}/cv2.abi3.so": module("cv2", libs={"libGL.so.1": library("libGL.so.1")})})
    assert found.rule == "python.extension-unloadable"
    assert found.message == "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    assert "headless" in found.remedies[0]
    assert found.trail[-1].wanted == "libGL.so.1"


def test_bundled_libraries_are_found_beside_the_package() -> None:
    helper = library("libhelp-1a2b.so.1")
    flags = runpath("$ORIGIN/../pkg.libs")
    files = {
        f"{SITE}/pkg/a.{TAG}": module("a", *flags, libs={"libhelp-1a2b.so.1": helper}),
        f"{SITE}/pkg.libs/libhelp-1a2b.so.1": program(helper),
    }
    assert rules(files) == []


def test_f50_a_library_of_the_driver_is_expected_from_the_host() -> None:
    (found,) = judged({f"{SITE}/gpu.so": module("gpu", libs={"libcuda.so.1": library("libcuda.so.1")})})
    assert (found.rule, found.severity) == ("python.host-library", Severity.INFO)


def test_a_library_that_lies_elsewhere_may_be_loaded_by_the_package_itself() -> None:
    helper = library("libtorch_like.so")
    files = {
        f"{SITE}/torchy/_C.{TAG}": module("_C", libs={"libtorch_like.so": helper}),
        f"{SITE}/torchy/lib/libtorch_like.so": program(helper),
    }
    (found,) = judged(files)
    assert (found.rule, found.severity) == ("python.extension-undecided", Severity.INFO)
    assert "/torchy/lib/libtorch_like.so" in found.why


_PCRE = "int pcre2_match_8(void) { return 1; }\n"
_WANTS_PCRE = "int pcre2_match_8(void);\nint (*hold)(void) = pcre2_match_8;\n"


def test_f39_a_symbol_that_only_another_build_of_the_library_has() -> None:
    full, slim = library("libpcre2-8.so.0", _PCRE), library("libpcre2-8.so.0", "int other(void) { return 1; }\n")
    files = {
        f"{SITE}/re2.so": module("re2", more=_WANTS_PCRE, libs={"libpcre2-8.so.0": full}),
        f"usr/lib/{roots.multiarch()}/libpcre2-8.so.0": program(slim),
        "opt/pcre/lib/libpcre2-8.so.0": program(full),
    }
    (found,) = judged(files)
    assert found.rule == "python.extension-unloadable"
    assert found.message == f"ImportError: /{SITE}/re2.so: undefined symbol: pcre2_match_8"


def test_a_module_of_another_machine() -> None:
    raw = bytearray(module("a").content)
    raw[18:20] = (183).to_bytes(2, "little")
    (found,) = judged({f"{SITE}/a.abi3.so": program(bytes(raw))})
    assert found.rule == "python.extension-for-another-architecture"


def test_the_python_path_and_plain_pth_files_are_looked_into() -> None:
    old = {"opt/more/a.cpython-39-x86_64-linux-gnu.so": module("a")}
    assert rules(old) == []
    assert rules(old, env=(*ENV, b"PYTHONPATH=/opt/more")) == ["python.extension-for-another-release"]
    assert rules({**old, f"{SITE}/x.pth": "# comment\n\n/opt/more\n/nowhere\n"}) == ["python.extension-for-another-release"]


def test_a_pth_file_that_runs_code_leaves_sys_path_open() -> None:
    def opaque(text: str, name: str = "x.pth") -> str:
        (found,) = find_interpreters(Rootfs([layer(base()), layer({f"{SITE}/{name}": text, f"{SITE}/a.egg": "zip"})]), ENV)
        return found.opaque

    assert opaque("import a; a.install()\n") == f"/{SITE}/x.pth"
    assert opaque("./a.egg\n") == f"/{SITE}/x.pth"
    assert opaque("import os; var = 'SETUPTOOLS_USE_DISTUTILS'\n", "distutils-precedence.pth") == ""
    assert opaque("x", "sitecustomize.py") == f"/{SITE}/sitecustomize.py"
    assert opaque("/nowhere\n") == ""


def test_a_virtual_environment_looks_into_its_own_packages() -> None:
    files = {
        "venv/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n",
        "venv/bin/python": symlink("/usr/bin/python3.11"),
        "venv/lib/python3.11/site-packages/a.cpython-312-x86_64-linux-gnu.so": module("a"),
    }
    (found,) = judged(files)
    assert found.subject == "/venv/lib/python3.11/site-packages/a.cpython-312-x86_64-linux-gnu.so"


def test_packages_of_a_release_that_left_are_named_with_their_number() -> None:
    site = "usr/local/lib/python3.10/site-packages"
    (found,) = judged({f"{site}/{name}-1.0.dist-info/METADATA": "" for name in ("flask", "click")})
    assert found.rule == "python.packages-of-another-release"
    assert found.message.startswith(f"2 packages lie in /{site}, and no Python 3.10 is in the image")
    assert rules({f"{site}/README": ""}) == []


def test_scripts_of_an_interpreter_that_left_are_one_finding() -> None:
    names = [f"tool{number}" for number in range(9)]
    files: dict[str, Item | bytes | str] = {
        f"usr/local/bin/{name}": script("#!/usr/local/bin/python3.10\nimport x\n") for name in names
    }
    files["usr/local/bin/fine"] = script("#!/usr/bin/python3\nimport x\n")
    (found,) = judged(files)
    assert (found.rule, found.severity) == ("python.dead-entry-point", Severity.LATER)
    assert found.message == "exec /usr/local/bin/tool0: no such file or directory"
    assert "and 3 more" in found.why


def test_a_copied_environment_whose_python_stayed_behind_is_explained() -> None:
    files = {
        "venv/pyvenv.cfg": "home = /usr/local/bin\n",
        "venv/bin/python": symlink("/usr/local/bin/python3.12"),
        "venv/bin/flask": script("#!/venv/bin/python\n"),
    }
    (found,) = judged(files)
    assert "made with the Python of /usr/local/bin" in found.why


def test_what_was_not_read_is_never_called_missing() -> None:
    files = {f"{SITE}/a.abi3.so": module("a", libs={"libx.so.1": library("libx.so.1")})}
    (found,) = judged(files, coverage=Coverage.PARTIAL, unread=(Unread(b"", "entry-limit"),))
    assert (found.rule, found.severity) == ("python.extension-undecided", Severity.INFO)
