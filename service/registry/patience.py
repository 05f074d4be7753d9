"""When a host may be asked again: after it asked for peace (Retry-After), and after it failed several times in a row.

Both belong to the host, not to a request, so that no task asks what another was refused (hostile 59, 70). Of the tasks that
wait for a broken host one goes first; the others follow only when it was answered.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Mapping

from service.errors import SourceError

RETRY_AFTER_LONGEST = 3600.0
RETRY_AFTER_UNSTATED = 1.0
EPOCH_SECONDS = 1e9
"""A reset beyond this is a point in time and no pause."""
_QUOTA = re.compile(r"\s*(\d{1,12})(?:\s*[;,]\s*w=(\d{1,12}))?")
_FIELD = re.compile(r"(limit|remaining|reset)\s*=\s*(\d{1,12})", re.IGNORECASE)
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
        self._spared_until = 0.0

    @property
    def left(self) -> float:
        """Seconds until the host may be asked; 0 when it may be."""
        return self.left_for(spares=False)

    def left_for(self, *, spares: bool) -> float:
        """The same for what may count against a quota (`spares`) or does not."""
        until = max(self._broken_until, self._asked_until, self._spared_until if spares else 0.0)
        left = until - self._clock()
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

    def note_quota(self, headers: Mapping[str, str], reserve: float) -> None:
        """The host says how much of its quota is left. Below the share `reserve` nothing more is polled until some came back."""
        stated = quota(headers)
        if stated is None:
            return
        limit, remaining, seconds = stated
        if remaining >= reserve * limit:
            self._spared_until = 0.0
        else:
            self._spared_until = max(self._spared_until, self._clock() + min(seconds, RETRY_AFTER_LONGEST))

    def refusal(self, *, spares: bool = False) -> SourceError:
        """What a task is told that may not ask now."""
        left = self.left_for(spares=spares)
        spared = self._spared_until if spares else 0.0
        if spared > max(self._asked_until, self._broken_until):
            code, why = "rate-limited", "little of its quota is left"
        elif self._asked_until > self._broken_until:
            code, why = "rate-limited", "it asked for it"
        else:
            code, why = "unreachable", "it failed too often"
        return SourceError(f"{self._host} is left in peace for {left:.0f} s more: {why}", code=code, retry_after=left)


def quota(headers: Mapping[str, str]) -> tuple[float, float, float] | None:
    """Limit, what remains of it, and seconds until some of it is back, as RateLimit headers state them; None where they do not.

    Docker Hub writes `ratelimit-limit: 100;w=21600` and no time: the reserve is refilled as the window slides on, so a tenth
    of the window is waited. Others write RateLimit-Reset, in seconds or (X-RateLimit-Reset) since the epoch, or one RateLimit.
    """
    for prefix in ("RateLimit-", "X-RateLimit-"):
        limit = _QUOTA.match(headers.get(f"{prefix}Limit", ""))
        remaining = _QUOTA.match(headers.get(f"{prefix}Remaining", ""))
        if limit and remaining:
            return float(limit[1]), float(remaining[1]), _reset(headers, headers.get(f"{prefix}Reset", ""), limit[2])
    fields = {name.lower(): value for name, value in _FIELD.findall(headers.get("RateLimit", ""))}
    if "limit" in fields and "remaining" in fields:
        return float(fields["limit"]), float(fields["remaining"]), float(fields.get("reset", RETRY_AFTER_UNSTATED))
    return None


def _reset(headers: Mapping[str, str], stated: str, window: str | None) -> float:
    found = _QUOTA.match(stated)
    if found is None:
        return float(window) / 10 if window else RETRY_AFTER_UNSTATED
    seconds = float(found[1])
    if seconds > EPOCH_SECONDS:
        seconds -= _timestamp(headers.get("Date", "")) or time.time()
    return max(seconds, RETRY_AFTER_UNSTATED)


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
