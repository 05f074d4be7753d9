"""What a program that starts will want later: risks, never failures."""

from __future__ import annotations

from analyzers.finding import Severity
from analyzers.rules.rule import Rule

_W, _I = Severity.WARNING, Severity.INFO

TABLE = (
    Rule(
        "needs.ca-certificates",
        _I,
        "A TLS client without certificates of authorities",
        "Without them no server's certificate can be verified: `x509: certificate signed by unknown authority`.",
        "Install ca-certificates, or COPY --from the build stage /etc/ssl/certs/ca-certificates.crt.",
        "Go crypto/x509/root_linux.go, failures 49",
        example="No certificate bundle is in the image, and /app has the paths of certificate bundles compiled in",
        evidence="texts in a static program, TLS libraries of the start chain; the usual paths of bundles; Env of the config",
    ),
    Rule(
        "needs.name-service-libraries",
        _W,
        "A static glibc program that loads name services",
        "Static glibc loads libnss_*.so of its own release at run time; without them that service finds nobody.",
        "Link it dynamically, for musl, or against glibc 2.35 or later, and name only files and dns in /etc/nsswitch.conf.",
        "glibc nss/nss_module.c, R40",
        example="A static glibc program looks up names or users, for which it would load libnss_files.so.2, libnss_dns.so.2",
        evidence="texts in the static program; /etc/nsswitch.conf; libnss_* in the merged layers",
    ),
    Rule(
        "needs.nsswitch",
        _I,
        "No /etc/nsswitch.conf for an older glibc",
        "Before 2.35 glibc's default for hosts is DNS first; an answer from there hides what /etc/hosts says.",
        "Write `hosts: files dns` into /etc/nsswitch.conf.",
        "glibc nss/nss_database.c, bug 28700",
        example="There is no /etc/nsswitch.conf: glibc 2.31 asks DNS before it looks into /etc/hosts",
        evidence="release of the loaded glibc, getaddrinfo among the program's imports; no /etc/nsswitch.conf",
    ),
    Rule(
        "needs.time-zone",
        _W,
        "TZ names a zone that is not in the image",
        "The C library then takes UTC without a word; others fail with `unknown time zone`.",
        "Install tzdata, or copy the zone file.",
        "POSIX tzset, failures 49",
        example="TZ is Europe/Berlin, and there is no /usr/share/zoneinfo/Europe/Berlin",
        evidence="TZ in Env of the config; paths below /usr/share/zoneinfo",
    ),
    Rule(
        "needs.tmp",
        _I,
        "No /tmp that the program could write to",
        "Nothing makes /tmp at run time; creating a temporary file then fails with `no such file or directory`.",
        "Create it with mode 1777 (`COPY --chmod=1777`, or a WORKDIR /tmp), mount a tmpfs there, or set TMPDIR.",
        "R43",
        example="There is no /tmp",
        evidence="kind, mode and owner of /tmp; User and TMPDIR of the config",
    ),
)  # fmt: skip
