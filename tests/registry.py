"""A real registry for tests: Debian's docker-registry on a free port of this machine, in a folder of its own.

It knows nothing of what is tested. Content comes by the distribution API itself (three HTTP calls), so no other tool is
needed. What a client asked for is read from the registry's own access log.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt

from tests.make.images import INDEX, MANIFEST, Image, index_of, manifest_of
from tests.make.layers import sha256

START_SECONDS = 30.0
PORTS_TRIED = 5
"""A port that was free may be taken by another test process before the registry has it."""
_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>[0-9]{3}) ')


class RegistryAbsent(Exception):
    """No registry can be started here; the text says why."""


class Request(NamedTuple):
    """One line of the access log."""

    method: str
    path: str
    status: int


class Registry:
    """A running registry: where it listens, how to fill it, and what it was asked for."""

    def __init__(self, host: str, folder: Path, credentials: tuple[str, str] | None = None) -> None:
        self.host = host
        """Host and port, as in image names."""
        self.folder = folder
        """Its files lie below `data`, as the registry's filesystem driver puts them."""
        self.credentials = credentials

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> tuple[int, dict[str, str], bytes]:
        """One call: status, headers (names in lower case) and body. `path` may be absolute, as in a Location."""
        connection = http.client.HTTPConnection(self.host, timeout=timeout)
        sent = dict(headers or {})
        if self.credentials is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
        parts = urllib.parse.urlsplit(path)
        try:
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def push(self, name: str, image: Image | Sequence[Image], compression: str = "gzip") -> str:
        """Pushes `repository:tag`; several images become an index of their platforms. Gives the digest of what the tag names."""
        repository, _, tag = name.rpartition(":")
        if isinstance(image, Image):
            return self.push_manifest(repository, tag, self._push_blobs(repository, image, compression))
        children = {}
        for each in image:
            children[each.platform] = self._push_blobs(repository, each, compression)
            self.push_manifest(repository, sha256(children[each.platform]), children[each.platform])
        return self.push_manifest(repository, tag, index_of(children), INDEX)

    def _push_blobs(self, repository: str, image: Image, compression: str) -> bytes:
        manifest, blobs = manifest_of(image, compression)
        for blob in blobs:
            self.push_blob(repository, blob.data)
        return manifest

    def push_blob(self, repository: str, data: bytes) -> str:
        """Uploads a blob unless the repository has it; gives its digest."""
        digest = sha256(data)
        if self.request("HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200:
            return digest
        status, headers, answer = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        _expect(202, status, answer)
        where = headers["location"]
        where += ("&" if "?" in where else "?") + f"digest={digest}"
        status, _, answer = self.request("PUT", where, data, {"Content-Type": "application/octet-stream"})
        _expect(201, status, answer)
        return digest

    def push_manifest(self, repository: str, reference: str, body: bytes, media_type: str = MANIFEST) -> str:
        """Puts a manifest under a tag or its own digest; its blobs must be there. Gives its digest."""
        status, _, answer = self.request("PUT", f"/v2/{repository}/manifests/{reference}", body, {"Content-Type": media_type})
        _expect(201, status, answer)
        return sha256(body)

    def delete(self, repository: str, digest: str) -> None:
        """Deletes a manifest, and with it every tag that names it."""
        status, _, answer = self.request("DELETE", f"/v2/{repository}/manifests/{digest}")
        _expect(202, status, answer)

    def blob_path(self, digest: str) -> Path:
        """The file that holds a blob, for tests that spoil it."""
        name = digest.removeprefix("sha256:")
        return self.folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    @property
    def log(self) -> str:
        """Everything it wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    def requests(self, method: str = "", part: str = "") -> list[Request]:
        """What it was asked for and has answered, oldest first: of that method, with `part` in the path."""
        found = (Request(row["method"], row["path"], int(row["status"])) for row in _ACCESS.finditer(self.log))
        return [each for each in found if (not method or each.method == method) and part in each.path]


def _expect(wanted: int, status: int, answer: bytes) -> None:
    if status != wanted:
        raise RuntimeError(f"the registry answered {status}: {answer[:500]!r}")


def why_absent() -> str:
    """Why a registry cannot be started here; empty when it can."""
    return "" if shutil.which("docker-registry") else "docker-registry is not installed: run tests/setup/debian.sh"


def htpasswd(credentials: tuple[str, str]) -> str:
    """One line of an htpasswd file, at the lowest cost that bcrypt has."""
    name, password = credentials
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(credentials: tuple[str, str] | None = None, config: Mapping[str, Any] | None = None) -> Iterator[Registry]:
    """A registry for as long as the context lasts. RegistryAbsent when there can be none.

    `credentials`: user name and password that it asks for. `config` is laid over its configuration, one level deep
    (`{"proxy": ...}`, `{"auth": {"token": ...}}`, `{"notifications": ...}`).
    """
    if reason := why_absent():
        raise RegistryAbsent(reason)
    folder = Path(tempfile.mkdtemp(prefix="registry-"))
    try:
        for _ in range(PORTS_TRIED):
            port = free_port()
            process = _start(folder, port, credentials, config or {})
            try:
                if _comes_up(process, port):
                    yield Registry(f"127.0.0.1:{port}", folder, credentials)
                    return
            finally:
                _stop(process)
            if "address already in use" not in (folder / "log").read_text(errors="replace"):
                break
        raise RegistryAbsent("docker-registry did not start: " + (folder / "log").read_text(errors="replace")[-2000:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, port: int, credentials: tuple[str, str] | None, config: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": f"{folder}/data"}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if credentials is not None:
        (folder / "htpasswd").write_text(htpasswd(credentials))
        settings["auth"] = {"htpasswd": {"realm": "test", "path": f"{folder}/htpasswd"}}
    for key, value in config.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, Mapping) else value
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(settings))
    command = ["docker-registry", "serve", f"{folder}/config.yml"]
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "TERM", *command]
    # Nothing of the caller's environment but PATH: REGISTRY_... variables would change the configuration.
    environment = {"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def _comes_up(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(f"127.0.0.1:{port}", timeout=5)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().getheader("Docker-Distribution-Api-Version") == "registry/2.0":
                # Another process may listen on a port that this one was refused.
                return process.poll() is None
        except (OSError, http.client.HTTPException):
            pass  # not yet
        finally:
            connection.close()
        time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
