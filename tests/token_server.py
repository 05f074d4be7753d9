"""A token server for a real registry (distribution's token authentication): signs what a Basic user may have.

`registry_config` is what the registry needs to trust it.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

ISSUER, SERVICE = "token server of the tests", "registry of the tests"


class TokenServer:
    """Who may have tokens, and how long they live."""

    def __init__(self, folder: Path) -> None:
        self.users = {"user": "password"}
        self.identity_tokens: set[str] = set()
        self.seconds = 300
        self.asked: list[dict[str, list[str]]] = []
        """Parameters of every request for a token that was granted."""
        self.refused = 0
        self.url = ""
        self._key = rsa.generate_private_key(65537, 2048)
        self._certificate = _self_signed(self._key)
        self.bundle = folder / "token-server.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def registry_config(self) -> dict[str, Any]:
        """For `tests.registry.started(config=...)`."""
        return {"auth": {"token": {"realm": self.url, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self.bundle)}}}

    def issue(self, scopes: list[str]) -> str:
        """A signed token for these scopes."""
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        der = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {
            "iss": ISSUER, "sub": "user", "aud": SERVICE, "exp": now + self.seconds, "nbf": now - 10, "iat": now - 10,
            "jti": str(time.monotonic_ns()), "access": access,
        }  # fmt: skip
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"

    def may_have(self, authorization: str, form: dict[str, list[str]]) -> bool:
        if form.get("grant_type") == ["refresh_token"]:
            return form.get("refresh_token", [""])[0] in self.identity_tokens
        user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return bool(password) and self.users.get(user) == password


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    return builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())


@contextlib.contextmanager
def started(folder: Path) -> Iterator[TokenServer]:
    """A token server on a free port, in a thread, for as long as the context lasts."""
    tokens = TokenServer(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._grant(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query), {})

        def do_POST(self) -> None:
            form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._grant(form, form)

        def _grant(self, asked: dict[str, list[str]], form: dict[str, list[str]]) -> None:
            granted = tokens.may_have(self.headers.get("Authorization", ""), form)
            if granted:
                tokens.asked.append(asked)
            else:
                tokens.refused += 1
            scopes = " ".join(asked.get("scope", [])).split()
            answer = {"token": tokens.issue(scopes), "expires_in": tokens.seconds} if granted else {"details": "no"}
            body = json.dumps(answer).encode()
            self.send_response(200 if granted else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are told by `asked`."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tokens.url = f"http://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
