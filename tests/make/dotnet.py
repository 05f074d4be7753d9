"""A real .NET Core 3.1 (tests/setup/dotnet.sh) in a small Debian, and applications as far as their host looks at them."""

from __future__ import annotations

import functools
import json

from analyzers.facts import Kind
from tests.make import roots
from tests.make.elves import CACHE, ToolAbsent
from tests.make.layers import Item, file, folder, symlink

HOME = "usr/share/dotnet"
VERSION = "3.1.23"


@functools.cache
def root() -> roots.Root:
    """Debian with that runtime and `dotnet` on PATH by way of a link."""
    source = CACHE / "dotnet"
    if not (source / "dotnet").exists():
        raise ToolAbsent("no .NET in .cache: run tests/setup/dotnet.sh")
    files: roots.Root = {}
    for path in sorted(source.rglob("*")):
        if path.is_file():
            mode = 0o755 if path.name == "dotnet" else 0o644
            files[f"{HOME}/{path.relative_to(source)}"] = Item(Kind.FILE, path.read_bytes(), mode)
    # Without /tmp it ends with "Failed to create CoreCLR".
    return {**roots.debian(), **files, "usr/bin/dotnet": symlink(f"/{HOME}/dotnet"), "tmp": folder(0o1777)}


def config(version: str, *more: str, name: str = "Microsoft.NETCore.App", **options: object) -> Item:
    """A runtimeconfig.json; `more` are versions of ASP.NET Core asked for besides."""
    frameworks = [{"name": name, "version": version}, *({"name": "Microsoft.AspNetCore.App", "version": each} for each in more)]
    asked = {"framework": frameworks[0]} if len(frameworks) == 1 else {"frameworks": frameworks}
    return file(json.dumps({"runtimeOptions": {"tfm": "net", **asked, **options}}))
