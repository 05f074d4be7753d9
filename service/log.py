"""Logging, set up once: structlog to standard error, as JSON lines or for a console; the standard library's records join in.

Events are constants in the form *subject event*, values are keys. What comes from images is made printable here, so that no
name can end a line or colour a terminal (hostile 26, 57). `set_up` may be called again to change level and form.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from analyzers.finding import show
from service.settings import LogSettings

_WHOLE = frozenset({"exception", "stack"})
"""Tracebacks of ours: the only values that have lines."""
_QUIET = ("alembic", "asyncio", "docker", "urllib3")


def set_up(settings: LogSettings, stream: TextIO | None = None) -> None:
    """From now on everything is logged in this form, from this level on."""
    stream = stream or sys.stderr
    level = getattr(logging, settings.level.upper())
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = [printable, structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    if not console:
        last = [structlog.processors.format_exc_info, printable, structlog.processors.JSONRenderer(ensure_ascii=False)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    handler.addFilter(_not_their_fault)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Every value as text without controls; numbers and the like stay."""
    for key, value in event.items():
        if isinstance(value, str) and key not in _WHOLE and not value.isprintable():
            event[key] = show(value.encode("utf-8", "backslashreplace"))
    return event


def _not_their_fault(record: logging.LogRecord) -> bool:
    """A client that does not speak HTTP is answered 400; that is no error of ours and gets no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)
