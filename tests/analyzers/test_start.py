"""The start chain from facts: every case of tests/make/starts.py, and what has no image of its own."""

from __future__ import annotations

import pytest

from analyzers.facts import Coverage, LayerFacts, Unread
from analyzers.finding import Outcome, Reason, Stage, State
from analyzers.judges import judge_image
from analyzers.lookup import go_quote, variable
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import Overrides, Start, command_vector, environment, foretell_start
from tests.make.starts import CASES, CRASH, TRUE, Case
from tests.make.views import file, layer

DOCKER = HostProfile()
CONTAINERD = HostProfile(engine="containerd", engine_version=(2, 0))


def profile_of(case: Case) -> HostProfile:
    return HostProfile(dac_override="--cap-drop=ALL" not in case.options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_start(case: Case) -> None:
    verdict = judge_image("sha256:0", case.config, case.facts(), profile=profile_of(case)).verdict
    assert verdict.why_unknown == ""
    message = case.message if case.message != CRASH else ""
    assert (verdict.message, verdict.exit_code or 0) == (message, case.exit_code)
    assert verdict.state is (State.FAILS if case.message else State.STARTS)
    assert (verdict.reason is None) == (verdict.state is State.STARTS)


def start(
    config: ImageConfig,
    *layers: LayerFacts,
    profile: HostProfile = DOCKER,
    overrides: Overrides = Overrides(),  # noqa: B008
) -> Start:
    return foretell_start(Rootfs(layers or (layer({"bin/true": TRUE, "bin/sh": TRUE}),)), config, profile, overrides)


# -- C1-C5 --

IMAGE = ImageConfig(entrypoint=("/e",), cmd=("c",))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (Overrides(), (b"/e", b"c")),
        (Overrides(cmd=("d",)), (b"/e", b"d")),
        (Overrides(entrypoint=("/f",)), (b"/f",)),
        (Overrides(entrypoint=("/f",), cmd=("d",)), (b"/f", b"d")),
        (Overrides(entrypoint=("",), cmd=("d",)), (b"d",)),
        (Overrides(entrypoint=()), (b"c",)),
    ],
)
def test_c05_an_entrypoint_given_at_run_time_drops_the_images_cmd(overrides: Overrides, expected: tuple[bytes, ...]) -> None:
    assert command_vector(IMAGE, DOCKER, overrides) == expected


def test_c02_containerd_keeps_an_empty_entrypoint() -> None:
    config = ImageConfig(entrypoint=("",), cmd=("true",))
    assert command_vector(config, CONTAINERD, Overrides()) == (b"", b"true")


# -- C6-C9 --


def env_of(*image: str, extra: tuple[str, ...] = (), profile: HostProfile = DOCKER) -> tuple[bytes, ...]:
    made, refused = environment(image, extra, profile)
    assert refused == b""
    return tuple(item for item in made if not item.startswith(b"HOSTNAME="))


def test_c06_image_variables_replace_the_defaults_by_key() -> None:
    default = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert env_of("A=1") == (default, b"A=1")
    assert env_of("PATH=/x", "A=1") == (b"PATH=/x", b"A=1")
    assert env_of("PATH=") == (b"PATH=",)


def test_c06_variables_given_at_run_time_come_first_and_win() -> None:
    assert env_of("A=1", "B=1", extra=("A=2",))[1:] == (b"A=2", b"B=1")


def test_c07_t117_containerds_client_gives_no_path_beside_other_variables() -> None:
    assert env_of(profile=CONTAINERD)[0].startswith(b"PATH=/usr/local/sbin")
    assert env_of("A=1", profile=CONTAINERD) == (b"A=1",)
    outcome = start(ImageConfig(cmd=("true",), env=("A=1",)), profile=CONTAINERD)
    assert outcome.message == b'exec: "true": executable file not found in $PATH'


def test_c07_containerd_refuses_an_item_without_equals() -> None:
    assert environment(("A",), (), CONTAINERD)[1] == b'invalid environment variable: "A"'


def test_c08_of_duplicates_the_last_wins_in_the_place_of_the_first() -> None:
    assert env_of("A=1", "B=1", "A=2")[1:] == (b"A=2", b"B=1")


def test_c08_home_comes_from_passwd_by_number() -> None:
    passwd = layer({"bin/true": TRUE, "etc/passwd": file("toor:x:0:0::/toor:\nroot:x:0:0::/root:\napp:x:9:9::\n")})
    assert variable(start(ImageConfig(cmd=("true",), user="root"), passwd).env, b"HOME") == b"/toor"
    assert variable(start(ImageConfig(cmd=("true",), user="app"), passwd).env, b"HOME") == b""
    assert variable(start(ImageConfig(cmd=("true",), user="77"), passwd).env, b"HOME") == b"/"
    assert variable(start(ImageConfig(cmd=("true",), env=("HOME=/h",)), passwd).env, b"HOME") == b"/h"
    assert variable(start(ImageConfig(cmd=("true",), env=("HOME=",)), passwd).env, b"HOME") == b"/toor"


def test_c09_loader_variables_reach_the_container() -> None:
    outcome = start(ImageConfig(cmd=("true",), env=("LD_LIBRARY_PATH=/a", "LD_LIBRARY_PATH=/b")))
    assert variable(outcome.env, b"LD_LIBRARY_PATH") == b"/b"


# -- C10-C15 --


