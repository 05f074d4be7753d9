"""Java judged from facts: what the launcher of older and other JVMs refuses, and what waits until it is used.

Java 17 itself is held to the real one in tests/fleet/java_images.py; here stand the words of releases that cannot be had,
as public issue threads record them, and the findings that no start shows.
"""

from __future__ import annotations

import pytest

from analyzers.finding import Finding, Reason, Report, Severity, Stage, State
from analyzers.judges import judge_image
from analyzers.layer import LayerReader
from analyzers.oci import ImageConfig
from tests.conftest import absent
from tests.make import roots
from tests.make.elves import MUSL_GCC, ToolAbsent, c, library, patched, zig
from tests.make.java import jar
from tests.make.layers import Item, file, program, tar_of

HOME = "opt/java"
JAR = ("java", "-jar", "/app.jar")
USES_LIBC = 'int puts(const char *); int libq(void) { return puts("q"); }\n'
LAUNCHER = "org.springframework.boot.loader.JarLauncher"


def class_file(major: int = 52, minor: int = 0) -> bytes:
    return b"\xca\xfe\xba\xbe" + minor.to_bytes(2, "big") + major.to_bytes(2, "big") + bytes(300)


def runtime(version: str = "17.0.1", *more: str, musl: bool = False) -> dict[str, Item | bytes | str]:
    """A runtime as far as its launcher looks; the launcher is a static program, which no loader need be asked about."""
    try:
        launcher = c("int main(void) { return 0; }\n", "-static", compiler=MUSL_GCC if musl else ("gcc",))
    except ToolAbsent as error:
        absent(str(error))
    lines = [f'JAVA_VERSION="{version}"', *more]
    parts = ("lib/libjava.so", "lib/jvm.cfg", "lib/server/libjvm.so", "lib/modules")
    return {
        f"{HOME}/release": file("\n".join(lines) + "\n"),
        f"{HOME}/bin/java": program(launcher),
        **{f"{HOME}/{part}": file("x") for part in parts},
    }


def report(items: dict[str, Item | bytes | str], cmd: tuple[str, ...] = JAR, env: tuple[str, ...] = ()) -> Report:
    reader = LayerReader()
    reader.feed(tar_of(items))
    config = ImageConfig(cmd=cmd, env=(f"PATH=/{HOME}/bin:/bin", *env))
    return judge_image("sha256:0", config, [reader.finish()])


def fails(found: Report, *lines: str, code: int = 1) -> Finding:
    """The finding behind a start that ends with these lines."""
    verdict = found.verdict
    assert (verdict.state, verdict.stage, verdict.reason) == (State.FAILS, Stage.STARTED, Reason.RUNTIME), verdict
    assert (verdict.lines, verdict.exit_code) == (lines, code)
    (fatal,) = [each for each in found.findings if each.severity is Severity.FATAL]
    return fatal


def too_new(name: str, major: int, newest: int) -> tuple[str, str]:
    """The two lines of Java 11 and later."""
    return (
        f"Error: LinkageError occurred while loading main class {name.replace('/', '.')}",
        f"\\x09java.lang.UnsupportedClassVersionError: {name} has been compiled by a more recent version of the Java Runtime "
        f"(class file version {major}.0), this version of the Java Runtime only recognizes class file versions up to {newest}.0",
    )


def of_rule(found: Report, rule: str) -> list[Finding]:
    return [each for each in found.findings if each.rule == rule]


# -- S6 --


def test_s6_the_finding_names_both_releases_the_runtime_and_the_remedy() -> None:
    app = jar({"p/Main.class": class_file(61)}, Main_Class="p.Main")
    found = report({**runtime("11.0.20", 'IMPLEMENTOR="Eclipse Adoptium"', 'IMAGE_TYPE="JRE"'), "app.jar": app})
    lines = too_new("p/Main", 61, 55)
    fatal = fails(found, *lines)
    assert fatal.rule == "java.class-too-new"
    assert fatal.message == lines[1].removeprefix("\\x09")
    assert "class-file version 61.0 (Java 17)" in fatal.why
    assert "JRE 11.0.20 of Eclipse Adoptium in /opt/java reads up to 55.0" in fatal.why
    assert fatal.remedies[:2] == ("Use a base with a JRE of Java 17 or later.", "Or compile with --release 11.")
    assert fatal.subject == "/app.jar"
    assert [step.action for step in fatal.trail][-2:] == ["runtime", "class"]


def test_s6_the_words_of_java_8() -> None:
    found = report({**runtime("1.8.0_292"), "app/p/Main.class": class_file(61)}, ("java", "-cp", "/app", "p.Main"))
    fails(
        found,
        "Error: A JNI error has occurred, please check your installation and try again",
        'Exception in thread "main" java.lang.UnsupportedClassVersionError: p/Main has been compiled by a more recent version of '
        "the Java Runtime (class file version 61.0), this version of the Java Runtime only recognizes class file versions up to "
        "52.0",
    )


