"""Settings of the places images come from; service/settings.py holds them in its tree."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]


class RegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One registry to watch."""

    host: str
    """Host and port as in image names, such as `registry.example:5000` or `docker.io`."""
    name: str = ""
    """Name of this source in metrics and pages; empty: the host."""
    repositories: tuple[str, ...] = ()
    """Repositories to watch; empty: all that the catalog lists."""
    tags: tuple[str, ...] = ("*",)
    """Shell patterns of the tags to watch."""
    poll_seconds: Seconds = 900.0
    """Pause between two listings; each asks for digests only (HEAD)."""
    insecure: bool = False
    """Allow plain HTTP. Loopback may always use it."""
    ca_file: str = ""
    """PEM file of authorities to trust for this registry besides those of the machine."""
    trusted_hosts: tuple[str, ...] = ()
    """Other hosts of this registry: they may lie in private ranges, and may be given its credentials to issue a token."""
    username: str = ""
    """User name; empty: the credentials of Docker's config.json and its helpers."""
    password_file: str = ""
    """File that holds the password of `username`."""

    @property
    def source_name(self) -> str:
        return self.name or self.host


class DockerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Docker engine to watch. Its socket is equal to root on that machine; only GET requests are made."""

    socket: str = "/var/run/docker.sock"
    """Path of the engine's unix socket."""
    name: str = "docker"
    """Name of this source in metrics and pages."""
    poll_seconds: Seconds = 300.0
    """Pause between two full listings, which heal lost events."""
    missing_ok: bool = False
    """Without the socket there is nothing to watch, instead of a source that fails."""


class LayoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder with OCI image layouts in it, or one layout itself."""

    path: str = "images"
    """The folder."""
    name: str = ""
    """Name of this source in metrics and pages; empty: the path."""
    poll_seconds: Seconds = 2.0
    """Pause between two looks at each index.json."""
    missing_ok: bool = False
    """Without the folder there is nothing to watch, instead of a source that fails."""

    @property
    def source_name(self) -> str:
        return self.name or self.path


class BuildkitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One standalone BuildKit whose builds are watched. Its socket is equal to root; it is only listened to and read from."""

    address: str = "unix:///run/buildkit/buildkitd.sock"
    """`unix:///path` or `tcp://host:port`."""
    name: str = "buildkit"
    """Name of this source in metrics and pages."""
    poll_seconds: Seconds = 60.0
    """Pause between two listings of the whole history, which heal lost events."""
    ca: str = ""
    """PEM file of the authority that signed the certificate of a TCP address."""
    cert: str = ""
    """PEM file of the certificate shown to it."""
    key: str = ""
    """PEM file of that certificate's key."""
    server_name: str = ""
    """Name in its certificate; empty: the host of the address."""
    insecure: bool = False
    """Allow plain TCP. Loopback may always use it."""


class ContainerdSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One containerd to watch. Its socket is equal to root; it is only listened to and read from."""

    address: str = "unix:///run/containerd/containerd.sock"
    """`unix:///path` of its socket."""
    name: str = "containerd"
    """Name of its sources in metrics and pages, one a namespace: `containerd/k8s.io`."""
    namespaces: tuple[str, ...] = ("k8s.io", "default", "moby", "buildkit")
    """Namespaces to watch."""
    poll_seconds: Seconds = 300.0
    """Pause between two full listings, which heal lost events."""
