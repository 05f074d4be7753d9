"""Predictions by the product's own path: blobs as a registry has them, the layer reader, the stored form, the judges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from analyzers.archive import ArchiveReader
from analyzers.facts import LayerFacts
from analyzers.finding import Report
from analyzers.judges import judge_image
from analyzers.layer import LayerReader
from analyzers.oci import parse_config
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, Overrides, foretell_start
from analyzers.wire import pack, unpack
from tests.make.images import Image
from tests.make.layers import blob, sha256

_CHUNK = 1 << 16
_PT_LOAD = 1
_COMPRESSIONS = ("plain", "gzip", "zstd")


class Foreteller:
    """Judges images; each layer is read once and kept in its stored form, as the daemon keeps it."""

    def __init__(self) -> None:
        self._facts: dict[str, LayerFacts] = {}

    def image(self, image: Image, profile: HostProfile, overrides: Overrides) -> Report:
        """Of an image made by hand."""
        layers = [self._layer(tar) for tar in image.layers]
        return self._judge(image.config(), layers, profile, overrides)

    def program(self, image: Image, profile: HostProfile) -> tuple[str, int] | None:
        """Path of the program that such an image is foretold to run, and where in the file its entry point lies."""
        rootfs = Rootfs([self._layer(tar) for tar in image.layers])
        executed = foretell_start(rootfs, parse_config(image.config()), profile, NO_OVERRIDES).execution
        if executed is None or executed.program is None:
            return None
        facts = rootfs.elf(executed.program)
        if facts is None:
            return None
        for each in facts.segments:
            if each.type == _PT_LOAD and each.vaddr <= facts.entry < each.vaddr + each.filesz:
                return executed.program.path.decode(), facts.entry - each.vaddr + each.offset
        return None

    def saved(self, archive: bytes, asked: Mapping[str, tuple[HostProfile, Overrides]]) -> dict[str, Report]:
        """Of images in a `docker save` archive, by tag."""
        reader = ArchiveReader()
        for at in range(0, len(archive), _CHUNK):
            reader.feed(memoryview(archive)[at : at + _CHUNK])
        found = reader.finish()
        reports = {}
        for entry in json.loads(found.documents["manifest.json"]):
            layers = []
            for name in entry["Layers"]:
                facts = found.layers[found.links.get(name, name)]
                assert isinstance(facts, LayerFacts), facts
                layers.append(_stored(facts))
            for tag in entry["RepoTags"] or ():
                if tag in asked:
                    reports[tag] = self._judge(found.documents[entry["Config"]], layers, *asked[tag])
        return reports

    def _layer(self, tar: bytes) -> LayerFacts:
        diff_id = sha256(tar)
        if diff_id not in self._facts:
            # Each form of transport has its turn; which one is settled by the content, so that runs are alike.
            reader = LayerReader()
            data = blob(tar, _COMPRESSIONS[int(diff_id[-1], 16) % 3]).data
            for at in range(0, len(data), _CHUNK):
                reader.feed(memoryview(data)[at : at + _CHUNK])
            facts = reader.finish()
            assert facts.diff_id == diff_id
            assert not reader.missed, reader.missed
            self._facts[diff_id] = _stored(facts)
        return self._facts[diff_id]

    @staticmethod
    def _judge(config: bytes, layers: Sequence[LayerFacts], profile: HostProfile, overrides: Overrides) -> Report:
        return judge_image(sha256(config), parse_config(config), layers, profile=profile, overrides=overrides)


def _stored(facts: LayerFacts) -> LayerFacts:
    return unpack({section.name: section.chunks for section in pack(facts)})