def test_s6_the_words_of_openj9() -> None:
    found = report({**runtime("11.0.11", 'JVM_VARIANT="Openj9"'), "p/Main.class": class_file(61)}, ("java", "-cp", "/", "p.Main"))
    fatal = fails(
        found,
        "Error: LinkageError occurred while loading main class p.Main",
        "\\x09java.lang.UnsupportedClassVersionError: JVMCFRE199E bad major version 61.0 of class=p/Main, the maximum supported "
        "major version is 55.0; offset=6",
    )
    assert fatal.rule == "java.class-too-new"


@pytest.mark.parametrize("folder", ["BOOT-INF", "WEB-INF"])
def test_s6_a_start_class_that_a_launcher_loads_from_inside(folder: str) -> None:
    app = jar(
        {f"{LAUNCHER.replace('.', '/')}.class": class_file(52), f"{folder}/classes/com/x/App.class": class_file(61)},
        Main_Class=LAUNCHER,
        Start_Class="com.x.App",
    )
    fatal = fails(
        report({**runtime("11.0.2"), "app.jar": app}),
        'Exception in thread "main" ' + too_new("com/x/App", 61, 55)[1].removeprefix("\\x09"),
    )
    assert "com.x.App in /app.jar" in fatal.why
    assert report({**runtime("17"), "app.jar": app}).verdict.state is State.STARTS


# -- what is not known is not claimed --


@pytest.mark.parametrize(
    ("cmd", "env"),
    [
        (("java", "-javaagent:/agent.jar", "-cp", "/app", "p.Main"), ()),
        (("java", "-Djava.system.class.loader=x.Loader", "-cp", "/app", "p.Main"), ()),
        (("java", "-cp", "/app:/unread.zip", "p.Main"), ()),
        (("java", "@/options", "p.Main"), ()),
        (("java", "-cp", "/app", "p.Main"), ("JDK_JAVA_OPTIONS=@/options",)),
        (("java", "-m", "my.module/p.Main"), ()),
        (("java", "-version"), ()),
        (("java", "Main.java"), ()),
        (("java", "-cp", "/app", "com.sun.tools.javac.Main"), ()),
        (("java", "-jar", "/program"), ()),
    ],
)
def test_what_the_image_does_not_tell_is_no_alarm(cmd: tuple[str, ...], env: tuple[str, ...]) -> None:
    items = {**runtime(), "app/x": "x", "unread.zip": jar({"a": b"b"}), "program": b"no jar by its name", "options": "-cp /x"}
    assert report(items, cmd, env).verdict.state is State.STARTS


def test_an_odd_archive_is_no_alarm_but_told() -> None:
    app = jar({"p/Main.class": class_file()}, Main_Class="p.Gone")
    broken = bytearray(app)
    at = broken.index(b"p/Main.class") + 12
    broken[at : at + 8] = bytes(8)
    found = report({**runtime(), "app.jar": file(bytes(broken))})
    assert found.verdict.state is State.STARTS
    assert of_rule(found, "layer.zip-entry-broken")


def test_a_class_path_file_of_jib_is_followed() -> None:
    items = {
        **runtime("11"),
        "app/jib-classpath-file": "/app/resources:/app/classes:/app/libs/a.jar",
        "app/libs/a.jar": jar({"p/Main.class": class_file(61)}),
    }
    fatal = fails(report(items, ("java", "-cp", "@/app/jib-classpath-file", "p.Main")), *too_new("p/Main", 61, 55))
    assert fatal.rule == "java.class-too-new"
    assert fatal.subject == "/app/libs/a.jar"


# -- what waits until it is used --


def test_a_library_for_a_newer_java_waits_and_is_surer_on_the_class_path() -> None:
    newer = jar({f"q/Q{number}.class": class_file(61) for number in range(4)})
    some = jar({"r/R.class": class_file(52), "r/S.class": class_file(52), "r/Ffm.class": class_file(66)})
    items = {
        **runtime("11"),
        "app/a.jar": jar({"p/Main.class": class_file(55)}),
        "app/newer.jar": newer,
        "app/some.jar": some,
        "srv/newer2.jar": jar({"s/S.class": class_file(65)}),
    }
    found = report(items, ("java", "-cp", "/app/*", "p.Main"))
    assert found.verdict.state is State.STARTS
    first, second = of_rule(found, "java.library-too-new")
    assert (first.severity, first.subject) == (Severity.LATER, "/app/newer.jar")
    assert "newer.jar is for Java 17 (class file version 61.0), and the image has Java 11" in first.message
    assert (second.severity, second.subject) == (Severity.WARNING, "/srv/newer2.jar")
    assert second.assumptions


def test_a_nested_library_for_a_newer_java_is_told_by_its_name() -> None:
    app = jar({"p/Main.class": class_file(55), "BOOT-INF/lib/n.jar": jar({"q/Q.class": class_file(61)})}, Main_Class="p.Main")
    (found,) = of_rule(report({**runtime("11"), "app.jar": app}), "java.library-too-new")
    assert found.severity is Severity.LATER
    assert found.message.startswith("BOOT-INF/lib/n.jar is for Java 17")


