"""Reports and fleet rows made by hand, for what only shows them: pages, API, metrics, dashboards."""

from __future__ import annotations

from typing import Any

import msgspec

from analyzers.finding import (
    Attempt,
    Finding,
    LayerSummary,
    Outcome,
    Reason,
    Report,
    Severity,
    Stage,
    State,
    Step,
    Verdict,
)
from service.fleet import FleetRow, make_row
from service.sources import Sighting


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def starting(number: int = 1, **changes: Any) -> Report:
    """An image that starts: a program of two layers on Debian."""
    values: dict[str, Any] = {
        "image_id": digest(number), "platform": "linux/amd64", "argv": ("/usr/local/bin/api", "--listen", ":8080"),
        "verdict": Verdict(state=State.STARTS, stage=Stage.STARTED),
        "chain": (
            Step("lookup", "/usr/local/bin/api", path="/usr/local/bin/api", layer=1,
                 attempts=(Attempt("entrypoint", "/usr/local/bin/api", Outcome.FOUND, layer=1),)),
            Step("interpreter", "/lib64/ld-linux-x86-64.so.2", by="/usr/local/bin/api",
                 path="/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", layer=0,
                 attempts=(Attempt("PT_INTERP", "/lib64/ld-linux-x86-64.so.2", Outcome.FOUND, layer=0,
                                   detail="leads to /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),)),
            Step("library", "libc.so.6", by="/usr/local/bin/api", path="/lib/x86_64-linux-gnu/libc.so.6", layer=0,
                 attempts=(Attempt("ld.so.cache", "/lib/x86_64-linux-gnu/libc.so.6", Outcome.FOUND, layer=0),)),
        ),
        "layers": (
            LayerSummary(digest(9001), "RUN /bin/sh -c #(nop) ADD file:0c2a in / ", 77_800_000, 3410, 120_000),
            LayerSummary(digest(9100 + number), "COPY api /usr/local/bin/api # buildkit", 12_300_000, 2),
        ),
        "os": "debian 12", "libc": "glibc 2.36", "size_bytes": 90_100_000, "wasted_bytes": 120_000, "files": 3412,
        "elf_files": 310, "versions": {"start": "1", "loader": "1", "facts": "1"},
        "profile": "docker 26.1, runc 1.1, kernel 5.10, 4096 byte pages, x86-64-v3",
    }  # fmt: skip
    return Report(**(values | changes))


def failing(number: int = 2, **changes: Any) -> Report:
    """The classic: a program linked for glibc on Alpine."""
    message = "exec /usr/local/bin/report: no such file or directory"
    chain = (
        Step("lookup", "/usr/local/bin/report", path="/usr/local/bin/report", layer=1,
             attempts=(Attempt("entrypoint", "/usr/local/bin/report", Outcome.FOUND, layer=1),)),
        Step("interpreter", "/lib64/ld-linux-x86-64.so.2", by="/usr/local/bin/report", ok=False, layer=1,
             attempts=(
                 Attempt("PT_INTERP", "/lib64/ld-linux-x86-64.so.2", Outcome.ABSENT, detail="there is no /lib64"),
             )),
    )  # fmt: skip
    fatal = Finding(
        "elf.interpreter-absent", Severity.FATAL, message, "/usr/local/bin/report", 1, chain,
        why="The program asks for the glibc loader /lib64/ld-linux-x86-64.so.2; this image has musl's instead.",
        remedies=(
            "Build the program inside the image it runs in: `FROM golang:alpine`.",
            "Link it statically: `CGO_ENABLED=0 go build`.",
            "Run it on a base with glibc: `FROM busybox:glibc`.",
        ),
    )  # fmt: skip
    waste = Finding(
        "size.deleted-later", Severity.WARNING, "14.2 MB of this layer are deleted by a later one", "/var/cache/apk", 0,
        why="A layer cannot take away bytes of a lower one; both are pulled.",
        remedies=("Remove the cache in the same RUN: `apk add --no-cache curl`.",),
    )  # fmt: skip
    values: dict[str, Any] = {
        "image_id": digest(number), "platform": "linux/amd64", "argv": ("/usr/local/bin/report",),
        "verdict": Verdict(state=State.FAILS, stage=Stage.EXECVE, reason=Reason.INTERPRETER_ABSENT, message=message,
                           exit_code=1),
        "chain": chain, "findings": (fatal, waste),
        "layers": (
            LayerSummary(digest(9002), "/bin/sh -c #(nop) ADD file:7c1b in / ", 7_800_000, 520, 0),
            LayerSummary(digest(9200 + number), "COPY /out/report /usr/local/bin/report # buildkit", 6_100_000, 1),
        ),
        "os": "alpine 3.20.3", "libc": "glibc", "size_bytes": 13_900_000, "wasted_bytes": 0, "files": 521,
        "elf_files": 18, "versions": {"start": "1", "loader": "1", "facts": "1"},
        "profile": "docker 26.1, runc 1.1, kernel 5.10, 4096 byte pages, x86-64-v3",
    }  # fmt: skip
    return Report(**(values | changes))


def row(report: Report | None, repository: str, tag: str = "latest", **changes: Any) -> FleetRow:
    """The fleet row of a report under a name; `number`-ed digests follow the image ID."""
    source = changes.pop("source", "production")
    registry = changes.pop("registry", "registry.example.test")
    platform = changes.pop("platform", report.platform if report else "")
    manifest = changes.pop("manifest_digest", report.image_id.replace("sha256:0", "sha256:a") if report else "")
    values: dict[str, Any] = {
        "outcome": "done" if report else "queued", "manifest_digest": manifest, "first_seen": 1_700_000_000.0,
        "last_seen": 1_700_000_600.0, "analysed_at": 1_700_000_060.0 if report else 0.0,
        "report_key": f"key-{report.image_id}" if report else "",
        "compressed_bytes": report.size_bytes // 3 if report else 0,
    }  # fmt: skip
    sighting = Sighting(source, registry, repository, tag, manifest)
    pushed = {name: changes.pop(name, None) for name in ("growth_bytes", "new_rules")}
    made = make_row(sighting, platform, report, **(values | changes))
    return msgspec.structs.replace(made, **pushed)
