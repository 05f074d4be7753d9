"""Settings of those who are told of changes; service/settings.py holds them in its tree, service/telling.py does the telling."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.secret import SecretFrom

Kinds = tuple[Literal["fails-now", "fails-otherwise", "verdict-lost", "new-rule", "recovered", "pushed", "appeared"], ...]


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One receiver of changes."""

    url: SecretFrom
    """Where the address is: `{ file = "..." }` or `{ env = "..." }`; it often is a secret itself."""
    name: str = "webhook"
    """Name of the receiver in logs and metrics."""
    form: Literal["slack", "generic"] = "generic"
    """`slack` is understood by Slack, Mattermost, Rocket.Chat and others; `generic` is the change as JSON."""
    on: Kinds = ("fails-now", "fails-otherwise", "verdict-lost", "recovered")
    """Changes that are told."""
    teams: tuple[str, ...] = ()
    """Only images of these teams; empty: of all."""
    insecure: bool = False
    """Allow plain HTTP. Loopback may always use it."""
    key: SecretFrom = SecretFrom()
    """Where the key of the signature is; without one, nothing is signed."""
    tries: Annotated[int, Meta(ge=1, le=20)] = 8
    """How often a receiver that does not answer is asked."""
