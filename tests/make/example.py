"""deploy/config.example.toml made anew from the settings: `python -m tests.make.example`."""

from __future__ import annotations

import ast
import datetime
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from service.settings import Settings, struct_within

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "deploy" / "config.example.toml"
HEAD = """\
# Every setting of enoent with its default. A line that begins with `#` and no space shows what may be set.
# The same keys are read from the environment (listen.port is ENOENT_LISTEN_PORT).
"""


def docstrings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """First line of what each field says of itself."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for item, following in zip(body.body, body.body[1:], strict=False):
        told = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and told:
            assert isinstance(following, ast.Expr)
            assert isinstance(following.value, ast.Constant)
            found[item.target.id] = str(following.value.value).partition("\n")[0]
    return found


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def sample(kind: type[msgspec.Struct]) -> Any:
    """An instance to show the defaults of; required fields are an example."""
    required = [name for name, default in _defaults(kind) if default is msgspec.NODEFAULT]
    dates = {name for name, hint in typing.get_type_hints(kind).items() if hint is datetime.date}
    return kind(**{name: datetime.date(2027, 1, 1) if name in dates else "example" for name in required})


def _defaults(kind: type[msgspec.Struct]) -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(kind):
        plain = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
        yield field.name, msgspec.NODEFAULT if plain else field.default


def lines(kind: type[msgspec.Struct], instance: Any, prefix: str = "") -> Iterator[str]:
    hints, told = typing.get_type_hints(kind, include_extras=True), docstrings(kind)
    tables = []
    for name in kind.__struct_fields__:
        inner, many = struct_within(hints[name])
        if inner is not None:
            tables.append((name, inner, many))
            continue
        if name in told:
            yield f"# {told[name]}"
        yield f"#{name} = {toml(getattr(instance, name))}"
    for name, inner, many in tables:
        yield ""
        if name in told:
            yield f"# {told[name]}"
        yield f"#[[{prefix}{name}]]" if many else f"#[{prefix}{name}]"
        value = getattr(instance, name)
        yield from lines(inner, value if isinstance(value, msgspec.Struct) else sample(inner), f"{prefix}{name}.")


def example() -> str:
    """The whole file."""
    return HEAD + "\n" + "\n".join(lines(Settings, Settings())) + "\n"


if __name__ == "__main__":
    EXAMPLE.write_text(example())