def natives() -> tuple[bytes, bytes, bytes]:
    """A library for glibc as snappy's is (it names the loader too), for musl, and for another machine."""
    try:
        glibc = patched(library("libq.so", USES_LIBC), "--add-needed", "ld-linux-x86-64.so.2")
        musl = patched(library("libq.so", USES_LIBC, compiler=MUSL_GCC), "--replace-needed", "libc.so", "libc.musl-x86_64.so.1")
        return glibc, musl, library("libq.so", USES_LIBC, compiler=zig("aarch64-linux-gnu"))
    except ToolAbsent as error:
        absent(str(error))


def started_with(app: bytes, *, musl: bool, **more: Item | bytes | str) -> list[Finding]:
    libc = {"lib/ld-musl-x86_64.so.1": "x", "lib/libc.musl-x86_64.so.1": "x"} if musl else {
        "lib64/ld-linux-x86-64.so.2": "x", "lib/x86_64-linux-gnu/libc.so.6": "x", "lib/ld-linux-x86-64.so.2": "x"}  # fmt: skip
    items = {**runtime("17.0.1", 'LIBC="musl"' if musl else 'LIBC="gnu"', musl=musl), **libc, "app.jar": app, **more}
    found = report(items)
    assert found.verdict.state is State.STARTS, found.verdict
    return of_rule(found, "java.native-library-unfit")


def with_libraries(**libraries: bytes) -> bytes:
    entries = {f"{folder}/libq.so": body for folder, body in libraries.items()}
    return jar({"p/Main.class": class_file(), **entries}, Main_Class="p.Main")


def test_row_33_a_glibc_library_in_a_jar_on_a_musl_jre() -> None:
    glibc, musl, _ = natives()
    (found,) = started_with(with_libraries(linux=glibc), musl=True)
    assert found.severity is Severity.LATER
    assert found.message == (
        "java.lang.UnsatisfiedLinkError: /tmp/libq.so: Error loading shared library ld-linux-x86-64.so.2: No such file or "
        "directory (needed by /tmp/libq.so)"
    )
    assert "no sibling for musl" in found.why
    assert started_with(with_libraries(linux=glibc, musl=musl), musl=True) == []
    assert started_with(with_libraries(linux=glibc), musl=False) == []
    # gcompat brings the name.
    assert started_with(with_libraries(linux=glibc), musl=True, **{"lib/ld-linux-x86-64.so.2": "x"}) == []


def test_row_33_the_reverse_a_musl_library_on_a_glibc_jre() -> None:
    _, musl, _ = natives()
    (found,) = started_with(with_libraries(musl=musl), musl=False)
    assert "libc.musl-x86_64.so.1: cannot open shared object file" in found.message


def test_a_library_for_another_machine_alone_and_with_a_sibling_in_another_jar() -> None:
    glibc, _, arm = natives()
    (found,) = started_with(with_libraries(aarch64=arm), musl=False)
    assert found.message == "libq.so is there for arm64, and the image is for amd64"
    assert started_with(with_libraries(aarch64=arm), musl=False, **{"other.jar": jar({"x/libq.so": glibc})}) == []


def test_row_34_a_library_in_a_jar_for_a_newer_c_library() -> None:
    try:
        newer = library(
            "libq.so", "void *strlcpy(); void *libq(void) { return strlcpy(); }\n", compiler=zig("x86_64-linux-gnu.2.38")
        )
        libc = roots.machine(f"usr/lib/{roots.multiarch()}/libc.so.6")
        (path,) = libc
    except ToolAbsent as error:
        absent(str(error))
    (found,) = started_with(with_libraries(linux=newer), musl=False, **{"lib/x86_64-linux-gnu/libc.so.6": libc[path]})
    assert "version `GLIBC_2.38' not found (required by /tmp/libq.so)" in found.message
    assert "defines GLIBC up to GLIBC_2." in found.why


def test_a_jdk_is_told_with_the_bytes_that_a_jre_spares() -> None:
    items = {
        **runtime("17.0.1", 'IMAGE_TYPE="JDK"', 'IMPLEMENTOR="Debian"'),
        f"{HOME}/jmods/java.base.jmod": bytes(3_000_000),
        f"{HOME}/bin/javac": program(b"\x7fELF" + bytes(100)),
        "app.jar": jar({"p/Main.class": class_file()}, Main_Class="p.Main"),
    }
    (found,) = of_rule(report(items), "java.jdk-in-image")
    assert found.message == "3.0 MB of the JDK 17.0.1 of Debian in /opt/java are for compiling and linking"
    assert of_rule(report({**runtime(), "app.jar": items["app.jar"]}), "java.jdk-in-image") == []


def test_an_image_without_java_has_no_java_findings() -> None:
    found = report({"app.jar": jar({"A.class": class_file(70)}), "x": program(b"#!/x\n")}, ("/x",))
    assert not [each for each in found.findings if each.rule.startswith("java.")]
