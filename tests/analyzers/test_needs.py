"""What programs that start will want later: told once each, with evidence, as a risk; and nothing of what has no evidence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest

from analyzers.elf import ElfReader
from analyzers.finding import Finding, Report, Severity, State
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig, Platform
from tests.conftest import absent
from tests.fleet import programs
from tests.make import roots
from tests.make.elves import ToolAbsent, c, go
from tests.make.layers import folder, program
from tests.make.starts import TRUE
from tests.make.views import Item, layer

Made = TypeVar("Made")
Items = Mapping[str, Item | bytes | str]
TMP = {"tmp": folder(0o1777)}
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
VERIFIES = """package main

import (
    "crypto/x509"
    "os"
)

func main() {
    os.Stdout.WriteString("hello\\n")
    x509.SystemCertPool()
}
"""
LOOKS_UP = '#include <netdb.h>\nint main(void) { struct addrinfo *r; return getaddrinfo("localhost", "80", 0, &r); }\n'
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


@functools.cache
def verifies() -> bytes:
    return go(VERIFIES, "-ldflags", "-s -w", CGO_ENABLED="0")


@functools.cache
def static(source: str) -> bytes:
    return c(source, "-static", "-s", "-Wno-all")


def report(items: Items, **config: object) -> Report:
    try:
        made = layer({**TMP, **items})
    except ToolAbsent as error:
        absent(str(error))
    settings = ImageConfig(cmd=("/app",), platform=Platform("linux", "amd64"), **config)  # type: ignore[arg-type]
    found = judge_image("sha256:0", settings, [made])
    assert found.verdict.state is State.STARTS
    return found


def needs(items: Items, **config: object) -> dict[str, Finding]:
    found = [each for each in report(items, **config).findings if each.rule.startswith("needs.")]
    assert len({each.rule for each in found}) == len(found), "told once each"
    assert all(each.severity in (Severity.WARNING, Severity.INFO) and each.assumptions for each in found)
    return {each.rule.removeprefix("needs."): each for each in found}


def built(make: Callable[[], Made]) -> Made:
    try:
        return make()
    except ToolAbsent as error:
        absent(str(error))


def test_failure_49_a_go_client_of_tls_without_a_bundle_is_told_and_why() -> None:
    app = program(built(verifies))
    assert set(needs({"app": app})) == {"ca-certificates"}
    assert "/app has the paths of certificate bundles compiled in" in needs({"app": app})["ca-certificates"].message
    assert needs({"app": app, BUNDLE: "-----BEGIN"}) == {}
    assert needs({"app": app, "etc/ssl/certs/a.0": "-----BEGIN"}) == {}
    assert needs({"app": app}, env=("SSL_CERT_FILE=/mounted/ca.pem",)) == {}


def test_a_program_that_verifies_no_certificates_is_not_told_to_bring_any() -> None:
    app = program(built(lambda: static(HELLO)))
    assert needs({"app": app}) == {}


def test_a_static_glibc_program_that_looks_names_up_needs_what_nsswitch_names_beyond_the_built_in() -> None:
    app = program(built(lambda: static(LOOKS_UP)))
    assert needs({"app": app}) == {}
    assert needs({"app": app, "etc/nsswitch.conf": "hosts: files dns\npasswd: files\n"}) == {}
    found = needs({"app": app, "etc/nsswitch.conf": "hosts: files [NOTFOUND=return] mymachines dns # ldap\nshadow: sss\n"})
    assert "libnss_mymachines.so.2" in found["name-service-libraries"].message
    assert "ldap" not in found["name-service-libraries"].message
    assert "sss" not in found["name-service-libraries"].message
    with_it = {"app": app, "etc/nsswitch.conf": "hosts: mymachines\n", "lib/libnss_mymachines.so.2": "x"}
    assert needs(with_it) == {}


def test_before_the_built_in_services_every_look_up_of_a_static_glibc_program_needs_libraries() -> None:
    old = built(lambda: static(LOOKS_UP)).replace(b"files dns", b"fires dns")
    found = needs({"app": program(old)})["name-service-libraries"]
    assert "libnss_dns.so.2, libnss_files.so.2" in found.message
    assert found.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("zone", "files", "told"),
    [
        ("Europe/Berlin", {}, True),
        (":Europe/Berlin", {}, True),
        ("Europe/Berlin", {"usr/share/zoneinfo/Europe/Berlin": "TZif2"}, False),
        ("UTC", {}, False),
        ("CET-1CEST,M3.5.0,M10.5.0/3", {}, False),
        ("", {}, False),
    ],
)
def test_failure_49_a_zone_that_the_image_names_and_does_not_have_is_told(zone: str, files: Items, told: bool) -> None:
    found = needs({"app": TRUE, **files}, env=(f"TZ={zone}",))
    assert ("time-zone" in found) == told
    assert not told or found["time-zone"].message == "TZ is " + zone + ", and there is no /usr/share/zoneinfo/Europe/Berlin"


def test_a_tmp_that_is_absent_or_closed_to_the_user_is_told() -> None:
    app = program(built(lambda: static(HELLO)))
    assert needs({"app": app, "tmp": "a file"})["tmp"].message == "There is no /tmp"
    assert needs({"app": app, "tmp": "a file"}, env=("TMPDIR=/var/tmp",)) == {}
    closed = {"app": app, "tmp": folder(0o755)}
    assert needs(closed) == {}
    assert needs(closed, user="1000")["tmp"].message == "/tmp is closed to user 1000: its mode is 0755, its owner 0"
    assert needs({"app": app, "tmp": folder(0o755, uid=1000)}, user="1000") == {}
    assert needs({"app": app}, user="1000") == {}


def test_an_older_glibc_without_nsswitch_asks_dns_first() -> None:
    app = program(built(programs.go_net_for_2_28))
    for release, told in (("2.31", {"nsswitch"}), ("2.41", set())):
        items = {
            path: item for path, item in built(functools.partial(roots.neighbour, release)).items() if "nsswitch" not in path
        }
        assert set(needs({**items, "app": app})) == told
        assert needs({**items, "app": app, "etc/nsswitch.conf": "hosts: files dns\n"}) == {}


def test_marks_are_found_wherever_the_bytes_are_cut() -> None:
    data = built(verifies)
    data += b"\0" * max(0, (5 << 20) - len(data))  # beyond what is kept whole
    for step in (4096, 1 << 20, 999_983):
        reader = ElfReader(len(data))
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        assert reader.finish().facts.static_marks == ("ca-bundles",)
