"""The service's branch of the exception tree; each class knows whether trying again can help."""

from __future__ import annotations

from analyzers.errors import EnoentError


class ServiceError(EnoentError):
    """Something outside the analysis went wrong. `temporary` says whether to try again."""

    temporary = False


class SettingsError(ServiceError):
    """A setting is wrong; the message names its key."""


class SourceError(ServiceError):
    """A place where images come from does not do its part."""

    def __init__(self, message: str, *, temporary: bool = True, code: str = "unreachable", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.code = code
        """A stable word: unreachable, unauthorized, denied, not-found, tls, slow, digest-mismatch, rate-limited, ..."""
        self.retry_after = retry_after
        """Seconds the other side asked us to wait; 0 when it did not."""


class NotAnImage(SourceError):
    """The manifest is an artifact (signature, SBOM, chart, attestation): recorded, never tried again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=False, code="not-an-image")


class WorkerDied(ServiceError):
    """A worker process ended while it held a request. `reason`: memory, cpu, deadline, signal-N, exit-N."""

    temporary = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"worker died: {reason}")
        self.reason = reason


class StoreError(ServiceError):
    """The state database cannot be used as it is."""


class StoreBusy(StoreError):
    """Another process holds the state database; it is asked again."""

    temporary = True


class StoreFull(StoreError):
    """The disk has no room, or cannot be written to; work waits until it can."""

    temporary = True
