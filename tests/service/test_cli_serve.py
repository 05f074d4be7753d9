"""enoent serve and enoent config: flags over environment over file, and settings that are wrong."""

from __future__ import annotations

import json
import re
import signal
import urllib.request

import jsonschema
import pytest

from tests.make.command import Command


def test_serve_takes_flags_environment_and_file_in_that_order(enoent: Command) -> None:
    (enoent.home / "enoent.toml").write_text(
        'demo = true\n[listen]\nport = 1\n[state]\ndir = "from-file"\n[log]\nlevel = "error"\n'
    )
    variables = {"ENOENT_STATE_DIR": "from-environment", "ENOENT_DEMO": "true", "ENOENT_LOG_LEVEL": "warning"}
    process = enoent.process("serve", "--listen-port=0", "--demo", "false", **variables)
    assert process.stdout is not None
    greeting = [process.stdout.readline().decode() for _ in range(3)]
    found = re.search(r"http://\S+/metrics", greeting[-1])
    try:
        assert found is not None, greeting
        with urllib.request.urlopen(found[0], timeout=30) as answer:
            assert b"enoent_build_info" in answer.read()
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert (process.returncode, log) == (0, b"")
    assert (enoent.home / "from-environment").is_dir()
    assert not (enoent.home / "from-file").exists()


@pytest.mark.parametrize(("flags", "complaint"), [
    (["--listen-port", "70000"], "listen.port: Expected `int` <= 65535 (--listen-port)"),
    (["--listen-port"], "--listen-port wants a value"),
    (["--listen-prot", "1"], "no such flag: --listen-prot (did you mean --listen-port?)"),
    (["--listen-address", "0.0.0.0"], "listen.address: 0.0.0.0 is not loopback"),
    (["--registries-host", "x"], "no such flag: --registries-host"),
    (["images"], "no such flag: images"),
])  # fmt: skip
def test_a_wrong_flag_is_named_and_64(enoent: Command, flags: list[str], complaint: str) -> None:
    said = enoent("serve", *flags)
    assert said.status == 64
    assert complaint in said.err


def test_config_check_says_what_is_wrong_before_anything_starts(enoent: Command) -> None:
    assert enoent("config", "check") == (0, "no enoent.toml here; the defaults are fine\n", "")
    (enoent.home / "enoent.toml").write_text("[listen]\nport = 8000\n")
    assert enoent("config", "check") == (0, "enoent.toml: fine\n", "")
    (enoent.home / "other.toml").write_text("[listen]\nprot = 8000\n")
    said = enoent("config", "check", "other.toml")
    assert (said.status, said.out) == (1, "")
    assert "listen.prot: no such setting (did you mean port?)" in said.err
    (enoent.home / "other.toml").write_text('[[tokens]]\nname = "a"\ntoken = { env = "UNSET" }\n')
    assert "tokens[0].token.env: the variable UNSET is not set" in enoent("config", "check", "other.toml").err
    assert enoent("config", "check", env={"ENOENT_LISTEN_PORT": "x"}).status == 1


def test_config_schema_describes_what_the_file_may_say(enoent: Command) -> None:
    said = enoent("config", "schema")
    schema = json.loads(said.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    checker.validate({"listen": {"port": 8000}, "registries": [{"host": "registry.example"}]})
    assert not checker.is_valid({"listen": {"port": 70000}})


def test_a_config_file_may_be_named_by_the_environment(enoent: Command) -> None:
    (enoent.home / "mine.toml").write_text("[workers]\nparallel = -1\n")
    said = enoent("scan", "oci:/nowhere", env={"ENOENT_CONFIG": "mine.toml"})
    assert (said.status, "workers.parallel" in said.err) == (64, True)


def test_the_version_is_that_of_the_package(enoent: Command) -> None:
    assert re.fullmatch(r"enoent \d+\.\d+\.\d+\n", enoent("--version").out)
