"""Who a container runs as: `USER` resolved through the image's own passwd and group files.

Mirrors moby/sys `user/user.go` (GetExecUser, ParsePasswdFilter, ParseGroupFilter), which Docker and runc both
use; rules C18-C23. Knows nothing of where the two files came from, only their bytes (None: there is no file).
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_ID = 2147483647
_MAX_INT = 2**63 - 1
_LONGEST_PASSWD_LINE = 65535
_NUMBER = re.compile(rb"[+-]?[0-9]+")
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What Go's bytes.TrimSpace removes."""


class Credentials(NamedTuple):
    """Whose permissions count. `dac_override`: CAP_DAC_OVERRIDE is effective (C13)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    dac_override: bool = False


class ResolvedUser(NamedTuple):
    """The answer for one `USER`; with `error` set, the rest means nothing."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    """Supplementary groups, the primary one included as Docker passes it."""
    home: bytes = b"/"
    """Home directory of the passwd entry, `/` without one (C8)."""
    error: str = ""
    """The engine's sentence, exit code 125."""

    def credentials(self, *, dac_override: bool) -> Credentials:
        return Credentials(self.uid, self.gid, self.groups, dac_override)


class _Account(NamedTuple):
    name: bytes
    uid: int
    gid: int
    home: bytes


class _Group(NamedTuple):
    name: bytes
    gid: int
    members: tuple[bytes, ...]


def resolve_user(spec: str, passwd: bytes | None, group: bytes | None) -> ResolvedUser:
    """`spec` is `user[:group]` as the config has it; never raises (C18-C22)."""
    fields = spec.encode("utf-8", "surrogateescape").split(b":")
    user_part, group_part = fields[0], fields[1] if len(fields) > 1 else b""
    uid_wanted, gid_wanted = _number(user_part), _number(group_part)

    accounts = _parse_passwd(passwd or b"")
    if accounts is None:
        return ResolvedUser(error=f"unable to find user {_text(user_part) or 0}: bufio.Scanner: token too long")
    account = _find_account(accounts, user_part, uid_wanted)
    if account is not None:
        uid, gid, home = account.uid, account.gid, account.home
    elif not user_part:
        uid, gid, home = 0, 0, b"/"
    elif uid_wanted is None:
        return ResolvedUser(error=f"unable to find user {_text(user_part)}: no matching entries in passwd file")
    else:
        uid, gid, home = uid_wanted, 0, b"/"
        if not 0 <= uid <= MAX_ID:
            return _out_of_range()

    extra: tuple[int, ...] = ()
    if group_part:
        found = _find_group(_parse_group(group or b""), group_part, gid_wanted)
        if found is None and gid_wanted is None:
            return ResolvedUser(error=f"unable to find group {_text(group_part)}: no matching entries in group file")
        gid = found.gid if found is not None else (gid_wanted or 0)
        if found is None and not 0 <= gid <= MAX_ID:
            return _out_of_range()
    elif account is not None and account.name:
        # C20: supplementary groups exist only for a user that the passwd file knows, and only without an explicit group.
        extra = tuple(each.gid for each in _parse_group(group or b"") if account.name in each.members)
    return ResolvedUser(uid & 0xFFFFFFFF, gid & 0xFFFFFFFF, (gid, *extra), home)


def _out_of_range() -> ResolvedUser:
    return ResolvedUser(error=f"uids and gids must be in range 0-{MAX_ID}")


def _find_account(accounts: list[_Account], wanted: bytes, uid: int | None) -> _Account | None:
    if not wanted:
        return next((each for each in accounts if each.uid == 0), None)
    if uid is not None:
        return next((each for each in accounts if each.uid == uid), None)
    return next((each for each in accounts if each.name == wanted), None)


def _find_group(groups: list[_Group], wanted: bytes, gid: int | None) -> _Group | None:
    if gid is not None:
        return next((each for each in groups if each.gid == gid), None)
    return next((each for each in groups if each.name == wanted), None)


def _parse_passwd(text: bytes) -> list[_Account] | None:
    """None when a line is longer than Go's scanner takes (64 KiB)."""
    accounts = []
    for line in text.split(b"\n"):
        if len(line) > _LONGEST_PASSWD_LINE:
            return None
        # C22: `#` is no comment here.
        fields = _trim(line).split(b":")
        if fields == [b""]:
            continue
        fields += [b""] * 6
        accounts.append(_Account(fields[0], _field(fields[2]), _field(fields[3]), fields[5]))
    return accounts


def _parse_group(text: bytes) -> list[_Group]:
    groups = []
    for line in text.split(b"\n"):
        trimmed = _trim(line)
        if not trimmed or trimmed.startswith(b"#"):
            continue
        fields = trimmed.split(b":") + [b""] * 3
        members = tuple(fields[3].split(b",")) if fields[3] else ()
        groups.append(_Group(fields[0], _field(fields[2]), members))
    return groups


def _trim(line: bytes) -> bytes:
    if line.isascii():
        return line.strip(b"\t\n\v\f\r ")
    return line.decode("utf-8", "surrogateescape").strip(_SPACE).encode("utf-8", "surrogateescape")


def _number(text: bytes) -> int | None:
    """Go's Atoi: None for what is no decimal int64 (a longer number is then looked up as a name)."""
    if not _NUMBER.fullmatch(text) or len(text) > 4096:
        return None
    value = int(text)
    return value if -_MAX_INT - 1 <= value <= _MAX_INT else None


def _field(text: bytes) -> int:
    """A numeric field: nonsense is 0, what does not fit an int64 is its nearest end."""
    if not _NUMBER.fullmatch(text):
        return 0
    value = int(text[:40])
    return max(-_MAX_INT - 1, min(_MAX_INT, value))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
