"""The examinations under way, as far as they have come: for the pages that watch them, and for the bytes that are counted.

In memory only; what is running when the daemon dies runs again, and stands here again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import msgspec

from service.metrics import Metrics
from service.sources import ImageSource


class Running(msgspec.Struct, frozen=True):
    """One image being examined."""

    name: str
    platform: str
    layers: int
    layers_known: int
    """Layers whose facts are at hand, those read by now included."""
    done_bytes: int
    total_bytes: int
    """Bytes of the layers being read; 0 where the source does not tell."""
    seconds: float
    """How long it has been running."""


class Meter:
    """Counts what a source gives for one image as it comes, also of readings that fail (service.pipeline.Progress)."""

    def __init__(self, metrics: Metrics, source: str, image: ImageSource) -> None:
        self._metrics = metrics
        self._source = source
        self._image = image
        self._done: dict[int, int] = {}
        self._total: dict[int, int] = {}
        self._known: set[int] = set()
        self._since = time.monotonic()

    def __call__(self, index: int, digest: str, done: int, total: int, state: str) -> None:
        if state != "reading":
            self._known.add(index)
            return
        before = self._done.get(index, 0)
        self._done[index] = done
        self._total[index] = total
        # A second pass over the same layer begins at nothing again.
        self._metrics.add("enoent_streamed_bytes_total", self._source, by=done - before if done >= before else done)

    @property
    def state(self) -> Running:
        sighting = self._image.sighting
        place = f"{sighting.registry}/{sighting.repository}" if sighting.registry else sighting.repository
        return Running(
            name=f"{place}:{sighting.tag}" if sighting.tag else place, platform=str(self._image.platform),
            layers=len(self._image.layers), layers_known=len(self._known), done_bytes=sum(self._done.values()),
            total_bytes=sum(self._total.values()), seconds=round(time.monotonic() - self._since, 1),
        )  # fmt: skip


class Board:
    """Every meter that runs."""

    def __init__(self) -> None:
        self._meters: dict[int, Meter] = {}

    @contextlib.contextmanager
    def metering(self, metrics: Metrics, source: str, image: ImageSource) -> Iterator[Meter]:
        """A meter that stands on the board for as long as the context lasts."""
        meter = Meter(metrics, source, image)
        self._meters[id(meter)] = meter
        try:
            yield meter
        finally:
            del self._meters[id(meter)]

    def running(self) -> tuple[Running, ...]:
        """The longest running first."""
        return tuple(meter.state for meter in self._meters.values())