def test_c10_the_name_stays_as_written_in_argv_and_the_path_found_is_executed() -> None:
    outcome = start(ImageConfig(cmd=("true", "x")))
    assert outcome.execution is not None
    assert outcome.execution.argv == (b"true", b"x")
    assert outcome.execution.opened_as == b"/bin/true"


def test_c12_newer_runtimes_name_the_directory() -> None:
    outcome = start(ImageConfig(cmd=("/bin",)), profile=HostProfile(runc_version=(1, 2)))
    assert outcome.message == b'exec: "/bin": is a directory: permission denied'
    assert outcome.exit_code == 126


def test_c15_execve_failures_exit_with_255_since_runc_1_2() -> None:
    image = layer({"x": file("text", 0o755)})
    assert start(ImageConfig(cmd=("/x",)), image).exit_code == 1
    assert start(ImageConfig(cmd=("/x",)), image, profile=HostProfile(runc_version=(1, 2))).exit_code == 255


def test_c15_the_text_names_the_path_found_not_the_name_given() -> None:
    image = layer({"bin/x": file("text", 0o755)})
    assert start(ImageConfig(cmd=("x",)), image).message == b"exec /bin/x: exec format error"


def test_c23_containerds_words_for_users() -> None:
    def words(user: str) -> bytes:
        return start(ImageConfig(cmd=("true",), user=user), profile=CONTAINERD).message

    assert words("nobody") == b"no users found"
    assert words("0:web") == b"unable to find group web"
    assert words("-1") == b'invalid USER value "-1": uid out of range'
    assert words("0:0:0") == b"invalid USER value 0:0:0"


@pytest.mark.parametrize(
    ("raw", "quoted"),
    [
        (b"x", b'"x"'),
        (b'a"\\', b'"a\\"\\\\"'),
        (b"\x00\x7f\n", b'"\\x00\\x7f\\n"'),
        (b"\xff", b'"\\xff"'),
        ("é".encode(), '"é"'.encode()),
    ],
)
def test_names_are_quoted_as_go_does(raw: bytes, quoted: bytes) -> None:
    assert go_quote(raw) == quoted


# -- the trail --


def test_the_trail_names_every_place_on_path_and_the_layer_of_what_was_found() -> None:
    outcome = start(ImageConfig(cmd=("tool",), env=("PATH=/a:/b:/c",)), layer({"b/tool": file("x")}), layer({"c/tool": TRUE}))
    lookup = outcome.steps[0]
    assert [(each.path, each.outcome, each.layer) for each in lookup.attempts] == [
        ("/a/tool", Outcome.ABSENT, None),
        ("/b/tool", Outcome.NOT_EXECUTABLE, 0),
        ("/c/tool", Outcome.FOUND, 1),
    ]
    assert lookup.layer == 1


def test_the_first_failing_stage_is_reported() -> None:
    config = ImageConfig(cmd=("/nope",), user="nobody", working_dir="/bin/true")
    assert start(config).message == b"Cannot mkdir: /bin/true is not a directory"
    assert start(ImageConfig(cmd=("/nope",), user="nobody")).stage is Stage.CONFIG
    assert start(ImageConfig(cmd=("/nope",))).stage is Stage.LOOKUP


def test_a_link_goes_into_the_trail() -> None:
    from tests.make.views import symlink

    outcome = start(ImageConfig(cmd=("/x",)), layer({"x": symlink("/bin/true"), "bin/true": TRUE}))
    assert outcome.steps[0].attempts[0].detail == "leads to /bin/true"


# -- what was not seen --

CUT = (Unread(b"", "entry-limit"),)


def test_a_program_that_an_unread_part_may_hold_is_unknown() -> None:
    outcome = start(ImageConfig(cmd=("/x",)), layer({}, coverage=Coverage.PARTIAL, unread=CUT))
    assert outcome.state is State.UNKNOWN
    assert outcome.why_unknown == "a layer that was not wholly read may hold /x"


def test_a_program_above_the_unread_part_is_known() -> None:
    outcome = start(ImageConfig(cmd=("/x",)), layer({}, coverage=Coverage.PARTIAL, unread=CUT), layer({"x": TRUE}))
    assert outcome.state is State.STARTS


def test_an_unread_program_is_unknown() -> None:
    unread = (Unread(b"x", "elf-too-large"),)
    outcome = start(ImageConfig(cmd=("/x",)), layer({"x": file("", 0o755)}, coverage=Coverage.PARTIAL, unread=unread))
    assert outcome.state is State.UNKNOWN


def test_an_unread_passwd_leaves_names_unknown_and_numbers_known() -> None:
    image = layer(
        {"x": TRUE, "etc/passwd": file("x")}, coverage=Coverage.PARTIAL, unread=(Unread(b"etc/passwd", "text-too-large"),)
    )
    image.texts.pop(b"etc/passwd")
    assert start(ImageConfig(cmd=("/x",), user="app"), image).state is State.UNKNOWN
    assert start(ImageConfig(cmd=("/x",), user="77"), image).state is State.STARTS


def test_overrides_stand_in_for_the_config() -> None:
    overrides = Overrides(user="nobody")
    assert start(ImageConfig(cmd=("true",)), overrides=overrides).message.startswith(b"unable to find user nobody")
    report = judge_image(
        "x", ImageConfig(cmd=("true",)), [layer({"bin/true": TRUE})], overrides=Overrides(entrypoint=("/nope",), working_dir="/w")
    )
    assert (report.argv, report.working_dir, report.verdict.reason) == (("/nope",), "/w", Reason.PATH)
