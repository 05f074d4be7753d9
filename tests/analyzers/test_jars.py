"""What is learned of a jar: manifest, classes, libraries, jars inside, whatever its size and however it arrives."""

from __future__ import annotations

import random

import pytest

from analyzers.facts import Coverage, LayerFacts
from analyzers.jar_facts import JarFacts
from analyzers.jars import JarReader, read_jar, read_manifest
from analyzers.layer import LayerReader
from analyzers.limits import Limits
from analyzers.wire import pack, unpack
from tests.conftest import absent
from tests.make.elves import MUSL_GCC, ToolAbsent, library
from tests.make.java import jar
from tests.make.tars import END, member

USES_LIBC = 'int puts(const char *); int libq(void) { return puts("q"); }\n'


def class_file(major: int, minor: int = 0, more: bytes = bytes(300)) -> bytes:
    return b"\xca\xfe\xba\xbe" + minor.to_bytes(2, "big") + major.to_bytes(2, "big") + more


def read(
    tar: bytes,
    limits: Limits = Limits(),  # noqa: B008
    known: object = None,
) -> tuple[LayerFacts, dict[bytes, tuple[tuple[int, int], ...]]]:
    reader = LayerReader(limits=limits, known_ranges=known)  # type: ignore[arg-type]
    for at in range(0, len(tar), 1 << 14):
        reader.feed(tar[at : at + (1 << 14)])
    return reader.finish(), reader.missed


def only(facts: LayerFacts) -> JarFacts:
    (found,) = facts.jars.values()
    return found


def test_the_newest_class_leaves_out_versioned_directories_and_module_info() -> None:
    facts = read_jar(
        jar(
            {
                "a/A.class": class_file(52),
                "a/B.class": class_file(52),
                "a/Ffm.class": class_file(55),
                "module-info.class": class_file(61),
                "META-INF/versions/21/a/A.class": class_file(65),
            },
            Multi_Release="true",
        )
    ).facts
    assert (facts.newest, facts.newest_class, facts.usual) == (55, b"a/Ffm", 52)
    assert facts.module
    assert facts.multi_release
    assert facts.versions()[b"META-INF/versions/21/a/A"] == (65, 0)


def test_a_fat_jar_tells_of_its_launcher_its_start_class_and_the_jars_inside() -> None:
    facts = read_jar(
        jar(
            {
                "org/springframework/boot/loader/JarLauncher.class": class_file(52),
                "BOOT-INF/classes/com/x/App.class": class_file(61),
                "BOOT-INF/lib/a.jar": jar({"q/Q.class": class_file(55), "q/R.class": class_file(55)}),
            },
            Main_Class="org.springframework.boot.loader.JarLauncher",
            Start_Class="com.x.App",
        )
    ).facts
    assert facts.start_class == b"com.x.App"
    assert facts.versions()[b"BOOT-INF/classes/com/x/App"] == (61, 0)
    (inner,) = facts.nested
    assert (inner.name, inner.usual, inner.class_names) == (b"BOOT-INF/lib/a.jar", 55, b"")


def test_native_libraries_inside_are_known_by_machine_and_needs() -> None:
    try:
        glibc, musl = library("libq.so", USES_LIBC), library("libq.so", USES_LIBC, compiler=MUSL_GCC)
    except ToolAbsent as error:
        absent(str(error))
    facts = read_jar(
        jar({"linux/x86_64/libq.so": glibc, "linux/musl/libq.so": musl, "win/q.dll": b"MZ", "mac.so": b"\xca\xfe"})
    ).facts
    found = {each.name: each for each in facts.natives}
    assert set(found) == {b"linux/x86_64/libq.so", b"linux/musl/libq.so"}
    assert found[b"linux/x86_64/libq.so"].machine == 62
    assert b"libc.so.6" in found[b"linux/x86_64/libq.so"].needed
    assert b"libc.so.6" not in found[b"linux/musl/libq.so"].needed


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"Main-Class: a.B\r\n\r\nName: x\r\nMain-Class: c\r\n", {b"main-class": b"a.B"}),
        (b"Main-Class: a.\n B\n", {b"main-class": b"a.B"}),
        (b"main-class:  a.B \n", {b"main-class": b" a.B "}),
        (b"Main-Class: a.B", None),
        (b"Main-Class:a.B\n", None),
        (b" a\n", None),
        (b"\n", {}),
    ],
)
def test_manifests_as_the_jar_specification_has_them(body: bytes, expected: dict[bytes, bytes] | None) -> None:
    assert read_manifest(body) == expected


def test_a_jar_beyond_the_ceiling_is_read_in_a_second_pass_to_the_same_facts() -> None:
    chance = random.Random(4)
    entries = {f"p/C{number}.class": class_file(52 + number % 3, more=chance.randbytes(2_000)) for number in range(150)}
    inner = jar({"q/Q.class": class_file(60)})
    body = jar({"first.jar": inner, **entries, "last.jar": inner}, Main_Class="p.C0")
    tar = member(b"app/big.jar", body) + member(b"x", b"y") + END
    small = Limits(jar_kept_bytes=200_000)
    whole, _ = read(tar)
    first, missed = read(tar, small)
    assert first.coverage is Coverage.PARTIAL
    assert missed
    second, still = read(tar, small, missed)
    assert not still
    assert second.coverage is Coverage.FULL
    assert second.jars == whole.jars
    assert only(whole).versions()[b"p/C1"] == (53, 0)
    hopeless, missed = read(tar, Limits(jar_kept_bytes=70_000))
    assert not missed
    assert hopeless.unread[0].reason == "jar-too-large"


def test_jars_and_class_files_of_a_layer_survive_the_stored_form() -> None:
    tar = (
        member(b"app/a.jar", jar({"A.class": class_file(55)}, Main_Class="A"))
        + member(b"app/same.jar", jar({"A.class": class_file(55)}, Main_Class="A"))
        + member(b"app/p/B.class", class_file(61, 65535))
        + member(b"app/p/Not.class", b"not a class file")
        + member(b"opt/java/release", b'JAVA_VERSION="17.0.1"\n')
        + member(b"usr/share/release", b"something else\n")
        + END
    )
    facts, _ = read(tar)
    assert facts.classes == {b"app/p/B.class": b"\xff\xff\0\x3d"}
    assert facts.texts == {b"opt/java/release": b'JAVA_VERSION="17.0.1"\n'}
    assert only(facts).main_class == b"A"
    again = unpack({section.name: section.chunks for section in pack(facts)})
    assert (again.jars, again.classes) == (facts.jars, facts.classes)


def test_a_reader_keeps_no_more_than_its_ceiling() -> None:
    reader = JarReader(10_000_000, Limits(jar_kept_bytes=100_000))
    for _ in range(40):
        reader.feed(bytes(250_000))
        assert sum(len(piece) for _, piece in reader.pieces) <= 100_000
    assert reader.finish().facts.absent_end
