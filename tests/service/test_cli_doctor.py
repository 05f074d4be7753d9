"""enoent doctor: each thing a daemon needs is looked at, and what is wrong comes with what to do."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import live, write_config
from tests.make.command import Command, Said
from tests.make.images import Image, oci_layout
from tests.make.layers import tar_of
from tests.make.starts import TRUE
from tests.registry import Registry

IMAGE = Image(layers=(tar_of({"bin/app": TRUE}),), cmd=["/bin/app"])


def ask(enoent: Command, *words: str, **settings: Any) -> Said:
    """With these settings and nothing of this machine."""
    return enoent("doctor", "--config", write_config(enoent.home, settings), *words)


def line(said: Said, what: str) -> str:
    """The check of this name with its advice, in one line."""
    found = re.search(rf"^. {re.escape(what)} .*?(?=^[✓✗•]|\n\n)", said.out, re.MULTILINE | re.DOTALL)
    assert found is not None, said.out
    return " ".join(found[0].split())


def test_where_everything_is_in_order_the_doctor_says_so_and_changes_nothing(enoent: Command) -> None:
    folder = oci_layout(enoent.home / "images", {"1.0": IMAGE})
    said = ask(enoent, layouts=[{"path": str(folder)}])
    assert (said.status, said.err) == (0, "")
    assert said.out.endswith("\nall is well\n")
    assert "enoent.toml is sound" in line(said, "configuration")
    assert "can be written" in line(said, "state")
    assert line(said, "workers").startswith("✓ workers confined")
    assert "answers and shows" in line(said, f"layout {folder}")
    assert not (enoent.home / "state").exists()


def test_a_wrong_setting_is_named_with_its_key(enoent: Command) -> None:
    said = ask(enoent, listen={"prot": 1})
    assert said.status == 1
    assert "listen.prot: no such setting (did you mean port?)" in line(said, "configuration")
    assert "→ mend the key" in line(said, "configuration")


def test_a_secret_that_is_not_there_is_named_and_never_shown(enoent: Command) -> None:
    said = ask(enoent, webhooks=[{"name": "chat", "url": {"env": "CHAT_URL"}}])
    assert said.status == 1
    assert "webhooks[0].url.env: the variable CHAT_URL is not set" in line(said, "configuration")


def test_a_state_folder_that_cannot_be_one_is_told(enoent: Command) -> None:
    (enoent.home / "state").write_text("a file")
    said = ask(enoent)
    assert said.status == 1
    assert "✗ state" in said.out
    assert "set state.dir to another" in line(said, "state")


def test_a_damaged_database_is_found_before_the_daemon_meets_it(enoent: Command) -> None:
    (enoent.home / "state").mkdir()
    (enoent.home / "state" / "enoent.sqlite3").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    names = [path.name for path in (enoent.home / "state").iterdir()]
    said = ask(enoent)
    assert said.status == 1
    assert "✗ state" in said.out
    assert [path.name for path in (enoent.home / "state").iterdir()] == names


def test_a_port_that_somebody_else_has_is_told(enoent: Command) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        said = ask(enoent, listen={"port": other.getsockname()[1]})
    assert said.status == 1
    assert "→ set listen.port" in line(said, "listen")


def test_beside_a_running_daemon_its_port_and_folder_are_its_own(enoent: Command, tmp_path: Path) -> None:
    with live(tmp_path / "daemon") as daemon:
        settings = {"state": {"dir": str(tmp_path / "daemon" / "state")}, "listen": {"port": int(daemon.url.rpartition(":")[2])}}
        said = ask(enoent, **settings)
        assert "taken by the daemon that runs" in line(said, "listen")
        assert "a daemon runs on it" in line(said, "state")


def test_sources_that_are_not_reachable_come_with_what_to_do(enoent: Command) -> None:
    said = ask(
        enoent,
        registries=[{"host": "127.0.0.1:1", "name": "dead"}],
        docker=[{"socket": str(enoent.home / "no.sock")}],
        layouts=[{"path": "nowhere"}],
    )
    assert said.status == 1
    assert "✗ registry dead" in said.out
    assert "→ see that the host is up" in line(said, "registry dead")
    assert "→ start the engine" in line(said, "docker docker")
    assert "nowhere is not a folder" in line(said, "layout nowhere")
    assert said.out.endswith("\n3 of 8 need mending\n")


@pytest.mark.registry
def test_a_registry_that_wants_a_password_is_told_apart_from_one_that_has_it(enoent: Command, guarded_registry: Registry) -> None:
    host = guarded_registry.host
    said = ask(enoent, registries=[{"host": host, "name": "guarded"}])
    assert said.status == 1
    assert "none are stored for this host" in line(said, "credentials guarded")
    assert "docker login" in line(said, "registry guarded")
    (enoent.home / "password").write_text("s3cret\n")
    named = {"host": host, "name": "guarded", "username": "ann", "password_file": str(enoent.home / "password")}
    said = ask(enoent, registries=[named])
    assert said.status == 0, said.out
    assert "from the configuration, for ann" in line(said, "credentials guarded")
    assert "s3cret" not in said.out + said.err


def test_programs_get_the_checks_as_json(enoent: Command) -> None:
    said = ask(enoent, "--format", "json", demo=False)
    assert said.status == 1
    assert [check["health"] for check in said.json] == ["good", "good", "good", "good", "bad"]
    assert said.json[-1] == {
        "what": "sources",
        "health": "bad",
        "told": "nothing to watch",
        "todo": "name `[[registries]]`, `[[docker]]` or `[[layouts]]`",
    }


def test_each_hook_is_told_with_its_address_and_without_its_token(enoent: Command) -> None:
    (enoent.home / "hook").write_text("only-the-registry-knows-it\n")
    given = {
        "registries": [{"host": "127.0.0.1:1", "name": "hub"}],
        "hooks": [{"name": "hub", "registry": "hub", "sender": "harbor", "token": {"file": str(enoent.home / "hook")}}],
    }
    said = ask(enoent, **given)
    assert "http://127.0.0.1:" in line(said, "hook hub")
    assert "/hooks/hub with a token; it leads to looks at 127.0.0.1:1; only from this machine" in line(said, "hook hub")
    assert "only-the-registry-knows-it" not in said.out
    said = ask(enoent, **given, listen={"public_url": "https://enoent.example/"})
    assert "✓ hook hub" in said.out
    assert "https://enoent.example/hooks/hub" in line(said, "hook hub")
    said = ask(enoent, **{**given, "registries": []})
    assert "hooks[0].registry: 'hub' is no source" in line(said, "configuration")
