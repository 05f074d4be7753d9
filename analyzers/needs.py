"""What a program that starts will want later and the image has not: certificates, time zones, /tmp, name services.

No failure is foretold here: whether the program ever opens a TLS connection does not stand in the image. Each need is told once,
as a risk of its own severity, with what makes one think of it, and with the assumption under which it matters. What has no
evidence in the image (glibc's iconv and dlopen in a static program, time zones that Go looks up by name) is not told at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.accounts import ResolvedUser
from analyzers.elf.marks import CA_BUNDLES, FILES_FIRST, NAME_SERVICES
from analyzers.facts import ElfFacts, Entry, Kind
from analyzers.finding import Finding, State, show
from analyzers.load_causes import version_key
from analyzers.rootfs import Rootfs
from analyzers.rules import RULES
from analyzers.start import Start
from analyzers.trail import show_path

# Go crypto/x509/root_linux.go; the first is also Debian's and Alpine's, which OpenSSL, GnuTLS and curl are built for there.
CA_FILES = (
    b"/etc/ssl/certs/ca-certificates.crt",
    b"/etc/pki/tls/certs/ca-bundle.crt",
    b"/etc/ssl/ca-bundle.pem",
    b"/etc/pki/tls/cacert.pem",
    b"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    b"/etc/ssl/cert.pem",
)
CA_VARIABLES = (b"SSL_CERT_FILE", b"SSL_CERT_DIR", b"CURL_CA_BUNDLE", b"REQUESTS_CA_BUNDLE", b"NODE_EXTRA_CA_CERTS")
TLS_LIBRARIES = (b"libssl.so", b"libgnutls.so", b"libcurl.so", b"libcurl-gnutls.so", b"libmbedtls.so", b"libnss3.so")
ZONES = b"/usr/share/zoneinfo/"
BUILT_IN_SERVICES = frozenset((b"files", b"dns"))
HOST_LOOK_UPS = frozenset((b"getaddrinfo", b"gethostbyname", b"gethostbyname_r", b"gethostbyname2_r"))
HOSTS_FIRST = "2.35"
"""The first glibc that looks into /etc/hosts before it asks DNS where there is no nsswitch.conf."""


def find_needs(start: Start, rootfs: Rootfs) -> Iterator[Finding]:
    """At most one finding a rule. Nothing of an image that does not start: it has nearer needs."""
    executed = start.execution
    program = None if executed is None else executed.program
    facts = None if program is None else rootfs.elf(program)
    if start.state is not State.STARTS or program is None or facts is None:
        return
    subject = show_path(program.path)
    yield from _certificates(start, rootfs, facts, subject)
    yield from _name_services(start, rootfs, facts, subject)
    yield from _time_zone(start, rootfs)
    yield from _temporary(start, rootfs, facts)


def _found(rule_id: str, message: str, subject: str, assumption: str) -> Finding:
    rule = RULES[rule_id]
    return Finding(
        rule.id, rule.severity, message, subject, why=rule.why, remedies=(rule.remedy,), assumptions=(assumption,)
    )  # fmt: skip


def _certificates(start: Start, rootfs: Rootfs, facts: ElfFacts, subject: str) -> Iterator[Finding]:
    evidence = ""
    if CA_BUNDLES in facts.static_marks:
        evidence = f"{subject} has the paths of certificate bundles compiled in"
    elif start.loaded is not None:
        names = (each.path.rpartition(b"/")[2] for each in start.loaded.objects)
        library = next((name for name in names if name.startswith(TLS_LIBRARIES)), b"")
        evidence = f"{subject} loads {show(library)}" if library else ""
    if not evidence or any(item.partition(b"=")[0] in CA_VARIABLES for item in start.env):
        return
    if any(rootfs.resolve(path).node is not None for path in CA_FILES) or _has_files(rootfs, b"/etc/ssl/certs"):
        return
    yield _found(
        "needs.ca-certificates",
        f"No certificate bundle is in the image, and {evidence}",
        subject,
        "It connects to TLS servers, brings no certificates of its own, and none are mounted at run time.",
    )


def _has_files(rootfs: Rootfs, directory: bytes) -> bool:
    """Whether some layer puts anything into it: hashed certificates, one a file."""
    found = rootfs.resolve(directory)
    return found.node is not None and any(
        rootfs.layers[index].entries.below(found.path) for index in rootfs.holders(found.path) if index < len(rootfs.layers)
    )


def _name_services(start: Start, rootfs: Rootfs, facts: ElfFacts, subject: str) -> Iterator[Finding]:
    node = rootfs.resolve(b"/etc/nsswitch.conf").node
    text = None if node is None else rootfs.text(node)
    static = facts.static_libc == "glibc" and NAME_SERVICES in facts.static_marks
    if static:
        wanted = sorted(_services(text or b"") - BUILT_IN_SERVICES)
        if FILES_FIRST not in facts.static_marks:
            wanted = sorted({*wanted, *BUILT_IN_SERVICES})
        lost = [name for name in wanted if next(rootfs.named(b"libnss_" + name + b".so.2"), None) is None]
        if lost:
            names = ", ".join(f"libnss_{show(name)}.so.2" for name in lost)
            yield _found(
                "needs.name-service-libraries",
                f"A static glibc program looks up names or users, for which it would load {names}",
                subject,
                "The look-up gets as far as these services; before glibc 2.34 that is every look-up.",
            )
    elif node is None and _hosts_come_last(start, rootfs):
        version = "" if start.loaded is None else start.loaded.version
        yield _found(
            "needs.nsswitch",
            f"There is no /etc/nsswitch.conf: glibc {version} asks DNS before it looks into /etc/hosts",
            "",
            "It looks up names that stand in /etc/hosts, such as localhost or those of --add-host.",
        )


def _services(text: bytes) -> set[bytes]:
    """Every service that nsswitch.conf names for users, groups and hosts."""
    services: set[bytes] = set()
    for line in text.splitlines():
        database, colon, rest = line.partition(b"#")[0].partition(b":")
        if colon and database.strip() in (b"passwd", b"group", b"hosts"):
            services.update(word for word in rest.split() if not word.startswith(b"["))
    return services


def _hosts_come_last(start: Start, rootfs: Rootfs) -> bool:
    loaded = start.loaded
    if loaded is None or loaded.family != "glibc" or not loaded.version:
        return False
    if version_key(loaded.version) >= version_key(HOSTS_FIRST):
        return False
    program = None if start.execution is None else start.execution.program
    symbols = None if program is None else rootfs.symbols(program)
    return symbols is not None and not HOST_LOOK_UPS.isdisjoint(symbols.import_names.split(b"\0"))


def _time_zone(start: Start, rootfs: Rootfs) -> Iterator[Finding]:
    zone = next((item[3:] for item in start.env if item.startswith(b"TZ=")), b"")
    name = zone.removeprefix(b":")
    # `CET-1CEST` and the like are rules by themselves; UTC is what is had without any file.
    if b"/" not in name or name.endswith(b"/") or b".." in name or b"," in name:
        return
    path = name if name.startswith(b"/") else ZONES + name
    if rootfs.resolve(path).node is None and rootfs.resolve(b"/share/zoneinfo/" + name).node is None:
        yield _found(
            "needs.time-zone",
            f"TZ is {show(zone)}, and there is no {show(path)}",
            "",
            "The program brings no zones of its own (Go's time/tzdata, Python's tzdata, Java's).",
        )


def _temporary(start: Start, rootfs: Rootfs, facts: ElfFacts) -> Iterator[Finding]:
    if any(item.partition(b"=")[0] == b"TMPDIR" for item in start.env):
        return
    node = rootfs.resolve(b"/tmp").node
    if node is None or node.entry.kind != Kind.DIRECTORY:
        # Bases with a loader have it; a program without any C library is too small to be thought of as one that writes files.
        if start.loaded is None and (facts.go_build_info or facts.static_libc):
            yield _found("needs.tmp", "There is no /tmp", "", "It writes temporary files, and nothing is mounted at /tmp.")
        return
    if start.user.uid and not _may_write(node.entry, start.user):
        text = f"/tmp is closed to user {start.user.uid}: its mode is {node.entry.mode:04o}, its owner {node.entry.uid}"
        yield _found("needs.tmp", text, "/tmp", "It writes temporary files, and nothing is mounted at /tmp.")


def _may_write(directory: Entry, user: ResolvedUser) -> bool:
    """To make a file in it takes its write and its search bit; the first class that applies decides."""
    owner, group = directory.uid == user.uid, directory.gid == user.gid or directory.gid in user.groups
    shift = 6 if owner else 3 if group else 0
    return directory.mode >> shift & 3 == 3
