"""The order in which glibc relocates objects: sorted by dependency, taken from the end.

Mirrors `elf/dl-sort-maps.c`: the depth-first sort of 2.36, and the original one, which was the default before and can be
asked for by `glibc.rtld.dynamic_sort=1`. Only decides which of several missing symbols is told (G49).
"""

from __future__ import annotations

from collections.abc import Sequence

from analyzers.loader.linkmap import Mapped


def relocation_order(
    scope: Sequence[Mapped], program: Mapped, libc: Mapped | None, release: tuple[int, int], *, original: bool
) -> list[Mapped]:
    """First relocated first. `scope` is the program's search list; ld.so itself stays in its place."""
    listed = [program, *(each for each in scope if each is not program)]
    skip = 1 if program is not libc else 0
    ordered = [*listed[:skip], *_sort_original(listed[skip:])] if original else _sort_depth_first(listed, program)
    order = ordered[::-1]
    if release >= (2, 39) and libc is not None and libc in order:
        order.remove(libc)
        order.insert(0, libc)
    return order


def _sort_depth_first(maps: list[Mapped], program: Mapped) -> list[Mapped]:
    """_dl_sort_maps_dfs: reverse postorder, from the last object to the first; the program goes to the front."""
    visited: set[int] = set()
    postorder: list[Mapped] = []
    for start in reversed(maps):
        if id(start) in visited:
            continue
        visited.add(id(start))
        stack = [(start, iter(() if start is program else start.needed))]
        while stack:
            mapped, rest = stack[-1]
            for dependency in rest:
                if id(dependency) not in visited and dependency is not program and not dependency.faked:
                    visited.add(id(dependency))
                    stack.append((dependency, iter(dependency.needed)))
                    break
            else:
                postorder.append(mapped)
                stack.pop()
    ordered = postorder[::-1]
    if ordered[0] is not program:  # force_first, which stable branches took over
        ordered.remove(program)
        ordered.insert(0, program)
    return ordered


def _sort_original(maps: list[Mapped]) -> list[Mapped]:
    """_dl_sort_maps_original: each object moves behind the last one that depends on it, until a round comes to rest."""
    maps = list(maps)
    count = len(maps)
    if count <= 1:
        return maps
    dependencies = {id(each): {id(dependency) for dependency in each.needed} for each in maps}
    seen = [0] * count
    at = 0
    while True:
        seen[at] += 1
        mapped = maps[at]
        last = count - 1
        while last > at and id(mapped) not in dependencies[id(maps[last])]:
            last -= 1
        if last > at:
            maps[at:last] = maps[at + 1 : last + 1]
            maps[last] = mapped
            if seen[at + 1] > count - at:
                at += 1
                seen[at:] = [0] * (count - at)
                continue
            this = seen[at]
            seen[at:last] = seen[at + 1 : last + 1]
            seen[last] = this
            continue
        at += 1
        if at == count:
            return maps
        seen[at:] = [0] * (count - at)
