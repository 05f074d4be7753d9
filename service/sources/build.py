"""From settings, or from what a person typed, to a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from service.errors import SettingsError, SourceError
from service.outbound import HostPolicy, Outbound
from service.registry.client import TRIES
from service.registry.credentials import credentials_for
from service.registry.reference import Reference
from service.settings import Settings
from service.sources import Sighting, Source
from service.sources.archive import ArchiveSource, IndexArchive
from service.sources.docker_engine import DockerSource
from service.sources.layout import LayoutSource
from service.sources.registry import RegistrySource
from service.sources.settings import (
    BuildkitSettings,
    ContainerdSettings,
    DockerSettings,
    LayoutSettings,
    RegistrySettings,
)

if TYPE_CHECKING:
    from service.sources.contents import Registries

SCAN_TRIES = 2
"""Somebody waits for the answer of a scan; the daemon has more patience."""


def registry_source(settings: RegistrySettings, tries: int = TRIES) -> RegistrySource:
    """A source over one registry. Its own host counts as named by a person, and may be private."""
    policy = HostPolicy((settings.host, *settings.trusted_hosts), (settings.host,) if settings.insecure else ())
    return RegistrySource(settings, Outbound(policy, ca_file=settings.ca_file), tries=tries)


def docker_source(settings: DockerSettings) -> DockerSource:
    """A source over one engine."""
    return DockerSource(settings)


def layout_source(settings: LayoutSettings) -> LayoutSource:
    """A source over a folder of layouts."""
    return LayoutSource(settings)


WatchedSettings = RegistrySettings | DockerSettings | LayoutSettings | BuildkitSettings | ContainerdSettings
Configured = Callable[[], Sequence[RegistrySettings]]
"""The registries that are configured at the moment."""


def _no_registries() -> Sequence[RegistrySettings]:
    return ()


def watched(settings: Settings) -> dict[str, WatchedSettings]:
    """Everything that is to be watched, by the name of its source. Raises SettingsError where two have one name."""
    found: dict[str, WatchedSettings] = {}
    named: list[WatchedSettings] = [*settings.registries, *settings.docker, *settings.layouts, *settings.buildkit]
    for node in settings.containerd:
        named += [_of_namespace(node, namespace) for namespace in node.namespaces]
    for each in named:
        name = each.source_name if isinstance(each, RegistrySettings | LayoutSettings) else each.name
        if name in found:
            raise SettingsError(
                f"registries, docker, layouts, buildkit, containerd: two sources are called {name!r}; give one another name"
            )
        found[name] = each
    return found


def _of_namespace(settings: ContainerdSettings, namespace: str) -> ContainerdSettings:
    """A namespace is a source of its own: one name may be another image in each."""
    return msgspec.structs.replace(settings, name=f"{settings.name}/{namespace}", namespaces=(namespace,))


def is_there(settings: WatchedSettings) -> bool:
    """Whether there is something to watch: an engine or a folder marked `missing_ok` may be absent."""
    if not isinstance(settings, DockerSettings | LayoutSettings):
        return True
    place = settings.socket if isinstance(settings, DockerSettings) else settings.path
    return not settings.missing_ok or Path(place).exists()


async def check_secrets(settings: WatchedSettings) -> None:
    """Raises SettingsError when a password that the configuration names cannot be read (hostile 128)."""
    if isinstance(settings, RegistrySettings) and settings.username:
        await credentials_for(settings)


def make_source(settings: WatchedSettings, configured: Configured = _no_registries) -> Source:
    """The source over what these settings name. What a content store lost is asked of a registry that is configured."""
    match settings:
        case RegistrySettings():
            return registry_source(settings)
        case DockerSettings():
            return docker_source(settings)
        case LayoutSettings():
            return layout_source(settings)
        case BuildkitSettings():
            from service.sources.buildkit import BuildkitSource  # gRPC is for those who use it

            return BuildkitSource(settings, _registries(configured))
        case ContainerdSettings():
            from service.sources.containerd import ContainerdSource

            return ContainerdSource(settings, _registries(configured))


def _registries(configured: Configured) -> Registries:
    from service.sources.contents import Registries

    return Registries(configured, registry_source)


def source_for(
    reference: Reference,
    registries: Sequence[RegistrySettings] = (),
    docker: Sequence[DockerSettings] = (),
    *,
    index_archive: IndexArchive,
) -> tuple[Source, Sighting]:
    """The source that has what a person named, and the sighting to look at there. Raises SourceError."""
    match reference.transport:
        case "registry":
            known = [settings for settings in registries if settings.host == reference.registry]
            settings = known[0] if known else RegistrySettings(host=reference.registry)
            sighting = Sighting("scan", reference.registry, reference.repository, reference.tag, reference.digest)
            return registry_source(settings, SCAN_TRIES), sighting
        case "docker":
            engine = docker_source(docker[0] if docker else DockerSettings())
            return engine, Sighting("scan", "docker", reference.place, "", "")
        case "oci":
            layout = LayoutSource(LayoutSettings(path=reference.place, name="scan"))
            return layout, Sighting("scan", "oci-layout", ".", reference.tag, "")
        case "oci-archive" | "docker-archive":
            archive = ArchiveSource(reference.place, index_archive)
            return archive, Sighting("scan", reference.transport, reference.place, reference.tag, "")
    raise SourceError(f"nothing can read {reference}", temporary=False)
