"""From settings, or from what a person typed, to a source."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import SourceError
from service.outbound import HostPolicy, Outbound
from service.registry.reference import Reference
from service.sources import Sighting, Source
from service.sources.archive import ArchiveSource, IndexArchive
from service.sources.docker_engine import DockerSource
from service.sources.layout import LayoutSource
from service.sources.registry import RegistrySource
from service.sources.settings import DockerSettings, LayoutSettings, RegistrySettings


def registry_source(settings: RegistrySettings) -> RegistrySource:
    """A source over one registry. Its own host counts as named by a person, and may be private."""
    policy = HostPolicy((settings.host, *settings.trusted_hosts), (settings.host,) if settings.insecure else ())
    return RegistrySource(settings, Outbound(policy, ca_file=settings.ca_file))


def docker_source(settings: DockerSettings) -> DockerSource:
    """A source over one engine."""
    return DockerSource(settings)


def layout_source(settings: LayoutSettings) -> LayoutSource:
    """A source over a folder of layouts."""
    return LayoutSource(settings)


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
            return registry_source(settings), sighting
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
