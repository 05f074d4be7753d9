"""The root of the product's one exception tree, and the only errors this package raises.

Whose fault is it? Bytes of an image that are odd but readable become facts or findings and raise
nothing. Bytes that end the reading of a layer, a manifest or an archive raise `Rejected`, whose
code is one of the closed set in docs/hostile.md. Anything else that escapes is a defect of ours.
"""

from __future__ import annotations


class EnoentError(Exception):
    """Something this product foresaw went wrong."""


class Rejected(EnoentError):
    """These bytes cannot be analysed; the outcome is final for their digest.

    `code` is a stable word such as `bad-tar`, `truncated` or `ambiguous-manifest`; `detail` is one
    sentence for a person, never containing more than 200 characters of the input.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Malformed(EnoentError, ValueError):
    """A value typed by a person (a reference, a digest, a platform) is not well formed."""
