"""The reading of the image itself."""

from __future__ import annotations

from analyzers.finding import Severity
from analyzers.rules.rule import Rule

_W = Severity.WARNING

TABLE = (
    Rule(
        "image.not-wholly-read",
        _W,
        "Not everything of the image was seen",
        "A limit or an unreadable part; what was not seen is listed.",
        "Raise the limit named, or make the part readable.",
        "decisions 15",
    ),
    Rule(
        "image.driver-library",
        _W,
        "The image has libraries of the host's graphics driver",
        "They must be those of the kernel module, so container runtimes mount the host's; an image's own fit one driver only.",
        "Install no driver packages in the image; run it with the driver's runtime (--gpus all).",
        "failures 50",
        example="The image has libraries of the host's graphics driver: libcuda.so.535.54.03",
        evidence="sonames of ELF files outside stubs and compat directories",
    ),
)  # fmt: skip
