"""Credentials: from the settings, Docker's config.json and its helpers, for exactly the host they are stored for (hostile 63)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import traceback
from pathlib import Path

import pytest

from service.errors import SettingsError, SourceError
from service.registry import credentials as credentials_module
from service.registry.credentials import credentials_for
from service.sources.settings import RegistrySettings


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for config.json and for helpers, which are on PATH."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "config.json"


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def helper(folder: Path, name: str, script: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


async def credentials_of(host: str) -> tuple[str, str, str]:
    found = await credentials_for(RegistrySettings(host=host))
    return found.username, found.password, found.identity_token


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("registry.test:5000", "registry.test:5000"),
        ("registry.test:5000", "https://registry.test:5000/v2/"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io"),
    ],
)
async def test_credentials_come_from_docker_s_config(docker_config: Path, host: str, key: str) -> None:
    docker_config.write_text(json.dumps({"auths": {key: {"auth": basic("u", "p:q")}}}))
    assert await credentials_of(host) == ("u", "p:q", "")


async def test_an_identity_token_or_a_name_and_password_apart_are_credentials_too(docker_config: Path) -> None:
    entries = {"a.test": {"auth": basic("u", ""), "identitytoken": "I"}, "b.test": {"username": "u", "password": "p"}}
    docker_config.write_text(json.dumps({"auths": entries}))
    assert await credentials_of("a.test") == ("", "", "I")
    assert await credentials_of("b.test") == ("u", "p", "")


@pytest.mark.parametrize(
    "host", ["registry.test", "registry.test:5001", "evil-registry.test:5000", "registry.test:5000.evil.test", "test:5000"]
)
async def test_h063_credentials_belong_to_exactly_one_host_and_port(docker_config: Path, host: str) -> None:
    docker_config.write_text(
        json.dumps({"auths": {"registry.test:5000": {"auth": basic("u", "p")}}, "credHelpers": {"x.test": "x"}})
    )
    assert await credentials_of(host) == ("", "", "")


async def test_a_broken_entry_of_another_host_does_not_matter_and_ours_is_told_without_its_text(docker_config: Path) -> None:
    entries = {"a.test": {"auth": "PLANTED!"}, "b.test": {"auth": basic("u", "p")}, "c.test": 7}
    docker_config.write_text(json.dumps({"auths": entries}))
    assert await credentials_of("b.test") == ("u", "p", "")
    assert await credentials_of("c.test") == ("", "", "")
    with pytest.raises(SourceError) as failure:
        await credentials_of("a.test")
    assert "a.test" in str(failure.value)
    assert "PLANTED" not in "".join(traceback.format_exception(failure.value))


async def test_a_config_that_is_no_json_is_an_error_and_not_silence(docker_config: Path) -> None:
    for text in ('{"auths": {"a.test": {"auth": "PLANTED"', "[]"):
        docker_config.write_text(text)
        with pytest.raises(SourceError) as failure:
            await credentials_of("a.test")
        assert failure.value.temporary
        assert "PLANTED" not in "".join(traceback.format_exception(failure.value))


async def test_without_a_config_there_are_no_credentials(docker_config: Path) -> None:
    assert await credentials_of("registry.test") == ("", "", "")


async def test_a_helper_is_asked_for_the_host_it_is_named_for(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"credHelpers": {"a.test:5000": "one"}, "credsStore": "two"}))
    for name in ("one", "two"):
        helper(docker_config.parent, name, f'read host; echo "{{\\"Username\\":\\"{name}\\",\\"Secret\\":\\"$1 $host\\"}}"')
    assert await credentials_of("a.test:5000") == ("one", "get a.test:5000", "")
    assert await credentials_of("b.test") == ("two", "get b.test", "")
    assert await credentials_of("docker.io") == ("two", "get https://index.docker.io/v1/", "")


async def test_a_helper_may_give_an_identity_token_or_know_nothing(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"auths": {"a.test": {"auth": basic("u", "p")}}, "credsStore": "x"}))
    helper(docker_config.parent, "x", 'echo \'{"Username":"<token>","Secret":"I"}\'')
    assert await credentials_of("a.test") == ("", "", "I")
    helper(docker_config.parent, "x", "echo credentials not found in native keychain; exit 1")
    assert await credentials_of("a.test") == ("u", "p", "")


@pytest.mark.parametrize("script", ["echo PLANTED", "echo '[\"PLANTED\"]'", 'echo \'{"Username":"PLANTED"}\'', ":"])
async def test_a_helper_that_talks_nonsense_is_named_and_not_quoted(docker_config: Path, script: str) -> None:
    docker_config.write_text(json.dumps({"credsStore": "x"}))
    helper(docker_config.parent, "x", script)
    with pytest.raises(SourceError, match="docker-credential-x") as failure:
        await credentials_of("a.test")
    assert "PLANTED" not in "".join(traceback.format_exception(failure.value))


async def test_a_helper_that_hangs_is_ended_with_its_children(docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_module, "HELPER_SECONDS", 1.5)
    docker_config.write_text(json.dumps({"credsStore": "x"}))
    pids = docker_config.parent / "pids"
    helper(docker_config.parent, "x", f"sleep 100 & echo $! $$ >{pids}; wait")
    with pytest.raises(SourceError, match="does not answer"):
        await credentials_of("a.test")
    for pid in pids.read_text().split():
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split():
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("still running")


@pytest.mark.parametrize("name", ["absent", "../../bin/x"])
async def test_a_helper_that_is_not_there_is_told(docker_config: Path, name: str) -> None:
    docker_config.write_text(json.dumps({"credsStore": name}))
    with pytest.raises(SourceError, match="not on PATH"):
        await credentials_of("a.test")


async def test_a_password_file_is_read_and_its_absence_named(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    named = RegistrySettings(host="a.test", username="u", password_file=str(tmp_path / "password"))
    assert (await credentials_for(named)).password == "secret"
    for settings in (
        RegistrySettings(host="a.test", username="u"),
        RegistrySettings(host="a.test", username="u", password_file="/no"),
    ):
        with pytest.raises(SettingsError, match="a.test"):
            await credentials_for(settings)
