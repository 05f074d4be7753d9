"""Oddities of layers."""

from __future__ import annotations

from analyzers.finding import Severity
from analyzers.rules.rule import Rule

_W, _I = Severity.WARNING, Severity.INFO

TABLE = (
    Rule(
        "layer.symlinked-parent",
        _W,
        "A layer puts files under a symbolic link of a lower layer",
        "Docker and containerd unpack each layer by itself: a directory takes the place of the link and hides what lay behind. "
        "Unpackers that lay layers over each other follow the link instead. The verdict follows Docker and containerd.",
        "List the directory's real path in the layer, for example usr/lib instead of lib.",
        "moby overlay2, containerd overlayfs (tests/fleet/test_snapshotter.py)",
    ),
    Rule(
        "layer.opaque-root",
        _W,
        "A layer asks to hide all that lies below it",
        "The specification lets an opaque mark at the root hide every lower layer; overlayfs, and so Docker and containerd, "
        "does not look at it there. The verdict follows them.",
        "Build the image anew from the layers that are wanted.",
        "image-spec layer.md, Linux fs/overlayfs/namei.c",
    ),
    Rule(
        "layer.path-escape",
        _W,
        "A layer names paths above the root",
        "`..` above the root is cut off by every runtime; it has no place in an image.",
        "Build the layer again without such names.",
        "hostile 1",
    ),
    Rule(
        "layer.duplicate-entry",
        _W,
        "A layer lists a path twice",
        "The last one wins.",
        "Build the layer again; tools that list the image may show the other one.",
        "hostile 11",
    ),
    Rule(
        "layer.ambiguous-name",
        _W,
        "A layer names one file in two ways",
        "Tools disagree about which name counts; Go's is taken, as the runtimes do.",
        "Build the layer again with another tool.",
        "hostile 16",
    ),
    Rule(
        "layer.global-pax",
        _W,
        "A layer has a global header that tools read differently",
        "Runtimes ignore it, other tools rename or resize every member by it.",
        "Build the layer again with another tool.",
        "hostile 17",
    ),
    Rule(
        "layer.trailing-data",
        _I,
        "A layer has bytes after its end",
        "They are hashed but not unpacked.",
        "Build the layer again with another tool.",
        "hostile 36",
    ),
    Rule(
        "layer.dangling-hardlink",
        _W,
        "A hard link leads to nothing",
        "Its target is in no layer below; runtimes refuse to unpack such an image.",
        "Build the layer again.",
        "hostile 3",
    ),
    Rule(
        "layer.media-type-mismatch",
        _W,
        "A layer is compressed otherwise than it says",
        "Runtimes look at the bytes; other tools believe the label and fail.",
        "Push the image again with a tool that labels its layers correctly.",
        "hostile 39",
    ),
    Rule(
        "layer.zip-broken",
        _W,
        "A jar's directory is broken",
        "Its end record or its list of entries does not hold together; what could be read of it was.",
        "Build or download the jar again.",
        "hostile 99, 102",
    ),
    Rule(
        "layer.zip-entry-broken",
        _W,
        "A jar has an entry that cannot be read",
        "Its bytes are cut, packed in an unknown way, or contradict their checksum.",
        "Build or download the jar again.",
        "hostile 102",
    ),
    Rule(
        "layer.zip-mismatch",
        _W,
        "A jar says one thing in its directory and another in an entry",
        "The JVM follows the directory; other tools, scanners among them, read the entries.",
        "Build the jar again with another tool.",
        "hostile 101",
    ),
    Rule(
        "layer.zip-overlap",
        _W,
        "Entries of a jar share their bytes",
        "No packer writes such a jar: it unpacks to far more than it holds.",
        "Find out where the jar comes from.",
        "hostile 98",
    ),
    Rule(
        "layer.odd",
        _I,
        "Something odd about a layer",
        "It did not stop the reading.",
        "Build the layer again with another tool.",
        "hostile A",
    ),
)  # fmt: skip
