"""The rows S1 to S5b of scenarios.md, and one C program built in every way on every base."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.fleet import programs
from tests.fleet.image import FleetImage, runs
from tests.make.elves import MUSL_GCC, c, zig

ABSENT = "exec /app: no such file or directory"
GLIBC = "x86_64-linux-gnu"


def _app(build: Callable[[], bytes]) -> Callable[[], dict[str, bytes]]:
    return lambda: {"app": build()}


SCENARIOS = (
    runs("s1_go_net_on_scratch", "S1 K15 M50", "", _app(programs.go_net), fails=ABSENT),
    runs("s1_go_net_on_alpine", "S1 K15 M50", "alpine", _app(programs.go_net), fails=ABSENT),
    runs("s1b_go_net_on_busybox_glibc", "S1b", "busybox-glibc", _app(programs.go_net), good=True),
    runs("s1_go_net_for_2_28_on_scratch", "S1 K15", "", _app(programs.go_net_for_2_28), fails=ABSENT),
    runs("s1b_go_net_for_2_28_on_busybox_glibc", "S1b G57", "busybox-glibc", _app(programs.go_net_for_2_28), good=True),
    runs("s1b_go_net_for_2_28_on_glibc_2_31", "S1b", "glibc-2.31", _app(programs.go_net_for_2_28), good=True),
    runs("s1_go_net_of_2_36_on_glibc_2_31", "S1 G43", "glibc-2.31", _app(programs.go_net),
         fails="version `GLIBC_2.34' not found"),
    runs("s2_go_without_cgo_on_scratch", "S2 K18", "", _app(lambda: programs.go_net(CGO_ENABLED="0"))),
    runs("s2_go_without_cgo_on_alpine", "S2 K18", "alpine", _app(lambda: programs.go_net(CGO_ENABLED="0"))),
    runs("s2_go_pie_without_cgo_on_scratch", "S2 K15", "",
         _app(lambda: programs.go_net("-buildmode=pie", CGO_ENABLED="0")), fails=ABSENT),
    runs("s2b_netgo_on_scratch", "S2b K18 R41", "", _app(lambda: programs.go_net("-tags", "netgo"))),
    runs("s2b_netgo_with_cgo_elsewhere_on_scratch", "S2b K15", "", _app(lambda: programs.go_net_and_c("-tags", "netgo")),
         fails=ABSENT),
    runs("s2b_netgo_with_cgo_elsewhere_on_debian", "S2b", "debian", _app(lambda: programs.go_net_and_c("-tags", "netgo"))),
    runs("s4b_golang_alpine_on_alpine", "S4b", "alpine", _app(programs.go_on_alpine), good=True),
    runs("s4b_golang_alpine_on_scratch", "S4b K15", "", _app(programs.go_on_alpine), fails=ABSENT),
    runs("s4b_golang_alpine_on_debian", "S4b K15 M54", "debian", _app(programs.go_on_alpine), fails=ABSENT),
    runs("s5_rust_on_debian", "S5", "debian", _app(programs.rust), good=True),
    runs("s5_rust_on_glibc_2_31", "S5", "glibc-2.31", _app(programs.rust), good=True),
    runs("s5_rust_on_glibc_2_41", "S5", "glibc-2.41", _app(programs.rust), good=True),
    runs("s5_rust_on_busybox_glibc", "S5 G58", "busybox-glibc", _app(programs.rust),
         fails="libgcc_s.so.1: cannot open shared object file: No such file or directory"),
    runs("s5_rust_on_scratch", "S5 K15", "", _app(programs.rust), fails=ABSENT),
    runs("s5_rust_on_alpine", "S5 K15 M50", "alpine", _app(programs.rust), fails=ABSENT),
    runs("s5_dl_of_2_28_on_busybox_glibc", "S5 G57", "busybox-glibc",
         _app(lambda: c(programs.DL, "-ldl", compiler=zig("x86_64-linux-gnu.2.28"))),
         fails="libdl.so.2: cannot open shared object file: No such file or directory"),
    runs("s5b_rust_for_musl_on_scratch", "S5b K18", "", _app(programs.rust_for_musl)),
    runs("s5b_rust_for_musl_on_alpine", "S5b K18", "alpine", _app(programs.rust_for_musl), good=True),
    runs("c_plus_plus_on_debian", "G58", "debian", _app(programs.cpp), good=True),
    runs("c_plus_plus_on_busybox_glibc", "G58", "busybox-glibc", _app(programs.cpp), fails="libstdc++.so.6: cannot open"),
    runs("c_plus_plus_on_alpine", "K15 M50", "alpine", _app(programs.cpp), fails=ABSENT),
)  # fmt: skip

STARTS = ""
OLD = "version `GLIBC_2.34' not found (required by /app)"
_MATRIX: dict[str, tuple[Callable[[], bytes], dict[str, str]]] = {
    "gcc": (programs.hello, {"": ABSENT, "alpine": ABSENT, "busybox-glibc": STARTS, "debian": STARTS, "debian-musl": ABSENT,
                             "glibc-2.31": OLD, "glibc-2.41": STARTS}),
    "gcc_no_pie": (lambda: programs.hello("-no-pie"),
                   {"": ABSENT, "alpine": ABSENT, "busybox-glibc": STARTS, "debian": STARTS}),
    "zig_2_17": (lambda: programs.hello(by=zig(f"{GLIBC}.2.17")),
                 {"": ABSENT, "alpine": ABSENT, "busybox-glibc": STARTS, "debian": STARTS, "glibc-2.31": STARTS}),
    "zig_2_38": (lambda: c(programs.STRLCPY, compiler=zig(f"{GLIBC}.2.38")),
                 {"": ABSENT, "alpine": ABSENT, "busybox-glibc": "version `GLIBC_2.38' not found",
                  "debian": "version `GLIBC_2.38' not found", "glibc-2.31": "version `GLIBC_2.34' not found",
                  "glibc-2.41": STARTS}),
    "musl": (programs.musl_hello, {"": ABSENT, "alpine": STARTS, "busybox-glibc": ABSENT, "debian": ABSENT,
             "debian-musl": STARTS}),
    "static": (lambda: programs.hello("-static"), {"": STARTS, "alpine": STARTS, "busybox-glibc": STARTS, "debian": STARTS}),
    "static_pie": (lambda: programs.hello("-static-pie"),
                   {"": STARTS, "alpine": STARTS, "busybox-glibc": STARTS, "debian": STARTS}),
    "musl_static": (lambda: programs.hello("-static", by=MUSL_GCC), {"": STARTS, "alpine": STARTS, "debian": STARTS}),
}  # fmt: skip
_ROWS = {
    ("gcc", "alpine"): "S3 K15 M50", ("gcc", ""): "S3b K15", ("musl", "alpine"): "S4", ("musl", "debian"): "K15 M54",
    ("musl", ""): "K15", ("static", ""): "K18 G61", ("static_pie", ""): "K18 G61", ("zig_2_38", "debian"): "G43 G57",
}  # fmt: skip


def _matrix() -> Iterator[FleetImage]:
    for how, (build, bases) in _MATRIX.items():
        for base, fails in bases.items():
            name = f"hello_{how}_on_{base.replace('-', '_').replace('.', '_') or 'scratch'}"
            yield runs(name, _ROWS.get((how, base), "K12"), base, _app(build), fails=fails, good=how == "gcc" and not fails)


IMAGES = (*SCENARIOS, *_matrix())
