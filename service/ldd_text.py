"""What `enoent ldd` prints: a tree an object, with how each library was found; and one JSON object a line for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from analyzers.finding import State
from analyzers.linkage import ObjectListing
from service.scan import Listing
from service.terminal import Line, Span, ends_apart, wrap
from service.trail_text import SIGNS, branch_lines, item_lines
from service.words import Branch, tree

MANY_SYMBOLS = 4
_SIGN_OF = {State.STARTS: "good", State.FAILS: "bad", State.UNKNOWN: "doubt"}
_WORDS = {State.STARTS: "would be loaded", State.FAILS: "would not", State.UNKNOWN: "undecided"}


def listing_lines(listings: Sequence[Listing], width: int = 80, *, brief: bool = False, verbose: bool = False) -> Iterator[Line]:
    """Every object of every image. `brief`: one line for each that would be loaded, and a sum at the end."""
    for place, listing in enumerate(listings):
        if len(listings) > 1:
            yield from [()] if place else []
            yield (("strong", listing.platform),)
        for index, found in enumerate(listing.objects):
            if brief and not verbose and found.verdict is State.STARTS:
                yield _head(found, width)
            else:
                yield from [()] if index else []
                yield from object_lines(found, width, verbose=verbose)
        if brief or not listing.objects:
            yield ()
            yield _sum(listing.objects)


def object_lines(found: ObjectListing, width: int = 80, *, verbose: bool = False) -> Iterator[Line]:
    """One object, what the loader would say of it, and the tree of all it needs."""
    yield _head(found, width)
    for line in found.error.split("\n") if found.error else ():
        yield (("", "  "), ("alarm" if found.verdict is State.FAILS else "doubt", line))
    steps = found.tree[1:] if found.tree and found.tree[0].action == "exec" and found.tree[0].ok else found.tree
    items = [_branch(branch, width, verbose=verbose) for branch in tree(steps)]
    told = {step.action for step in steps}
    sign = SIGNS["doubt" if found.verdict is State.STARTS else "bad"]
    for kind, texts in (("version", found.unmet_versions), ("symbol", found.unbound_symbols)):
        if kind in told:
            continue
        named = texts if verbose or len(texts) <= MANY_SYMBOLS else texts[: MANY_SYMBOLS - 1]
        items += [_wanting(text, sign, kind, width) for text in named]
        if len(named) < len(texts):
            items.append(_wanting("", sign, f"{len(texts) - len(named)} more {kind}s, as --verbose and jsonl tell", width))
    yield from item_lines(items, ())


def _branch(branch: Branch, width: int, *, verbose: bool) -> Callable[[Line, Line], Iterator[Line]]:
    return lambda head, rest: branch_lines(branch, head, rest, width, verbose=verbose, whole=True)


def _wanting(text: str, sign: Span, kind: str, width: int) -> Callable[[Line, Line], Iterator[Line]]:
    """Something that an object wants and none of the others has; a doubt where it is loaded all the same."""
    return lambda head, rest: wrap((("strong", text),), width, (*head, sign, ("faint", f" {kind} ")), rest)


def _head(found: ObjectListing, width: int) -> Line:
    if found.interpreter:
        kind = f"  {found.interpreter}"
    elif found.needed or found.error:
        kind = ""
    else:
        kind = "  needs nothing"
    line: Line = (SIGNS[_SIGN_OF[found.verdict]], ("", " "), ("strong", found.path), ("faint", kind))
    return ends_apart(line, () if found.layer is None else (("faint", f"layer {found.layer}"),), width)


def _sum(objects: Sequence[ObjectListing]) -> Line:
    if not objects:
        return (("doubt", "? no ELF object to look at"),)
    counts = {state: sum(found.verdict is state for found in objects) for state in State}
    told = ", ".join(f"{count} {_WORDS[state]}" for state, count in counts.items() if count)
    return (("strong", f"{len(objects)} {'object' if len(objects) == 1 else 'objects'}"), ("", f": {told}"))


def listing_jsonl(listings: Sequence[Listing]) -> bytes:
    """One object a line, every key present: platform, path, interpreter, verdict, error, needed, unmet_versions,
    unbound_symbols, layer, tree.
    """
    rows = []
    for listing in listings:
        for found in listing.objects:
            fields = {name: getattr(found, name) for name in found.__struct_fields__}
            ordered = {name: value for name, value in fields.items() if name not in ("tree", "layer")}
            rows.append({"platform": listing.platform, **ordered, "layer": found.layer, "tree": found.tree})
    return msgspec.json.Encoder().encode_lines(rows)
