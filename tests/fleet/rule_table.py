"""The whole fleet, which of its images shows which rule, and what is known to be foretold otherwise than it is.

The images of tests/make/starts.py count too: they are run by tests/oracle/test_start_docker.py.
"""

from __future__ import annotations

import re
from collections import defaultdict

from tests.fleet import built_images, glibc_images, java_images, layer_images, musl_images, scenario_images
from tests.fleet.image import FleetImage
from tests.make.starts import CASES

IMAGES: tuple[FleetImage, ...] = (
    *scenario_images.IMAGES,
    *layer_images.IMAGES,
    *glibc_images.IMAGES,
    *musl_images.IMAGES,
    *built_images.IMAGES,
    *java_images.IMAGES,
)
WANTED = (
    *(f"C{number}" for number in range(1, 24)),
    *(f"K{number}" for number in range(1, 24)),
    *("S1", "S1b", "S2", "S2b", "S3", "S3b", "S4", "S4b", "S5", "S5b", "S6", "S6b"),
)
ELSEWHERE = {
    "C7": "containerd's client, not Docker: tests/fleet/test_containerd.py",
    "C23": "containerd's client, not Docker: tests/fleet/test_containerd.py",
    "C14": "crun in place of runc: no profile says it yet, and Debian's crun (1.8.1) refuses what Docker 26 asks of a runtime",
}
"""Rules of another runtime than Docker's, and where they are held to."""
EXCEPTIONS: dict[str, str] = {}
"""Images, by id, whose prediction is known to depart, with the rule and the reason. At most one in a hundred."""


def images_by_rule() -> dict[str, list[str]]:
    """Ids of images by rule id."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for image in IMAGES:
        for rule in image.rules:
            found[rule].append(image.id)
    for case in CASES:
        for letter, number in re.findall(r"(?:^|_)([ck])(\d\d)(?=_)", case.id):
            found[f"{letter.upper()}{int(number)}"].append(case.id)
    return dict(found)
