"""A secret that cannot be shown by accident, and the two ways it may enter: a file or an environment variable.

The value never stands in the configuration file, in a log, in an exception or in what a worker process gets.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

import msgspec

from service.errors import SettingsError

MAX_SECRET_BYTES = 64 << 10


class Secret:
    """Text whose repr is redacted; only `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(redacted)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")

    @property
    def sha256(self) -> str:
        """Hex digest, for comparing and for storing in place of the value."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def reveal(self) -> str:
        """The value itself, for the one place that sends it."""
        return self._text


class SecretFrom(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a secret comes from: exactly one of a file and an environment variable."""

    file: str = ""
    """Path of a file whose whole content, without its last line break, is the secret."""
    env: str = ""
    """Name of the environment variable that holds the secret."""

    def read(self, env: Mapping[str, str], key: str) -> Secret:
        """Raises SettingsError naming `key` and the file or variable, never the value."""
        if bool(self.file) == bool(self.env):
            raise SettingsError(f"{key}: give either `file` or `env`")
        if self.env:
            if not env.get(self.env):
                raise SettingsError(f"{key}.env: the variable {self.env} is not set")
            return Secret(env[self.env])
        try:
            with Path(self.file).expanduser().open("rb") as file:
                raw = file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise SettingsError(f"{key}.file: {self.file}: {error.strerror}") from error
        if len(raw) > MAX_SECRET_BYTES:
            raise SettingsError(f"{key}.file: {self.file} is larger than {MAX_SECRET_BYTES} bytes")
        try:
            text = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise SettingsError(f"{key}.file: {self.file} is not UTF-8 text") from None
        if not text:
            raise SettingsError(f"{key}.file: {self.file} is empty")
        return Secret(text)


def token_in(header: str) -> str:
    """The token in `Bearer TOKEN` or, as the password, in `Basic ...`; empty where there is neither."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
