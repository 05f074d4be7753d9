"""What is told of native libraries inside jars is what a real Java 17 ends with when it loads them (failures 33, 34).

There is no Java for musl to be had here; its side is in tests/analyzers/test_java.py, with the words that issue threads record.
"""

from __future__ import annotations

import pytest

from analyzers.finding import Severity, State
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import profile_of
from tests.fleet.foretold import Foreteller
from tests.fleet.run import in_threads, load, run
from tests.make import java
from tests.make.elves import ToolAbsent, library, zig
from tests.make.images import Image
from tests.make.layers import file, folder, tar_of

LOADER = """import java.io.InputStream;
import java.nio.file.*;
public class Loading {
    public static void main(String[] words) throws Exception {
        try (InputStream in = Loading.class.getResourceAsStream("/linux/libq.so")) {
            Files.copy(in, Paths.get("/tmp/libq.so"), StandardCopyOption.REPLACE_EXISTING);
        }
        System.load("/tmp/libq.so");
        System.out.println("hello");
    }
}
"""
NEWER = "void *strlcpy(); void *libq(void) { return strlcpy(); }\n"
pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(300)]


def libraries() -> dict[str, bytes]:
    return {
        "fits": library("libq.so"),
        "wants_a_library": library("libq.so", libs={"libwanted.so.1": library("libwanted.so.1")}),
        "wants_a_newer_glibc": library("libq.so", NEWER, compiler=zig("x86_64-linux-gnu.2.38")),
        "for_another_machine": library("libq.so", compiler=zig("aarch64-linux-gnu")),
    }


def test_rows_33_and_34_the_linker_s_words_are_those_that_java_passes_on(engine: Engine) -> None:
    try:
        base = tar_of({**java.root(), "tmp": folder(0o1777)})
        loading = java.compiled(LOADER, "Loading")
        natives = libraries()
    except ToolAbsent as error:
        absent(str(error))
    jars = {id: java.jar({"Loading.class": loading, "linux/libq.so": body}, Main_Class="Loading") for id, body in natives.items()}
    images = {
        id: Image(layers=(base, tar_of({"app.jar": file(body)})), cmd=("java", "-jar", "/app.jar")) for id, body in jars.items()
    }
    load(engine, {f"natives/{id}:1": image for id, image in images.items()})
    ran = dict(zip(images, in_threads(lambda id: run(engine, f"natives/{id}:1", f"natives-{id}"), images), strict=True))
    foreteller, profile = Foreteller(), profile_of(engine)
    for id, image in images.items():
        report = foreteller.image(image, profile, NO_OVERRIDES)
        assert report.verdict.state is State.STARTS, (id, report.verdict)
        told = [each for each in report.findings if each.rule == "java.native-library-unfit"]
        assert bool(told) == (ran[id].stdout != "hello\n"), (id, ran[id])
        assert bool(told) == ("UnsatisfiedLinkError" in ran[id].stderr), (id, ran[id])
        for each in told:
            assert each.severity is Severity.LATER
            if id != "for_another_machine":
                assert each.message in ran[id].stderr, (id, ran[id])
    assert ran["fits"].stdout == "hello\n"
    assert "Possible cause: can't load" in ran["for_another_machine"].stderr, ran["for_another_machine"].stderr
