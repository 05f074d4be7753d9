"""When a host may be asked again: after it asked for peace (Retry-After), and after it failed several times in a row.

Both belong to the host, not to a request, so that no task asks what another was refused (hostile 59, 70). Of the tasks that
wait for a broken host one goes first; the others follow only when it was answered.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping

from service.errors import SourceError

RETRY_AFTER_LONGEST = 3600.0
RETRY_AFTER_UNSTATED = 1.0
BREAKER_FAILURES = 5
BREAKER_SECONDS = 60.0


class Patience:
    """Of one host; `clock` is monotonic."""

    def __init__(self, host: str, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._failures = 0
        self._broken_until = 0.0
        self._asked_until = 0.0

    @property
    def left(self) -> float:
        """Seconds until the host may be asked; 0 when it may be."""
        left = max(self._broken_until, self._asked_until) - self._clock()
        return left if left > 0.001 else 0.0

    @property
    def broken(self) -> bool:
        """Whether it failed so often that nobody asks but one."""
        return self._failures >= BREAKER_FAILURES

    def begin(self) -> None:
        """A request goes out. To a broken host it is the only one for a while."""
        if self.broken:
            self._broken_until = self._clock() + BREAKER_SECONDS

    def answered(self) -> None:
        self._failures = 0
        self._broken_until = 0.0

    def failed(self) -> None:
        self._failures += 1
        if self.broken:
            self._broken_until = self._clock() + BREAKER_SECONDS

    def asked_for(self, seconds: float) -> None:
        """The host wants to be left in peace so long; a longer wish stands."""
        self._asked_until = max(self._asked_until, self._clock() + seconds)

    def refusal(self) -> SourceError:
        """What a task is told that may not ask now."""
        asked = self._asked_until > self._broken_until
        why = "asked for it" if asked else "failed too often"
        return SourceError(
            f"{self._host} is left in peace for {self.left:.0f} s more: it {why}",
            code="rate-limited" if asked else "unreachable",
            retry_after=self.left,
        )


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, a number or a date; clipped to an hour, 1 where it says nothing usable.

    A date is held against the date of the same answer, because clocks differ.
    """
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        when = _timestamp(value)
        now = _timestamp(headers.get("Date", ""))
        seconds = float("nan") if when is None else when - (time.time() if now is None else now)
    return min(max(seconds, 0.0), RETRY_AFTER_LONGEST) if seconds == seconds else RETRY_AFTER_UNSTATED


def _timestamp(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
