"""Settings: every message names its key, every key is documented, and no secret is ever shown."""

from __future__ import annotations

import ast
import inspect
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import service.settings
from service.errors import SettingsError
from service.secret import Secret, SecretFrom
from service.settings import Settings, described, load_settings, read_tokens
from tests.make.example import EXAMPLE, example


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "enoent.toml"
    path.write_text(text)
    return path


def test_nothing_need_be_set() -> None:
    assert load_settings(None, {}) == Settings()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[listen]\nport = 1\n[state]\ndir = 'file'\n[log]\nlevel = 'debug'\n")
    env = {"ENOENT_LISTEN_PORT": "2", "ENOENT_STATE_DIR": "env", "ENOENT_PLATFORMS": "linux/amd64, linux/arm64", "HOME": "/"}
    settings = load_settings(path, env, {"listen.port": 3})
    assert (settings.listen.port, settings.state.dir, settings.log.level) == (3, "env", "debug")
    assert settings.platforms == ("linux/amd64", "linux/arm64")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listen]\nprot = 1", "listen.prot: no such setting (did you mean port?)"),
        ("[listen]\nport = 'many'", "listen.port: "),
        ("[listen]\nport = 70000", "listen.port: "),
        ("[workers]\nparallel = -1", "workers.parallel: "),
        ("[[tokens]]\nname = 'ci'\nscope = ['read']", "tokens[0].scope: no such setting (did you mean scopes?)"),
        ("[listen]\naddress = '0.0.0.0'", "listen.address: 0.0.0.0 is not loopback"),
        ("platforms = ['linux']", "platforms"),
        ("nonsense", "not TOML"),
    ],
)
def test_h128_a_wrong_setting_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refusal:
        load_settings(path)
    assert said in str(refusal.value)


def test_h128_the_message_says_where_a_wrong_value_stood(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"listen.port: .*\(ENOENT_LISTEN_PORT\)"):
        load_settings(None, {"ENOENT_LISTEN_PORT": "many"})
    with pytest.raises(SettingsError, match=r"ENOENT_LISTEN_PROT: no such setting"):
        load_settings(None, {"ENOENT_LISTEN_PROT": "1"})
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(tmp_path / "absent.toml")


def test_variables_that_kubernetes_makes_for_a_service_of_our_name_are_not_settings() -> None:
    load_settings(None, {"ENOENT_SERVICE_HOST": "10.0.0.1", "ENOENT_PORT": "tcp://10.0.0.1:80", "ENOENT_PORT_80_TCP": "x"})


def test_any_address_is_served_with_tokens_or_when_told_that_something_else_guards_it() -> None:
    load_settings(None, {}, {"listen.address": "0.0.0.0", "listen.auth": "none"})
    load_settings(None, {}, {"listen.address": "0.0.0.0", "tokens": [{"name": "a", "token": {"env": "T"}}]})


def test_h128_a_secret_comes_from_a_file_or_a_variable_and_its_absence_names_the_key(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    assert SecretFrom(file=str(file)).read({}, "k").reveal() == "s3cret"
    assert SecretFrom(env="T").read({"T": "x"}, "k").reveal() == "x"
    settings = load_settings(None, {}, {"tokens": [{"name": "a", "token": {"file": str(tmp_path / "absent")}}]})
    with pytest.raises(SettingsError, match=r"tokens\[0\].token.file: .*absent: No such file"):
        read_tokens(settings, {})
    with pytest.raises(SettingsError, match=r"k.env: the variable T is not set"):
        SecretFrom(env="T").read({}, "k")
    with pytest.raises(SettingsError, match="either"):
        SecretFrom().read({}, "k")


def test_h142_a_secret_shows_itself_in_no_text() -> None:
    secret = Secret("s3cret")
    for text in (repr(secret), str(secret), f"{secret}", repr([secret]), repr({"a": secret})):
        assert "s3cret" not in text
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def structs() -> list[type[msgspec.Struct]]:
    members = vars(service.settings).values()
    own = [kind for kind in members if inspect.isclass(kind) and issubclass(kind, msgspec.Struct)]
    return [kind for kind in own if kind.__module__ == "service.settings"]


@pytest.mark.parametrize("kind", structs(), ids=lambda kind: kind.__name__)
def test_every_setting_says_what_it_means(kind: type[msgspec.Struct]) -> None:
    assert kind.__doc__
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    for item, following in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(item, ast.AnnAssign):
            told = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            assert told, f"{kind.__name__}.{ast.unparse(item.target)} has no docstring"


def keys_of(data: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, value in data.items():
        if isinstance(value, dict):
            found |= keys_of(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                found |= keys_of(item, f"{prefix}{name}[].")
        else:
            found.add(prefix + name)
    return found


def test_the_example_names_every_setting_and_no_other() -> None:
    """Lines of the example that are commented out count: they show what may be set."""
    text = EXAMPLE.read_text()
    live = "\n".join(
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()
    )
    named = keys_of(tomllib.loads(live))
    assert named == {key for key, _ in described()}


def test_the_example_as_it_stands_is_the_defaults() -> None:
    assert load_settings(EXAMPLE, {}) == Settings()


def test_the_example_is_what_the_settings_say_of_themselves() -> None:
    assert EXAMPLE.read_text() == example(), "run: python -m tests.make.example"
