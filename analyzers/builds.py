"""How a program was built, as far as it says so, and how to build it so that it needs no loader (scenarios S1-S5b).

Knows Go's build settings (R41), no images and no bases.
"""

from __future__ import annotations

from analyzers.facts import ElfFacts, GoBuild
from analyzers.finding import show

_OWN_RESOLVERS = (b"netgo", b"osusergo")
"""Build tags that spare net and os/user the C library."""


def go_setting(build: GoBuild | None, name: bytes) -> bytes | None:
    """A build setting; None where the program does not tell."""
    return None if build is None else next((value for each, value in build.settings if each == name), None)


def is_dynamic_pie(facts: ElfFacts) -> bool:
    """Built without cgo and yet with an interpreter: that is what -buildmode=pie does, which old releases do not write down."""
    return go_setting(facts.go_build, b"CGO_ENABLED") == b"0" and facts.interp is not None


def built_words(facts: ElfFacts | None) -> str:
    """A sentence on the build, where the program tells of it."""
    build = None if facts is None else facts.go_build
    if facts is None or build is None:
        return ""
    said = [f"{show(name)}={show(value)}" for name, value in build.settings if name in (b"CGO_ENABLED", b"-tags", b"-buildmode")]
    what = f"{show(build.path)} " if build.path and build.path != b"command-line-arguments" else ""
    words = f"It is {what}built by {show(build.version)}" + (f" with {', '.join(said)}." if said else ".")
    if is_dynamic_pie(facts):
        return words + " Without cgo it needs no C library, but -buildmode=pie names the loader all the same."
    if go_setting(build, b"CGO_ENABLED") == b"1" and _tagged(build):
        return words + " The tags spare net and os/user the C library; some other package uses cgo."
    return words


def _tagged(build: GoBuild) -> bool:
    tags = (go_setting(build, b"-tags") or b"").split(b",")
    return any(tag in tags for tag in _OWN_RESOLVERS)


def static_remedies(facts: ElfFacts | None) -> tuple[str, ...]:
    """What makes the program static, the community's way first."""
    if facts is None:
        return ()
    build = facts.go_build
    if is_dynamic_pie(facts):
        return ("Build without -buildmode=pie: the program is then static.",)
    if facts.go_build_info and build is not None and _tagged(build):
        return (
            "Build with CGO_ENABLED=0 if the package that uses cgo has a way without (a pure Go driver, say).",
            "Or link the C parts in: -ldflags '-linkmode external -extldflags -static', best against musl.",
        )
    if facts.go_build_info:
        return (
            "Build with CGO_ENABLED=0: the program is then static.",
            "Or build with -tags netgo,osusergo where only net and os/user bring in cgo.",
        )
    return ("Link it statically (-static, or Rust's *-unknown-linux-musl target).",)
