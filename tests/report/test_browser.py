"""The page in a real browser: quiet, at once readable, in light and dark, by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from report import browser as chromium
from report.browser import SCREENS, Browser
from report.test_ceilings import raced
from report.test_history_page import folders as versions
from stats import synthetic

from tiebreak.report.history import read_history
from tiebreak.report.history_page import to_html
from tiebreak.report.html import write_report

RESULTS = Path(__file__).parents[2] / "results" / "amd-epyc-2-cores"
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
WIDTHS = pytest.mark.parametrize("width", SCREENS)

pytestmark = pytest.mark.skipif(bool(chromium.why_absent()), reason=chromium.why_absent())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium.started(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of real records."""
    return write_report([RESULTS / "quick"], tmp_path_factory.mktemp("page") / "quick.html")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all there can be: failures, leaks, flags, ceilings, a self-test, two machines."""
    folder = tmp_path_factory.mktemp("everything")
    bad = [synthetic.machine(), synthetic.certificate(green=False), *synthetic.race(blocks=4)]
    rows = [synthetic.selftest(passed=passed) for passed in (True, False, None)]
    rows = [{**row, "row": f"row-{i}"} for i, row in enumerate(rows)]
    folders = [
        synthetic.store(folder / "typical", synthetic.typical() + synthetic.leaking()),
        synthetic.store(folder / "bad", bad),
        synthetic.store(folder / "ceilings", raced(speed=2.0)),
        synthetic.self_test(folder / "self-test", [synthetic.machine(), *rows]),
    ]
    return write_report(folders, folder / "everything.html")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a history of many folders, with two changes close to one another."""
    folder = tmp_path_factory.mktemp("history")
    speeds = [2.0] * 6 + [3.0] * 2 + [1.8] * 6
    page = folder / "history.html"
    page.write_text(to_html(read_history(versions(folder, speeds))))
    return page


@WIDTHS
def test_a_history_is_readable_on_every_screen(browser, history, width):
    outside = """
      return [...document.querySelectorAll('.plot span, .plot svg, h1, h2, p, figcaption')]
        .map((e) => e.getBoundingClientRect())
        .filter((box) => box.left < -0.5 || box.right > innerWidth + 0.5).length"""
    overlapping = """
      const boxes = [...document.querySelectorAll('.plot .change')]
        .map((e) => e.getBoundingClientRect());
      return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right &&
        b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length"""
    for dark in (False, True):
        browser.show(history, width, dark)
        browser.open_details()
        assert browser.logs("browser") == []
        assert browser.requests() == [history.as_uri()]
        assert browser.run("return document.documentElement.scrollWidth") == width
        assert browser.run(outside) == 0
        assert browser.run("return document.querySelectorAll('.plot .change').length") == 2
        assert browser.run(overlapping) == 0
        found = browser.run(chromium.CONTRASTS)
        assert len(found) > 80
        assert not [one for one in found if one["ratio"] < one["least"]]


@WIDTHS
def test_nothing_is_fetched_and_the_console_is_silent(browser, everything, width):
    browser.show(everything, width)
    browser.open_details()
    assert browser.logs("browser") == []
    assert browser.requests() == [everything.as_uri()]


@SCHEMES
@WIDTHS
def test_the_answer_is_in_the_first_screen(browser, quick, width, dark):
    browser.show(quick, width, dark)
    bottoms = """
      return [...document.querySelectorAll(arguments[0])]
        .map((e) => e.getBoundingClientRect().bottom)"""
    assert max(browser.run(bottoms, "h1")) < SCREENS[width] / 2
    assert max(browser.run(bottoms, ".says")) < SCREENS[width]
    shown = "return document.querySelector('main .card').innerText"
    assert any(word in browser.run(shown) for word in ("TIE", "SURE", "LIKELY", "UNKNOWN"))


@WIDTHS
def test_the_page_is_as_wide_as_the_screen(browser, everything, width):
    browser.show(everything, width)
    browser.open_details()
    assert browser.run("return document.documentElement.scrollWidth") == width
    outside = """
      return [...document.querySelectorAll('.bars b, .heat td, h1, h2, p, summary')]
        .filter((e) => e.getClientRects().length && !e.closest('.scroll'))
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 ||
          e.getBoundingClientRect().left < -0.5).map((e) => e.outerHTML)"""
    assert browser.run(outside) == []


@WIDTHS
def test_text_is_never_small(browser, everything, width):
    browser.show(everything, width)
    browser.open_details()
    sizes = """
      return [...document.querySelectorAll('body *')]
        .filter((e) => e.getClientRects().length && e.innerText && !e.closest('sup'))
        .map((e) => parseFloat(getComputedStyle(e).fontSize))"""
    assert min(browser.run(sizes)) >= 12


@SCHEMES
@WIDTHS
def test_the_contrast_of_every_text_is_that_of_wcag_aa(browser, everything, width, dark):
    browser.show(everything, width, dark)
    browser.open_details()
    found = browser.run(chromium.CONTRASTS)
    assert len(found) > 200
    low = {(one["text"][:40], one["ratio"]) for one in found if one["ratio"] < one["least"]}
    assert not low


@SCHEMES
def test_bars_stand_out_from_the_page(browser, quick, dark):
    browser.show(quick, 1400, dark)
    script = (
        chromium.CONTRASTS.partition("const found")[0]
        + """
      return [...document.querySelectorAll('.bars i:not(.pale):not(.line)')].map((e) => {
        const pair = [light(behind(e)), light(behind(e.parentElement))].sort((a, b) => b - a);
        return (pair[0] + 0.05) / (pair[1] + 0.05);
      })"""
    )
    found = browser.run(script)
    assert len(found) > 10
    assert min(found) >= 3


def test_a_bad_page_is_noticed(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<body style='background:#fff'><p style='color:#999'>pale</p><img src='absent.png'>"
        "<p style='color:#777; background:#0008'>on a shade</p><p style='color:#767676'>fit</p>"
        "<script>console.error('aloud')</script>"
    )
    browser.show(bad)
    assert {entry["level"] for entry in browser.logs("browser")} == {"SEVERE"}
    assert browser.requests() == [bad.as_uri(), (tmp_path / "absent.png").as_uri()]
    found = {one["text"]: one["ratio"] >= one["least"] for one in browser.run(chromium.CONTRASTS)}
    assert found == {"pale": False, "on a shade": False, "fit": True}


def test_every_detail_opens_by_keyboard(browser, quick):
    from selenium.webdriver.common.keys import Keys

    browser.show(quick)
    count = browser.run("return document.querySelectorAll('details').length")
    assert count > 5
    for index in range(count):
        browser.press(Keys.TAB)
        where = "return [...document.querySelectorAll('summary')].indexOf(document.activeElement)"
        assert browser.run(where) == index
        focused = "return getComputedStyle(document.activeElement).outlineStyle"
        assert browser.run(focused) != "none"
    browser.press(Keys.ENTER)
    assert browser.run("return document.activeElement.parentElement.open")


def test_details_are_closed_at_first(browser, quick):
    browser.show(quick)
    assert browser.run("return document.querySelectorAll('details[open]').length") == 0
