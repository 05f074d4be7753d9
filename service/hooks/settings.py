"""Settings of those who tell us of pushes; service/settings.py holds them in its tree."""

from __future__ import annotations

from typing import Literal

import msgspec

from service.secret import SecretFrom

SenderName = Literal[
    "distribution", "gitlab", "harbor", "dockerhub", "github", "quay", "ecr", "google", "acr", "zot", "artifactory"
]  # fmt: skip


class HookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address at which a registry tells of pushes: POST /hooks/NAME, or /hooks/NAME/TOKEN for who can send no header."""

    name: str
    """Last part of the address, in lower case letters, digits and dashes."""
    registry: str
    """The one source of `registries` that may be looked at, by its `name` or `host`, whatever a body says."""
    sender: SenderName = "distribution"
    """Whose notifications these are; `gitlab` is the registry of a self-managed GitLab, `google` is Artifact Registry and GCR."""
    token: SecretFrom = SecretFrom()
    """Where the token is that the sender shows: in Authorization, or as the last part of the address."""
    key: SecretFrom = SecretFrom()
    """Where the key of its signature is (HMAC-SHA256 over the body); only `github` signs."""
    called: tuple[str, ...] = ()
    """Other hosts under which the sender speaks of this registry; what it tells of any further host is refused."""
    pulls: bool = False
    """Take pulls by others as hints too: a pull-through cache of distribution tells of nothing else."""
