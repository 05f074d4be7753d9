"""Digests, descriptors, indexes, manifests, image configs and platforms, and their strict parsing.

Words as in the OCI image specification: a *digest* names bytes as transported, a *diff ID* the
uncompressed tar of a layer, the *image ID* is the digest of the config.
"""

from __future__ import annotations

import re

import msgspec

from analyzers.errors import Malformed

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """`algorithm:hex`, checked at birth (sha256 and sha512 only; hostile.md 48)."""

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        if not _DIGEST.fullmatch(text):
            raise Malformed(f"not a sha256 or sha512 digest: {text[:100]!r}")
        return super().__new__(cls, text)

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """os/architecture[/variant], normalised as containerd does (A5)."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Healthcheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """HEALTHCHECK: `test` is empty, ("NONE",), ("CMD", ...) or ("CMD-SHELL", text)."""

    test: tuple[str, ...] = ()


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of an image config that a verdict or a page needs."""

    platform: Platform = Platform()
    entrypoint: tuple[str, ...] | None = None
    """None when unset; `("",)` is kept as written (C2)."""
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    shell: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    stop_signal: str = ""
    labels: dict[str, str] = {}
    diff_ids: tuple[str, ...] = ()
    history: tuple[tuple[str, bool], ...] = ()
    """(created_by, empty_layer) in order."""
    created: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    """(code, detail) of oddities that become findings, such as `config-mismatch`."""
