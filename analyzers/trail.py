"""Links of the start chain for people: what was looked at, what stood there, and which layer brought it."""

from __future__ import annotations

from analyzers.finding import Attempt, Outcome, show
from analyzers.oci import ImageConfig
from analyzers.rootfs import Node, Resolution, Rootfs

_SHOWN_INSTRUCTION = 100
_OUTCOMES = {
    "": Outcome.FOUND,
    "ENOENT": Outcome.ABSENT,
    "ELOOP": Outcome.LOOP,
    "ENOTDIR": Outcome.NOT_A_DIRECTORY,
    "EACCES": Outcome.DENIED,
    "ENAMETOOLONG": Outcome.ABSENT,
}
_STOPPED = {"ENOENT": "there is no {}", "ENOTDIR": "{} is not a directory", "EACCES": "{} is closed to the user"}


def show_path(path: bytes) -> str:
    """A path of the image for people, with its leading slash."""
    return show(path if path.startswith(b"/") else b"/" + path)


def attempt(
    rootfs: Rootfs, origin: str, wanted: bytes, found: Resolution, outcome: Outcome | None = None, detail: str = ""
) -> Attempt:
    """The attempt at `wanted` that ended in `found`; `outcome` where more is known than the path walk tells."""
    if outcome is None:
        outcome = Outcome.DANGLING if found.dangling else _OUTCOMES[found.error]
    if not detail:
        detail = _detail(wanted, found)
    layer = None if found.node is None else rootfs.layer_of(found.node)
    return Attempt(origin, show(wanted), outcome, detail=detail, layer=layer)


def _detail(wanted: bytes, found: Resolution) -> str:
    if found.error == "ENAMETOOLONG":
        return "name too long"
    if found.links and found.error:
        return "by way of " + ", ".join(show_path(link) for link in found.links[:8]) + f" to {show_path(found.path)}"
    if found.links:
        return f"leads to {show_path(found.path)}"
    if found.error in _STOPPED and found.path != wanted.lstrip(b"/"):
        return _STOPPED[found.error].format(show_path(found.path))
    return ""


def layer_of(rootfs: Rootfs, node: Node | None) -> int | None:
    """The layer that brought `node`, None where there is none."""
    return None if node is None else rootfs.layer_of(node)


def layer_words(config: ImageConfig, layer: int) -> str:
    """A layer with the instruction that made it, where that is on record."""
    created = [text for text, empty in config.history if not empty]
    if layer >= len(created) or not created[layer]:
        return f"layer {layer}"
    text = show(created[layer].encode("utf-8", "surrogatepass"))
    return f"layer {layer} ({text[:_SHOWN_INSTRUCTION]}{'...' if len(text) > _SHOWN_INSTRUCTION else ''})"
