"""Ranges of file offsets, as pairs of start and end."""

from __future__ import annotations


def join_ranges(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, disjoint, without empty ones."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def range_bytes(ranges: list[tuple[int, int]]) -> int:
    return sum(end - start for start, end in ranges)


def cut(pieces: list[tuple[int, bytes]], ranges: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """What of the pieces lies in the ranges."""
    left = []
    for start, data in pieces:
        for low, high in ranges:
            begin, end = max(low, start), min(high, start + len(data))
            if begin < end:
                left.append((begin, data[begin - start : end - start]))
    return left
