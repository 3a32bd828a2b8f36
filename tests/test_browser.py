"""The widgets as people meet them: opened in JupyterLab, touched, heard and read, in Debian's Chromium.

Pictures in both themes land in tests/out/. Without a browser the tests are skipped with a reason; with
VOICELAB_BROWSER=required they fail instead.
"""
import os
import re

import browser
import pytest

REQUIRED = os.environ.get("VOICELAB_BROWSER") == "required"
if browser.missing() and not REQUIRED: pytest.skip(browser.missing(), allow_module_level=True)

START = 'import voicelab as vl\nif "model" not in globals(): model = vl.load("tiny")     # the notebooks share a kernel'


@pytest.fixture(scope="module")
def lab(tmp_path_factory, root):
    assert not browser.missing(), browser.missing()
    home, files = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with browser.jupyterlab(home, files) as url, browser.chromium() as chromium: yield browser.Lab(url, files, chromium)


@pytest.fixture
def opened(lab, root, request):
    "Opens a notebook named as the test; in the end keeps its picture and looks for errors of the page."
    pages, name = [], request.node.name.removeprefix("test_")
    def open_notebook(*cells):
        pages.append(lab.open(name, START, *cells))
        return pages[0]
    yield open_notebook
    for page in pages:
        browser.pictures(page, root / "tests/out", name)
        browser.forget_widgets(page)
        page.close()
        assert not page.errors


def test_tuner(opened):
    from playwright.sync_api import expect
    page = opened("tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner", "len(tuner.history.tries), tuner.worker.error")
    widget = page.locator(".jp-Cell").nth(1)
    estimate = widget.locator(".voicelab-estimate")
    before = estimate.inner_text()
    widget.get_by_label("text", exact=True).fill("Good evening. The garden is open today.")
    expect(estimate).not_to_have_text(before)
    slider = widget.get_by_role("slider", name="temperature")
    slider.focus()
    page.keyboard.press("ArrowRight")
    widget.get_by_role("button", name="Generate").click()
    expect(widget.get_by_role("status").filter(has_text="Done.")).to_be_visible(timeout=60_000)
    expect(widget.get_by_text(re.compile("heard while it was made: [0-9.]+ s"))).to_be_visible()
    for name in ("reference", "result"):
        player = widget.locator(f"audio[aria-label='{name}']")
        assert browser.seconds_of(player) > 0.5 and browser.hear(player) > 0.1
    assert browser.run_cell(page, 2) == "(1, None)"
