"""The widgets in JupyterLab, in a real browser: opened, touched, heard, read, and looked at (tests/out)."""
import os
from pathlib import Path

import pytest
from browser import FLAGS, Page, jupyterlab, why_not, write_notebook

if (reason := why_not()) and os.environ.get("VOICELAB_BROWSER") != "required": pytest.skip(reason, allow_module_level=True)

OUT = Path(__file__).parent / "out"
WIDTH = dict(width=1280, height=1100)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    assert not why_not(), why_not()
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "JupyterLab over a folder of notebooks, one for each widget."
    home, root = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with jupyterlab(root, home) as url: yield url, root


@pytest.fixture
def notebook(browser, lab, request):
    "Open a notebook of the given cells; afterwards nothing has gone wrong in the page, and nobody else was asked for anything."
    url, root = lab
    page = Page(browser.new_page(viewport=WIDTH))
    page.page.set_default_timeout(60_000)
    def open(*cells, theme="JupyterLab Light"):
        name = f"{request.node.name}.ipynb"
        write_notebook(root / name, "import voicelab as vl\nmodel = vl.load('tiny')", *cells)
        page.open(url, name, theme)
        return page
    yield open
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget?.context.sessionContext.shutdown()")
    page.page.close()
    assert not page.errors and not page.abroad


def idle(page, widget):
    "Wait for the end of the widget's work."
    assert page.run(f"{widget}.worker.wait(50)\n{widget}.worker.busy") == "False"


def test_tuner(notebook):
    page = notebook("tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner")
    sheet = page.page
    estimate = sheet.locator(".voicelab .bar").first.locator("xpath=..")
    before = estimate.inner_text()
    sheet.get_by_label("text", exact=True).fill("The garden is open today, bring two cups of coffee.")
    sheet.wait_for_function("([box, old]) => box.innerText !== old", arg=[estimate.element_handle(), before])
    page.click("Generate")
    sheet.get_by_text("Done.", exact=True).wait_for()
    assert "heard while it was made" in sheet.locator(".voicelab-stream").inner_text()
    result = sheet.locator("audio.jupyter-widgets:visible")
    assert result.count() == 3                                   # the chosen voice, the result, its reference
    seconds = page.hear(result.nth(1))
    assert abs(float(page.run("tuner.generation.audio.seconds")) - seconds) < 0.05
    assert "Stopped: " in sheet.locator(".voicelab[role=status]", has_text="Stopped").inner_text()
    assert int(page.run("len(tuner.stream.played)")) >= 2
    page.picture(OUT / "tuner.png")

    temperature = sheet.locator(".widget-slider", has_text="temperature")
    temperature.locator(".noUi-handle").focus()
    for _ in range(4): sheet.keyboard.press("ArrowRight")
    assert float(temperature.locator(".widget-readout").inner_text()) == 0.5
    page.click("Generate")
    sheet.get_by_text("Try 2").or_(sheet.locator("td", has_text="0.50").first).first.wait_for()
    idle(page, "tuner")
    assert page.run("tuner.history.frame.temperature.tolist()") == "[0.3, 0.5]"
    sheet.get_by_label("against").select_option(index=1)
    page.click("Compare")
    sheet.get_by_text("temperature: 0.5 against 0.3").wait_for()
    page.picture(OUT / "tuner_history.png")


def test_tuner_shows_an_error_in_a_line_and_goes_on(notebook):
    page = notebook("tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner")
    page.run("tuner.knobs.form.value = 'assistant_ref'\ntuner.voice.transcript.value = ''")
    page.click("Generate")
    page.page.locator("[role=alert]", has_text="transcript: form 'assistant_ref' needs one").wait_for()
    page.run("tuner.voice.transcript.value = 'The old library opens at nine in the morning.'")
    page.click("Generate")
    page.page.get_by_text("Done.", exact=True).wait_for()


def test_stop_keeps_what_was_made(notebook):
    page = notebook("tuner = vl.widgets.Tuner(model, 'One two three four five six seven eight nine ten eleven twelve. ' * 6)\ntuner")
    page.click("Generate")
    page.page.get_by_text("Speaking.", exact=True).wait_for()
    page.page.wait_for_function("() => document.querySelector('.voicelab-stream').innerText.includes('heard')")
    page.click("Stop")
    page.page.get_by_text("Stopped: interrupted").wait_for()
    idle(page, "tuner")
    assert float(page.run("tuner.generation.audio.seconds")) > 0


def test_two_widgets_on_one_model_take_turns(notebook):
    page = notebook("one, two = (vl.widgets.DelayPattern(model, 'Good evening.') for _ in 'ab')\none", "two")
    page.run("one.generate.click(); two.generate.click()")
    for widget in ("one", "two"): idle(page, widget)
    assert page.run("(one.generation.codes == two.generation.codes).all().item()") == "True"


def test_prompt_anatomy_in_the_dark(notebook):
    page = notebook("anatomy = vl.widgets.PromptAnatomy(model, 'Good evening.')\nanatomy", theme="JupyterLab Dark")
    before = page.page.locator(".voicelab[role=status]", has_text="positions").inner_text()
    page.page.get_by_role("button", name="double_reference").click()
    page.page.locator(".voicelab[role=status]", has_text="2 sounds").wait_for()
    assert page.page.locator(".voicelab[role=status]", has_text="positions").inner_text() != before
    page.picture(OUT / "prompt_dark.png")


def test_delay_pattern(notebook):
    page = notebook("walk = vl.widgets.DelayPattern(model, 'Good evening.')\nwalk")
    page.click("Generate")
    page.page.get_by_text("stopped by").wait_for()
    page.run("walk.at.value = 12")
    page.click("Back")
    page.page.locator("td", has_text="11 of").wait_for()
    page.click("Hear up to here")
    idle(page, "walk")
    players = page.page.locator("audio.jupyter-widgets:visible")
    assert abs(page.hear(players.nth(1)) - 4 / 25) < 0.02         # frames 0 to 3
    page.picture(OUT / "delay.png")
