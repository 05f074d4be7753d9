"""C18-C22: whom `USER` names. The sentences are Docker 26.1's."""

from __future__ import annotations

import pytest

from analyzers.accounts import ResolvedUser, resolve_user

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
app:x:500:501:App:/home/app:/bin/sh
500:x:600:600:named a number:/n:/bin/sh
#c:x:700:700::/c:/bin/sh
  spaced:x:800:800::/s:/bin/sh

broken
app:x:999:999::/second:/bin/sh
"""
GROUP = b"""root:x:0:
# comment:x:1:app
app:x:501:
wheel:x:10:root,app
audio:x:29:app,spaced
"""


def resolve(spec: str) -> ResolvedUser:
    return resolve_user(spec, PASSWD, GROUP)


def ids(user: ResolvedUser) -> tuple[int, int, tuple[int, ...]]:
    assert user.error == ""
    return user.uid, user.gid, user.groups


def test_c18_user_and_group_are_names_or_numbers() -> None:
    assert ids(resolve("app")) == (500, 501, (501, 10, 29))
    assert ids(resolve("500:29")) == (500, 29, (29,))
    assert ids(resolve("app:wheel")) == (500, 10, (10,))


def test_c18_empty_user_is_root_with_the_files_groups() -> None:
    assert ids(resolve("")) == (0, 0, (0, 10))
    assert ids(resolve_user("", None, None)) == (0, 0, (0,))


def test_t19_c19_a_number_is_never_looked_up_as_a_name() -> None:
    assert resolve("500").uid == 500
    assert ids(resolve_user("500", b"500:x:600:600::/:/bin/sh\n", b"")) == (500, 0, (0,))


@pytest.mark.parametrize("spec", ["-1", "2147483648", "0:-1", "0:2147483648"])
def test_t20_c19_numbers_out_of_range_are_refused(spec: str) -> None:
    assert resolve(spec).error == "uids and gids must be in range 0-2147483647"


def test_c19_a_number_beyond_64_bits_is_looked_up_as_a_name() -> None:
    assert resolve("99999999999999999999").error == (
        "unable to find user 99999999999999999999: no matching entries in passwd file"
    )


def test_c20_numeric_user_takes_groups_from_the_files_and_none_without_entry() -> None:
    assert ids(resolve("500")) == (500, 501, (501, 10, 29))
    assert ids(resolve("12345")) == (12345, 0, (0,))
    assert ids(resolve("12345:77")) == (12345, 77, (77,))


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("root", "unable to find user root: no matching entries in passwd file"),
        ("0:root", "unable to find group root: no matching entries in group file"),
    ],
)
def test_t17_c21_names_in_an_image_without_files(spec: str, error: str) -> None:
    assert resolve_user(spec, None, None).error == error


@pytest.mark.parametrize(("spec", "expected"), [("65534", (65534, 0)), ("65534:65534", (65534, 65534)), ("0", (0, 0))])
def test_t18_c21_numbers_need_no_files(spec: str, expected: tuple[int, int]) -> None:
    user = resolve_user(spec, None, None)
    assert (user.uid, user.gid, user.error) == (*expected, "")


def test_c22_hash_is_a_comment_in_group_only() -> None:
    assert resolve("#c").uid == 700
    assert resolve("0:# comment").error == "unable to find group # comment: no matching entries in group file"


def test_c22_lines_are_trimmed_and_missing_fields_are_zero() -> None:
    assert resolve("spaced").uid == 800
    assert ids(resolve("broken")) == (0, 0, (0,))


def test_c22_the_first_match_wins() -> None:
    assert resolve("app").home == b"/home/app"


def test_c22_empty_parts_are_left_to_their_defaults() -> None:
    assert ids(resolve("root:")) == ids(resolve("root"))
    assert ids(resolve(":wheel")) == (0, 10, (10,))


def test_c22_a_passwd_line_beyond_64_kib_ends_the_lookup() -> None:
    line = b"x" * 65536
    assert resolve_user("root", PASSWD + line, GROUP).error == "unable to find user root: bufio.Scanner: token too long"
    assert resolve_user("root", PASSWD + line[:-1], GROUP).error == ""


def test_c22_a_group_line_of_1_mib_is_read() -> None:
    group = b"big:x:77:" + b"someone," * 131000 + b"app\n"
    assert 77 in resolve_user("app", PASSWD, group).groups


def test_more_than_one_colon_is_ignored() -> None:
    assert ids(resolve("app:wheel:extra")) == (500, 10, (10,))
