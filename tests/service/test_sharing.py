"""What images of a fleet share, whose they are, and how risky."""

from __future__ import annotations

import msgspec
import pytest

from analyzers.finding import LayerSummary, Severity, State
from service.fleet import FleetRow
from service.owners import Owners, OwnerSettings
from service.risk import FindingCount, risk_of
from service.sharing import find_sharing
from tests.make.reports import digest, row, starting


def image(number: int, repository: str, *layers: tuple[int, int], tag: str = "1") -> FleetRow:
    """An image of layers given as (number, bytes)."""
    summaries = tuple(LayerSummary(digest(5000 + layer), size_bytes=size) for layer, size in layers)
    return row(starting(number, layers=summaries), repository, tag)


def test_bytes_that_only_one_image_has_are_its_own() -> None:
    base, app = image(1, "base", (1, 100)), image(2, "app", (1, 100), (2, 7))
    sharing = find_sharing([base, app])
    assert sharing.by_image[app.image_id][:2] == (7, 100)
    assert sharing.by_image[base.image_id][:2] == (0, 100)
    assert (sharing.layer_bytes, sharing.image_bytes, sharing.layers) == (107, 207, 2)


def test_two_names_of_one_image_share_nothing_with_themselves() -> None:
    one = image(1, "app", (1, 100))
    sharing = find_sharing([one, image(1, "app", (1, 100), tag="latest")])
    assert sharing.by_image[one.image_id].unique_bytes == 100
    assert sharing.image_bytes == 100


def test_the_base_is_the_longest_beginning_that_is_an_image_of_the_fleet() -> None:
    debian, python = image(1, "debian", (1, 80)), image(2, "python", (1, 80), (2, 30))
    app = image(3, "app", (1, 80), (2, 30), (3, 1))
    by_image = find_sharing([debian, python, app]).by_image
    assert by_image[app.image_id][2:] == (python.name, 2)
    assert by_image[python.image_id][2:] == (debian.name, 1)
    assert by_image[debian.image_id][2:] == ("", 0)


def test_layers_in_another_order_are_no_base() -> None:
    app = image(2, "app", (2, 1), (1, 1), (3, 1))
    assert find_sharing([image(1, "other", (1, 1), (2, 1)), app]).by_image[app.image_id].base == ""


def test_an_image_without_report_takes_no_part() -> None:
    waiting = msgspec.structs.replace(image(1, "app", (1, 1)), image_id="", layers=(), layer_bytes=())
    assert find_sharing([waiting]) == ({}, 0, 0, 0)


COUNTS = {"later": Severity.LATER, "warning": Severity.WARNING, "info": Severity.INFO}


def scored(**counts: int) -> int | None:
    return risk_of(State.STARTS, [FindingCount(f"area.{name}", COUNTS[name], count) for name, count in counts.items()])


def test_risk_is_what_the_documented_formula_says() -> None:
    assert (scored(), scored(later=1), scored(later=2), scored(warning=1), scored(later=1, warning=1)) == (0, 30, 51, 5, 34)


def test_a_starting_image_is_never_riskier_than_an_undecided_and_that_never_than_a_failing_one() -> None:
    assert (scored(later=50), risk_of(State.UNKNOWN, ()), risk_of(State.FAILS, ())) == (69, 70, 100)


def test_size_and_information_are_no_risk_and_nothing_known_is_no_number() -> None:
    assert scored(info=9) == 0
    assert risk_of(State.STARTS, [FindingCount("size.cache", Severity.WARNING, 3)]) == 0
    assert risk_of(None, ()) is None


@pytest.mark.parametrize(
    ("registry", "repository", "team"),
    [
        ("registry.example", "pay/api", "payments"),
        ("registry.example", "pay/deep/er", "payments"),
        ("registry.example", "payroll", "everyone"),
        ("docker.io", "library/nginx", ""),
        ("", "pay/api", ""),
    ],
)
def test_the_first_owner_whose_pattern_fits_has_the_image(registry: str, repository: str, team: str) -> None:
    owners = Owners(
        [OwnerSettings("payments", ("registry.example/pay/*",)), OwnerSettings("everyone", ("registry.example/*", "x"))]
    )
    assert owners.team_of(registry, repository) == team
