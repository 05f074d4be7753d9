"""What a static program will want at run time, as far as texts compiled into it tell.

A static program names no libraries, so its strings are all there is. Only texts that a linker leaves out with the code that
uses them count: glibc's iconv and dlopen, and Go's time zones, stand in every program and tell nothing.
"""

from __future__ import annotations

NAME_SERVICES, FILES_FIRST, CA_BUNDLES = "name-services", "files-dns", "ca-bundles"

MARKS: tuple[tuple[str, bytes], ...] = (
    (NAME_SERVICES, b"libnss_"),  # glibc nss/nss_module.c
    (FILES_FIRST, b"files dns"),  # glibc nss/nss_database.c since 2.35: its default where there is no nsswitch.conf
    (CA_BUNDLES, b"/etc/ssl/certs/ca-certificates.crt"),  # Go crypto/x509/root_linux.go, openssl-probe, curl's own default
)
_OVERLAP = max(len(text) for _, text in MARKS) - 1


class MarkSearch:
    """Looks through bytes that pass in order; `found` names the marks that were seen."""

    __slots__ = ("_left", "_tail", "found")

    def __init__(self) -> None:
        self.found: list[str] = []
        self._left = list(MARKS)
        self._tail = b""

    def see(self, data: bytes) -> None:
        window = self._tail + data if self._tail else data
        for mark in [mark for mark in self._left if mark[1] in window]:
            self.found.append(mark[0])
            self._left.remove(mark)
        self._tail = window[-_OVERLAP:]
