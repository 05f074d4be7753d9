"""The pages as people meet them: in a browser, with a mouse, a keyboard, a phone, at night."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser.chromium import Page
from tests.browser.conftest import BROKEN, GOOD, HOSTILE, Shown
from tests.daemon import live
from tests.fakes.relay import relay
from tests.make.images import Image
from tests.make.layers import program, tar_of
from tests.registry import Registry

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


def test_an_open_page_shows_how_far_an_examination_is(page: Page, registry: Registry, tmp_path: Path) -> None:
    """Of an image whose registry stops in the middle of it."""
    image = Image(layers=(tar_of({"app": program(os.urandom(4 << 20))}),), entrypoint=["/app"])
    registry.push("pages/slow:1.0", image)
    with relay(registry.host) as between:
        between.hold(1 << 20)
        watched = {"host": between.host, "name": "here", "repositories": ["pages/slow"], "poll_seconds": 0.5}
        with live(tmp_path, {"registries": [watched]}) as daemon:
            page.open(daemon.url)
            page.until("document.querySelector('[data-running] progress')?.value > 0")
            assert "pages/slow:1.0 linux/amd64" in page.text("[data-running]")
            assert "0 of 1 layers, 1." in page.text("[data-running]")
            between.release()
            page.until("document.querySelector('.tile.fails b').innerText === '1'")
            page.until("document.querySelector('[data-running]').hidden")
            page.requests.clear()
            page.open("about:blank")


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


def focused(page: Page, selector: str, most: int = 80) -> None:
    """Tab is pressed until something that fits has the focus, and that is seen to have it."""
    for _ in range(most):
        page.press("Tab")
        if page.js(f"document.activeElement.matches({selector!r})"):
            break
    else:
        raise AssertionError(f"the keyboard never reaches {selector}")
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_an_image_is_explored_by_the_keyboard_alone(page: Page, shown: Shown) -> None:
    page.open(f"{shown.url}/images/{shown.image_id('pages/broken')}")
    focused(page, ".terminal .copy")
    page.press("Enter")
    page.until("document.activeElement.innerText === 'Copied'")
    assert page.js("navigator.clipboard.readText()").startswith("docker run --platform linux/amd64 ")
    focused(page, ".bar.layers a, .layer")
    page.press("Enter")
    page.until("location.hash === '#layer-0'")
    focused(page, ".fold summary")
    page.press("Enter")
    page.until("document.activeElement.parentElement.open")


def test_every_command_that_mends_something_can_be_copied(page: Page, shown: Shown) -> None:
    page.open(f"{shown.url}/images/{shown.image_id('pages/good')}")
    commands = page.texts("code.command")
    assert "&& rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb" in commands
    assert len(page.texts("code.command + .copy")) == len(commands)
    page.click("td code.command + .copy")
    page.until("document.querySelector('td .copy').innerText === 'Copied'")
    assert page.js("navigator.clipboard.readText()") == page.text("td code.command")


def places(shown: Shown) -> list[str]:
    good, broken, evil = (shown.image_id(f"pages/{name}") for name in ("good", "broken", "evil"))
    images = [f"/images/{image_id}" for image_id in (good, broken, evil)]
    pair = f"/compare?before={good}&after={evil}"
    return ["/", "/?q=nothing-like-this", "/findings", "/findings/elf.no-loader", "/changes", "/sources", pair, *images]


def test_no_page_is_wider_than_a_phone(page: Page, shown: Shown) -> None:
    page.resize(360, 740, phone=True)
    for place in places(shown):
        page.open(shown.url + place)
        assert page.js("document.documentElement.scrollWidth") <= 360, place


POOR_CONTRAST = """(() => {
  const parts = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = (colour) => colour.slice(0, 3).map((each) => each / 255)
    .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parts(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const shown = texts.currentNode.data.trim() && element.checkVisibility() && !element.closest("svg, option, .hidden, .skip");
    if (!shown) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(parts(style.color)), light(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const big = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (contrast < (big ? 3 : 4.5)) poor.push([texts.currentNode.data.trim().slice(0, 40), contrast, element.className]);
  }
  return poor;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_every_page_can_be_read_by_day_and_by_night(page: Page, shown: Shown, scheme: str) -> None:
    """The contrast of WCAG AA: 4.5 to 1, 3 to 1 for big letters."""
    page.prefer(scheme)
    papers = set()
    for place in places(shown):
        page.open(shown.url + place)
        assert page.js(POOR_CONTRAST) == [], place
        papers.add(page.js("getComputedStyle(document.body).backgroundColor"))
    [paper] = papers
    page.prefer("dark" if scheme == "light" else "light")
    assert page.js("getComputedStyle(document.body).backgroundColor") != paper


def test_h135_names_that_want_to_be_markup_are_text(page: Page, shown: Shown) -> None:
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
