"""The pages as people meet them: in a browser, with a mouse, a keyboard, a phone, at night."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Page
from tests.browser.conftest import BROKEN, GOOD, HOSTILE, Shown

pytestmark = [pytest.mark.browser, pytest.mark.registry, pytest.mark.xdist_group("pages")]

NAMES = "tbody .name .repository"


def test_the_worst_stands_first_and_a_click_explains_it(page: Page, shown: Shown) -> None:
    page.open(shown.url)
    assert "pages/good" in page.texts(NAMES)[-1]
    assert page.text(".tile.fails b") == "2"
    with page.leaving():
        digest = shown.image_id("pages/broken").partition(":")[2]
        page.click(f"a.name[href*='{digest}']")
    assert page.text(".headline h2") == "Will not start"
    assert "exec /app: no such file or directory" in page.text(".terminal")
    assert "What would mend it" in page.text(".mend")


def test_search_filter_and_order_stand_in_the_address(page: Page, shown: Shown) -> None:
    page.open(shown.url)
    page.js("document.querySelector('input[type=search]').focus()")
    page.type("broken")
    with page.leaving():
        page.press("Enter")
    assert page.texts(NAMES) == ["pages/broken"]
    assert "q=broken" in page.js("location.search")
    page.open(shown.url)
    with page.leaving():
        page.click(".tile.starts")
    assert page.texts(NAMES) == ["pages/good"]
    page.open(shown.url)
    with page.leaving():
        page.choose("select[name=sort]", "name")
    assert page.texts(NAMES) == sorted(page.texts(NAMES))
    rules = page.js("[...document.querySelectorAll('select[name=rule] option')].map((each) => each.value)")
    with page.leaving():
        page.choose("select[name=rule]", next(rule for rule in rules if rule.startswith("elf.")))
    assert page.texts(NAMES) == ["pages/broken"]


def test_everything_is_reached_by_the_keyboard(page: Page, shown: Shown) -> None:
    page.open(shown.url)
    page.press("Tab")
    assert page.js("document.activeElement.className") == "skip"
    for _ in range(40):
        page.press("Tab")
        if page.js("document.activeElement.matches('a.name')"):
            break
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    with page.leaving():
        page.press("Enter")
    assert page.text(".headline h2") == "Will not start"


def test_a_push_shows_up_on_an_open_page(page: Page, shown: Shown) -> None:
    page.open(shown.url)
    page.until("document.querySelector('[data-running]') !== null")
    assert "pages/later" not in page.texts(NAMES)
    shown.registry.push("pages/later:1.0", GOOD)
    page.until(f"[...document.querySelectorAll('{NAMES}')].some((each) => each.innerText === 'pages/later')")
    page.until("document.querySelector('.tile.starts b').innerText === '2'")
    shown.registry.push("pages/later:1.0", BROKEN)
    page.until("document.querySelector('.tile.fails b').innerText === '3'")
    page.open(f"{shown.url}/changes")
    assert "will not start" in page.text(".changes li")
    with page.leaving():
        page.click(".changes li a[href^='/compare']")
    assert page.texts(".pair .badge") == ["starts", "will not start"]
    assert page.text(".summary").startswith("It started and will not start now.")


def test_going_through_many_pages_leaves_no_connection_behind(page: Page, shown: Shown) -> None:
    """A browser has six connections to one place; each page that is left behind once held one."""
    for number in range(9):
        page.open(f"{shown.url}/?q=nothing-like-this-{number}")
    assert "No image of" in page.text(".empty")


def test_a_digest_is_copied_whole(page: Page, shown: Shown) -> None:
    image_id = shown.image_id("pages/broken")
    page.open(f"{shown.url}/images/{image_id}")
    page.click(".digest + .copy")
    page.until("document.querySelector('.digest + .copy').innerText === 'Copied'")
    assert page.js("navigator.clipboard.readText()") == image_id


def places(shown: Shown) -> list[str]:
    images = [f"/images/{shown.image_id(f'pages/{name}')}" for name in ("good", "broken", "evil")]
    return ["/", "/findings", "/findings/elf.interpreter-absent", "/changes", "/sources", *images]


def test_no_page_is_wider_than_a_phone(page: Page, shown: Shown) -> None:
    page.resize(360, 740, phone=True)
    for place in places(shown):
        page.open(shown.url + place)
        assert page.js("document.documentElement.scrollWidth") <= 360, place


def test_text_can_be_read_by_day_and_by_night(page: Page, shown: Shown) -> None:
    """The contrast of WCAG AA, 4.5 to 1, for what people read most."""
    contrast = """((selector) => {
      const light = (text) => text.match(/[0-9.]+/g).slice(0, 3).map((each) => each / 255)
        .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
      const one = light(getComputedStyle(document.querySelector(selector)).color);
      const other = light(getComputedStyle(document.querySelector("table.layers")).backgroundColor);
      return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    })"""
    papers = set()
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        page.open(f"{shown.url}/images/{shown.image_id('pages/broken')}")
        papers.add(page.js("getComputedStyle(document.body).backgroundColor"))
        for selector in (".headline h2", ".because p", ".muted", ".step .action", "table.layers a", ".chip"):
            assert page.js(f"{contrast}({selector!r})") >= 4.5, (scheme, selector)
    assert len(papers) == 2


def test_names_that_want_to_be_markup_are_text(page: Page, shown: Shown) -> None:
    for place in places(shown):
        page.open(shown.url + place)
        assert page.js("document.title") != "owned", place
        assert page.js("document.querySelectorAll('main script, main img').length") == 0, place
        assert "\u202e" not in page.text("main"), place
    assert "<script>" in HOSTILE
    assert "<script>document.title" in page.text("main")


@pytest.mark.parametrize("place", ["/", "/changes"])
def test_a_page_says_where_one_is(page: Page, shown: Shown, place: str) -> None:
    page.open(shown.url + place)
    assert len(page.texts("nav [aria-current=page]")) == 1
    assert page.js("document.querySelectorAll('h1, [data-live]').length") >= 1
