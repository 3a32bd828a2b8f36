"""The widgets as people meet them: opened in JupyterLab, touched, heard and read, in Debian's Chromium.

Pictures in both themes land in tests/out/. Without a browser the tests are skipped with a reason; with
VOICELAB_BROWSER=required they fail instead.
"""
import http.server
import math
import os
import re
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import browser
import pytest

from voicelab.turns import SharedTurns

if browser.missing() and os.environ.get("VOICELAB_BROWSER") != "required": pytest.skip(browser.missing(), allow_module_level=True)

START = 'import voicelab as vl\nif "model" not in globals(): model = vl.load("tiny")     # the notebooks share a kernel'
SECONDS = 60_000            # ms: for what a model does
LONG = 20                   # sentences: whoever stops them comes before their end
ALL_WIDTHS = ("sounds_in_turn_and_as_files",)               # pictures of these pages have three widths


@pytest.fixture(scope="module")
def chromium():
    assert not browser.missing(), browser.missing()
    with browser.chromium() as opened: yield opened


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory, python):
    home, files = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with browser.jupyterlab(home, files, python) as url: yield browser.Lab(url, files, chromium)


@pytest.fixture(scope="module")
def left():
    "The page of the test before, if it is of use."
    return []


@pytest.fixture
def opened(lab, root, request, left):
    "Opens a notebook named as the test; in the end keeps its picture and looks for errors of the page."
    pages, name = [], request.node.name.removeprefix("test_")
    def open_notebook(*cells):
        pages.append(lab.open(name, START, *cells, page=left.pop() if left else None))
        return pages[0]
    yield open_notebook
    for page in pages:
        found = browser.pictures(page, root / "tests/out", name, (1920, 390) if name in ALL_WIDTHS else ())
        browser.forget_widgets(page)
        left += filter(None, [lab.leave(page)])
        assert not page.errors and not found, "\n".join(found)


def cell(page, number): return page.locator(".jp-Cell").nth(number)


def press(widget, name, **options): widget.get_by_role("button", name=name, **options).click()


def status(widget, words): return widget.get_by_role("status").filter(has_text=words)


def moment(widget, words: str):
    "Wait until a status line says what it says for a moment only: looked for in each frame, where `expect` may look a second later."
    widget.page.wait_for_function("""([widget, words]) => [...widget.querySelectorAll("[role=status]")].some(line => RegExp(words).test(line.textContent))""",
                                  arg=[widget.element_handle(), words])


def gives(page, number: int, true) -> str:
    "What a cell gives as soon as it is `true`: a kernel runs cells in one thread, and hears its widgets in another."
    def is_so():
        with suppress(SyntaxError, ValueError): return true(browser.run_cell(page, number))         # the output may be half there
    assert browser.soon(is_so, SECONDS / 1000), browser.output(page, number)
    return browser.output(page, number)


def heard(widget, name: str) -> float:
    "Play the sound called `name`; its length in seconds."
    player = widget.locator(f"audio[aria-label='{name}']")
    seconds = browser.seconds_of(player)
    assert 0 < browser.hear(player) <= seconds
    return seconds


def expect(locator):
    from playwright.sync_api import expect
    expect.set_options(timeout=SECONDS)
    return expect(locator)


def test_tuner(opened):
    page = opened("tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner",
                  "[len(tuner.history.tries), tuner.generation and round(tuner.generation.audio.seconds, 2), tuner.knobs.temperature.value]")
    widget = cell(page, 1)
    estimate = widget.locator(".voicelab-estimate")
    before = estimate.inner_text()
    widget.get_by_label("text", exact=True).press_sequentially(" Hello.")
    expect(estimate).not_to_have_text(before)
    widget.get_by_role("slider", name="temperature").press("ArrowRight")
    press(widget, "Generate")
    expect(status(widget, "Done.")).to_be_visible()
    expect(widget.get_by_text(re.compile("heard while it was made: [0-9.]+ s"))).to_be_visible()
    assert heard(widget, "chosen voice") == heard(widget, "reference")
    _, seconds, temperature = eval(gives(page, 2, lambda told: eval(told)[0] == 1))
    assert abs(heard(widget, "result") - seconds) < 0.02 and abs(temperature - 0.35) < 1e-6
    expect(widget.get_by_text("Stopped: ")).to_be_visible()
    expect(widget.get_by_role("row", name=re.compile("duration ratio .*(pass|fail)"))).to_be_visible()
    expect(widget.get_by_role("img", name="probability of the end")).to_be_visible()
    press(widget, "Python")
    expect(widget.get_by_text("model.clone('Good evening. Hello.'")).to_be_visible()


def test_tuner_errors_and_stop(opened):
    page = opened("tuner = vl.widgets.Tuner(model, '')\ntuner")
    widget = cell(page, 1)
    expect(widget.get_by_role("alert").first).to_contain_text("text")
    press(widget, "Generate")
    expect(widget.get_by_role("alert").filter(has_text="nothing to say")).to_have_count(1)
    widget.get_by_label("text", exact=True).fill("The old library opens at nine in the morning. " * LONG)
    press(widget, "Generate")
    expect(widget.get_by_text("heard while it was made")).to_be_visible()
    press(widget, "Stop")
    expect(status(widget, "Stopped: what had been made is kept.")).to_be_visible()
    expect(widget.get_by_text("Stopped: interrupted")).to_be_visible()
    assert heard(widget, "result") > 0.3


KERNEL = "window.jupyterapp.shell.currentWidget.context.sessionContext"
LOST = re.compile("^The kernel of this widget has ended or was restarted.* run this notebook's cells again")


def test_yesterdays_work_and_a_kernel_that_ends(opened, lab, tmp_path):
    "A run is opened, a row clicked and replayed; then the kernel is restarted, and ended; then the notebook is opened without one."
    folder, ends = tmp_path / "run", f"() => {KERNEL}.session.kernel"
    page = opened(f"tuner = vl.widgets.Tuner(model, 'Good evening.', run={str(folder)!r})\ntuner", "tuner",
                  "[tried.number for tried in tuner.history.tries]")
    widget, second = cell(page, 1), cell(page, 2)
    for seed in ("4", "5"):
        widget.get_by_label("seed", exact=True).fill(seed)
        page.keyboard.press("Tab")
        press(widget, "Generate")
        expect(widget.get_by_role("button", name=f"show try {int(seed) - 4} again")).to_be_visible()
    press(widget, "Save all")
    expect(status(widget, "2 samples in ")).to_be_visible()
    widget.get_by_role("row", name=re.compile("^show try 0 again.* 4 ")).click()
    expect(status(widget, "Try 0, with its settings.")).to_be_visible()
    assert widget.get_by_label("seed", exact=True).input_value() == "4" and heard(widget, "result") == heard(second, "result")       # both views
    page.evaluate("""() => { window.played = []; const play = HTMLMediaElement.prototype.play
        HTMLMediaElement.prototype.play = function () { window.played.push(this.ariaLabel); return play.call(this) } }""")
    widget.get_by_label("try", exact=True).select_option("1: Good evening.")
    press(widget, "Replay")
    page.wait_for_function("() => window.played.length")
    assert page.evaluate("() => window.played")[0] == "result" and widget.get_by_label("seed", exact=True).input_value() == "5"
    assert not page.locator("[class^=voicelab-still] *").count()               # while the widget is there, it is not there twice
    browser.run_cell(page, 1)                                                   # the next day
    expect(status(widget, "Try 1, with its settings. Its tokens are not kept")).to_be_visible()
    assert browser.run_cell(page, 3) == "[0, 1]" and heard(widget, "result") > 0.5
    browser.do(page, "docmanager:save")
    page.evaluate(f"{ends}.restart()")
    for part in (widget, second): expect(part.get_by_role("alert").filter(has_text=LOST)).to_be_visible()
    expect(widget.get_by_role("alert").filter(has_text="Open, under History")).to_be_visible()
    assert status(widget, "Try 1, with").locator(".voicelab-said").evaluate("said => getComputedStyle(said).fontSize") == "0px"
    assert heard(widget, "result") > 0.5
    browser.pictures(page, Path(__file__).parent / "out", "without_a_kernel")
    path = lab.root / "yesterdays_work_and_a_kernel_that_ends.ipynb"
    for name in (path.name, "sent.ipynb"):                                      # in its place, and as a colleague gets it: not trusted
        if name != path.name: (lab.root / name).write_text(path.read_text().replace("tuner = ", "tuner =  "))
        page.goto(f"{lab.url}/lab/tree/{name}?reset")
        kept = page.locator("[class^=voicelab-still]").first
        expect(kept.get_by_text("Without its kernel, this widget shows its last result.")).to_be_visible()
        expect(kept.get_by_text("Stopped: eos")).to_be_visible()
        assert 0 < browser.hear(kept.locator("audio").first) and kept.locator("audio").count() == 2
        expect(page.get_by_text(re.compile("Error displaying widget|Loading widget")).filter(visible=True)).to_have_count(0)


@pytest.mark.parametrize("how", ["requestExecute({ code: 'import os; os._exit(1)' })", "shutdown()"])
def test_a_kernel_that_dies_or_is_shut_down_is_told(lab, how):
    kept, lab.kernel = lab.kernel, lab.ask("kernels", dict(name="python3"))["id"]
    try: page = lab.open(f"ended {how[:8]}", "import voicelab as vl\nvl.widgets.Microphone()")
    finally: lab.kernel = kept
    alert = cell(page, 0).get_by_role("alert").filter(has_text=LOST)
    expect(cell(page, 0).get_by_role("button", name="Record")).to_be_visible()
    assert not alert.count()
    page.evaluate(f"() => {{ {KERNEL}.session.kernel.{how} }}")
    expect(alert).to_be_visible()
    page.close()


def test_no_key_on_a_widget_is_a_command_of_the_notebook(opened):
    page = opened("tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner", "tuner.knobs.temperature.value", "'last'")
    widget = cell(page, 1)
    kinds = lambda: page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.type)")
    assert kinds() == ["code"] * 4
    slider = widget.get_by_role("slider", name="temperature")
    parts = [slider, widget.get_by_role("button", name="Python"), widget.get_by_label("voice", exact=True),
             widget.get_by_label("RAS: repetition-aware sampling")]
    for part in parts:
        part.focus()
        for key in ("x", "d", "d", "a", "b", "m", "z"): part.press(key)
        assert kinds() == ["code"] * 4
        expect(part).to_be_focused()
    slider.press("ArrowRight")
    gives(page, 2, lambda told: float(told) == 0.35)
    page.keyboard.press("Escape")                           # outside of the widget the keys are commands
    page.keyboard.press("x")
    assert kinds() == ["code"] * 3


def said(page) -> str: return page.evaluate("() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim()")


LOOK = "[tried.text for tried in tuner.history.tries], tuner.knobs.margin.value, tuner.bar.cap, tuner.page_part.pixels, tuner.bar.asked, tuner.bar.step"


def test_the_tuner_by_keyboard(opened, root):
    page = opened("tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner", LOOK)
    widget = cell(page, 1)
    text, cap, margin = widget.get_by_label("text", exact=True), widget.get_by_role("slider", name="cap"), widget.get_by_role("slider", name="reference margin")
    player = widget.locator("audio[aria-label='result']")
    # from the text it is two steps to Generate, and none of them on a slider that is off
    text.focus()
    page.keyboard.press("Tab")
    assert said(page) == "cap"
    page.keyboard.press("Tab")
    assert said(page) == "Generate"
    assert {handle.get_attribute("tabindex") for handle in widget.locator(".widget-slider:has([disabled]) .noUi-handle").all()} == {"-1"}
    margin.press("ArrowRight")
    expect(margin).to_have_attribute("aria-valuetext", "2.05")
    # a fold opens and closes by a key
    fold = widget.get_by_role("button", name="Several seeds at once")
    for key, is_open in (("Enter", "true"), (" ", "false")):
        fold.press(key)
        expect(fold).to_have_attribute("aria-expanded", is_open)
        expect(widget.get_by_role("button", name="Make a row")).to_be_visible(visible=is_open == "true")
    # Ctrl+Enter makes what has just been typed
    text.press_sequentially(" Hello.", delay=0)
    text.press("Control+Enter")
    expect(status(widget, "Done.")).to_be_visible()
    gives(page, 2, lambda told: eval(told)[0] == ["Good evening. Hello."])
    # space plays and stops, outside of a text
    text.focus()
    page.keyboard.press("Escape")
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('audio[aria-label=result]').currentTime > 0.1")
    assert text.input_value() == "Good evening. Hello."
    page.keyboard.press(" ")
    expect(player).to_have_js_property("paused", True)
    # Esc stops
    text.fill("The old library opens at nine in the morning. " * LONG)
    text.press("Control+Enter")
    expect(status(widget, "Speaking.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(widget.get_by_text("Stopped: interrupted")).to_be_visible()
    press(widget, "Generate")                                 # the button is then switched off, and the keys stay here
    expect(widget.get_by_role("button", name="Generate")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(widget.get_by_role("button", name="Generate")).to_be_enabled()
    # the cap, dragged and by keys
    before = eval(browser.run_cell(page, 2))
    cap.evaluate("""cap => { window.moves = 0; let held = false
        for (const [kind, begins] of [["pointerdown", true], ["pointerup", false]]) cap.addEventListener(kind, () => { held = begins })
        cap.addEventListener("pointermove", () => { window.moves += held }) }""")
    cap.scroll_into_view_if_needed()
    at = cap.bounding_box()
    page.mouse.move(at["x"] + 3, at["y"] + 11)
    page.mouse.down()
    page.mouse.move(at["x"] - 150, at["y"] + 11, steps=4)
    page.mouse.up()
    expect(cap).not_to_have_attribute("aria-valuetext", re.compile(f"^cap at {before[2]:.2f} s"))
    moves = page.evaluate("() => window.moves")
    def settled(told):                                      # the last move is answered
        _, _, cap, _, (seconds, times), step = eval(told)
        return times == moves and abs(cap - seconds) <= step
    dragged = eval(gives(page, 2, settled))
    assert dragged[1] < before[1] and dragged[2] < before[2] and dragged[3] > 800
    cap.press("ArrowRight")
    expect(cap).not_to_have_attribute("aria-valuetext", re.compile(f"^cap at {dragged[2]:.2f} s"))
    assert eval(browser.run_cell(page, 2))[2] > dragged[2]
    # a cap far beyond the speech is at the end of the bar, and the speech is still seen
    text.fill("Good.")
    widget.get_by_label("budget rule", exact=True).select_option("fixed")
    expect(widget.get_by_text("cap far to the right")).to_be_visible()
    shares = [each.bounding_box()["width"] for each in (widget.locator(".bar > i"), widget.locator(".bar"))]
    assert shares[0] > 0.18 * shares[1]


def test_sounds_in_turn_and_as_files(opened, tmp_path):
    from voicelab.audio import load_audio
    page = opened("tuner = vl.widgets.Tuner(model, 'The old library opens at nine in the morning, and the garden a little later.')\ntuner",
                  "getattr(tuner.settling.asked, 'by', None), tuner.seeds.worker.error",
                  "model.clone('Hello.', sampling=vl.Sampling(temperature=20))")
    # an error is one line, and its traceback opens at a click
    below = cell(page, 3).locator(".jp-OutputArea")
    expect(below.get_by_text("ControlError: temperature: must be 0 to 10, got 20").filter(visible=True)).to_have_count(1)
    expect(below.locator("details")).to_have_count(1)
    frames = below.locator("details pre")
    assert not frames.is_visible()
    below.locator("summary").click()
    expect(frames).to_contain_text("in _check")
    widget = cell(page, 1)
    for times, place in enumerate(("Home", "ArrowRight"), 1):
        widget.get_by_role("slider", name="temperature").press(place)
        press(widget, "Generate")
        expect(widget.get_by_label("try", exact=True).locator("option")).to_have_count(times + 1)
        expect(status(widget, "Done.")).to_be_visible()
    widget.get_by_label("against", exact=True).select_option(index=1)
    press(widget, "Compare")
    expect(widget.get_by_text("Is 0.05 better than 0.0 (temperature)? Two samples can't tell.")).to_be_visible()
    # one button plays, and the other sound goes on where this one was
    deck = widget.locator(".voicelab-deck").last
    press(deck, "▶ Play")
    moment(deck, r"playing try 1, (0\.[3-9]|[1-9])")
    press(deck, "switch to try 0")
    moment(deck, r"playing try 0, (0\.[3-9]|[1-9])")
    page.keyboard.press("a")
    moment(deck, "playing try 1")
    press(deck, "■ Stop")
    # a row of seeds, one of which is kept
    widget.get_by_role("slider", name="temperature").press("End")
    widget.get_by_text("Several seeds at once").click()
    widget.get_by_label("seeds", exact=True).fill("3")
    press(widget, "Make a row")
    expect(status(widget, "Done: 3 samples.")).to_be_visible()
    expect(widget.get_by_text("flatters")).to_be_visible()
    press(widget, "Keep seed 3")
    expect(status(widget, "Try 2, with its settings.")).to_be_visible()
    assert browser.run_cell(page, 2) == "('temperature', None)"
    # every format keeps the mark
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        with page.expect_download() as saved: press(widget, f"download as {kind}")
        assert saved.value.suggested_filename == f"The_old_library_opens_at_seed_3.{kind.lower()}"
        saved.value.save_as(path := tmp_path / saved.value.suggested_filename)
        assert load_audio(path).synthetic
        expect(widget.get_by_text("watermark: none (not asked for)")).to_be_visible()


def test_prompt_anatomy(opened):
    page = opened("anatomy = vl.widgets.PromptAnatomy(model)\nanatomy", "anatomy.prompt.form")
    widget = cell(page, 1)
    press(widget, "double_reference")
    expect(widget.get_by_role("cell", name="audio", exact=True)).to_have_count(2, timeout=30_000)
    assert browser.run_cell(page, 2) == "'double_reference'"
    assert abs(heard(widget, "chosen voice") - 2.44) < 0.02


def test_delay_pattern(opened):
    page = opened("walk = vl.widgets.DelayPattern(model)\nwalk", "walk.at.value")
    widget = cell(page, 1)
    press(widget, "Generate")
    expect(status(widget, "stopped by")).to_be_visible()
    last = int(browser.run_cell(page, 2))
    press(widget, "Back")
    expect(widget.get_by_role("img", name=f"step {last - 1} marked")).to_be_visible()
    widget.get_by_role("slider", name="step").press("Home")
    for _ in range(9): press(widget, "Forward")
    expect(widget.get_by_role("img", name="step 9 marked")).to_be_visible()
    press(widget, "Hear up to here")
    assert abs(heard(widget, "up to here") - 0.08) < 0.02                  # columns 8 and 9 complete two frames


def test_two_widgets_take_turns(opened):
    page = opened("one, two = (vl.widgets.Tuner(model, 'The garden is open today.') for _ in range(2))\none", "two",
                  "from voicelab.widgets.worker import lock_of\nlock_of(model).release()\n'free'", "lock_of(model).acquire()")
    try:                                                    # the cell that ran last has the turn
        for number in (1, 2):
            press(cell(page, number), "Generate")
            expect(status(cell(page, number), "Waiting: another widget uses this model.")).to_be_visible()
    finally: browser.run_cell(page, 3)
    for number in (1, 2): expect(status(cell(page, number), "Done.")).to_be_visible()
    assert heard(cell(page, 1), "result") == heard(cell(page, 2), "result")


def test_an_output_cleared_at_work_comes_back(opened):
    page = opened("tuner = vl.widgets.Tuner(model, 'The garden is open today.')\ntuner", "tuner", "tuner.worker.wait(60), len(tuner.history.tries)")
    press(cell(page, 2), "Generate")
    expect(cell(page, 2).get_by_role("progressbar").first).to_be_visible()
    for number in (1, 2):
        cell(page, number).locator(".jp-InputArea-editor").click()
        browser.do(page, "notebook:clear-cell-output")
    gives(page, 3, "(None, 1)".__eq__)
    browser.run_cell(page, 2)
    expect(status(cell(page, 2), "Done.")).to_be_visible()
    assert heard(cell(page, 2), "result") > 0.5
    browser.run_cell(page, 1)                                       # a new one in its place
    press(cell(page, 1), "Generate")
    expect(status(cell(page, 1), "Done.")).to_be_visible()


VOICES = "from voicelab.reference import shipped_voices\nada, ben = (shipped_voices()[name] for name in ('ada', 'ben'))"


TONE = """() => { navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext(), tone = context.createOscillator(), quieter = context.createGain()
    const out = context.createMediaStreamDestination()
    quieter.gain.value = 0.2; tone.connect(quieter).connect(out); tone.start(); return out.stream } }"""


def record(page, widget):
    press(widget, "Record", exact=True)
    expect(widget.locator(".voicelab-recorder")).to_have_text(re.compile("recording: [3-9]"))
    widget.locator(".voicelab-recorder").locator("..").get_by_role("button", name="Stop").click()


def test_microphone(opened):
    page = opened("microphone = vl.widgets.Microphone()\nmicrophone", "print(microphone.reference)")
    widget = cell(page, 1)
    record(page, widget)                                    # the browser's own beeps are at full scale
    expect(widget.get_by_text(re.compile("^recording: .* at full scale"))).to_be_visible()
    assert browser.run_cell(page, 2).strip() == "None"
    page.evaluate(TONE)
    record(page, widget)
    expect(widget.get_by_text("State the consent")).to_be_visible()
    assert heard(widget, "recording") > 2
    widget.get_by_label("consent").fill("a machine's tone, for a test")
    page.keyboard.press("Tab")
    expect(widget.get_by_text(re.compile("^Ready: "))).to_be_visible()
    assert "Reference('microphone'" in browser.run_cell(page, 2)


def test_a_closed_microphone_leaves_the_page_and_hears_no_more(opened):
    page = opened("microphone = vl.widgets.Microphone()\nmicrophone", "microphone")
    page.evaluate("""() => { const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices)
        navigator.mediaDevices.getUserMedia = async wish => window.heard = await ask(wish) }""")
    widget = cell(page, 1)
    press(widget, "Record", exact=True)
    expect(widget.locator(".voicelab-recorder")).to_have_text(re.compile("recording: [1-9]"))
    assert page.evaluate("() => window.heard.getTracks()[0].readyState") == "live"
    cell(page, 2).locator(".jp-InputArea-editor").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text("microphone.close()")
    browser.do(page, "notebook:run-cell")
    expect(page.locator(".voicelab-panel")).to_have_count(0)
    page.wait_for_function("() => window.heard.getTracks()[0].readyState === 'ended'")


def test_the_tuner_speaks_with_a_recorded_voice(opened):
    page = opened("tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner", "tuner.generation.reference.name, tuner.generation.reference.consent")
    widget = cell(page, 1)
    widget.get_by_label("voice", exact=True).select_option(label="microphone")
    page.evaluate(TONE)
    record(page, widget)
    expect(widget.get_by_text("consent: state who speaks")).to_be_visible()
    for label, words in (("transcript", "A long tone."), ("consent", "a machine's tone, for a test")):
        widget.get_by_label(label, exact=True).fill(words)
        page.keyboard.press("Tab")
    expect(widget.get_by_text("consent: state who speaks")).to_have_count(0)
    press(widget, "Generate")
    expect(status(widget, "Done.")).to_be_visible(timeout=2 * SECONDS)
    gives(page, 2, "('microphone', \"a machine's tone, for a test\")".__eq__)


def drag(page, widget, start: float, end: float):
    "Drag over a waveform, from one share of its width to another."
    wave = widget.locator(".voicelab-wave")
    expect(wave).to_have_attribute("data-decoded", "")
    expect(wave.locator("canvas").first).to_be_visible()
    wave.scroll_into_view_if_needed()
    box = wave.bounding_box()
    page.mouse.move(box["x"] + start * box["width"], box["y"] + 30)
    page.mouse.down()
    for share in (0.3, 0.7, 1): page.mouse.move(box["x"] + (start + share * (end - start)) * box["width"], box["y"] + 32, steps=4)
    page.mouse.up()


OWN = """import tempfile
from pathlib import Path
from voicelab.reference import shipped_voices
folder = tempfile.mkdtemp()
shipped_voices()["ben"].audio.save(f"{folder}/uncle.wav")
Path(folder, "uncle.txt").write_text("We walked along the river, and the boat was blue.")
Path(folder, "long.wav").write_bytes(b"0" * 2_000_000)
print(folder)"""
STATE = "voice = tuner.voice\nvoice.stretch.span, voice.reference and voice.reference.name, voice.doubt, voice.consent.value"


def test_a_stretch_is_dragged_and_heard(opened):
    page = opened("tuner = vl.widgets.Tuner(model, 'صباح الخير.')\ntuner", STATE)
    widget = cell(page, 1)
    drag(page, widget, 0.25, 0.75)
    said = widget.locator(".voicelab-wave-state")
    moment(widget, r"^playing 0\.\d\d to 1\.\d\d s: \d")
    expect(said).to_have_text(re.compile(r"^heard 0\.\d\d to 1\.\d\d s"))
    (start, end), name, *_ = eval(gives(page, 2, lambda told: eval(told)[0] and "another stretch" in eval(told)[2]))
    assert abs(start - 0.61) < 0.03 and abs(end - 1.83) < 0.03 and name == f"ada, {start:.2f} to {end:.2f} s"
    assert abs(heard(widget, "chosen voice") - (end - start)) < 0.02
    widget.get_by_label("start (s)").fill("0.2")            # by the keyboard
    page.keyboard.press("Tab")
    expect(widget.get_by_role("button", name="Hear the stretch")).to_be_visible()
    press(widget, "Confirm")
    expect(widget.get_by_text("of another stretch")).to_have_count(0)
    gives(page, 2, lambda told: abs(eval(told)[0][0] - 0.2) < 1e-6 and eval(told)[2] == "")
    box = lambda label: widget.get_by_label(label, exact=True)
    assert box("text").evaluate("box => getComputedStyle(box).direction") == "rtl" and box("text").bounding_box()["height"] > 60
    assert box("transcript").evaluate("box => getComputedStyle(box).direction") == "ltr"
    box("consent").fill("شكرا")
    assert box("consent").evaluate("box => getComputedStyle(box).direction") == "rtl"


def test_voices_of_ones_own_in_the_drawer(opened, tmp_path):
    page = opened(OWN, "tuner = vl.widgets.Tuner(model, 'Good evening.')\ntuner", STATE)
    widget, folder = cell(page, 2), browser.output(page, 1).strip()
    choose = lambda label: widget.get_by_label("voice", exact=True).select_option(label=label)
    choose("a folder of mine")
    widget.get_by_label("folder", exact=True).first.fill(folder)
    press(widget, "Open the folder")
    expect(widget.get_by_text(re.compile("^consent: state who agreed"))).to_be_visible()
    widget.get_by_label("its consent").fill("my uncle agrees")
    press(widget, "Open the folder")
    expect(widget.get_by_text("Voices added to the list: 1. Not usable: long: ")).to_be_visible()
    gives(page, 3, lambda told: "uncle', '', 'my uncle agrees'" in told)
    press(widget, "Save the voice")
    with page.expect_download() as saved: widget.get_by_role("link", name="uncle.safetensors").click()
    saved.value.save_as(tmp_path / "uncle.safetensors")
    choose("upload")
    files = widget.locator("input[type=file]").first
    with open(tmp_path / "film.wav", "wb") as film: film.truncate(101 * 2**20)
    for path, said in ((tmp_path / "film.wav", "'film.wav' has 101.0 MB, at most 100.0 MB are taken"), (Path(folder, "long.wav"), "'long.wav' is not a WAV")):
        files.set_input_files(path)
        expect(widget.get_by_role("alert").filter(has_text=said)).to_be_visible()
    files.set_input_files(tmp_path / "uncle.safetensors")
    expect(widget.get_by_text(re.compile("^voice file with 69 frames of codes by tiny-codec"))).to_be_visible()
    gives(page, 3, lambda told: "uncle', '', 'my uncle agrees'" in told)
    choose("microphone")
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError') } }")
    press(widget, "Record", exact=True)
    expect(widget.get_by_text("microphone: the browser refused it: allow the microphone")).to_be_visible()


INKED = "canvas => canvas.width && canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"


def test_where_it_listens(opened):
    page = opened("look = vl.widgets.AttentionMap(model)\nlook", "look.map.place, look.worker.error")
    widget = cell(page, 1)
    press(widget, "Generate")
    expect(widget.get_by_text(re.compile("^[0-9]+ frames over [0-9]+ positions"))).to_be_visible(timeout=2 * SECONDS)
    canvas, said = widget.locator("canvas.voicelab-map"), widget.locator(".voicelab-heard")
    for theme in ("Dark", "Light"):
        browser.do(page, "apputils:change-theme", theme=f"JupyterLab {theme}")
        page.wait_for_timeout(500)
        assert canvas.evaluate(INKED), theme
    canvas.click(position=dict(x=400, y=180))
    expect(said).to_have_text(re.compile("^heard [0-9.]+ s: sample [0-9.]+ s, then recording [0-9.]+ s"))
    expect(widget.get_by_text("this head looks most at")).to_be_visible()
    first = browser.run_cell(page, 2)
    canvas.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"): page.keyboard.press(key)
    expect(said).to_have_text(re.compile("^heard "))
    gives(page, 2, lambda told: told != first)
    assert first.endswith("None)")
    press(widget, "text")
    expect(widget.get_by_role("combobox", name="head")).to_contain_text("of its weight on the text")
    expect(canvas).to_have_attribute("aria-label", re.compile("over text"))
    press(widget, "all parts")
    expect(canvas).to_have_attribute("aria-label", re.compile("over all parts"))
    def moved():                                            # the map may just be drawn anew, without the place
        canvas.press("ArrowRight")
        return re.fullmatch("sample [0-9.]+ s, recording; Enter plays it", said.text_content())
    assert browser.soon(moved)
    page.keyboard.press("Enter")
    expect(widget.get_by_text(re.compile("the mean looks at recording [0-9]+%, its transcript [0-9]+%"))).to_be_visible()
    press(widget, "Check by hiding")
    expect(widget.get_by_role("row", name=re.compile(r"^recording, [0-9]+ positions all layers [+-][0-9.]+ [+-][0-9.]+$"))).to_be_visible(timeout=SECONDS)
    expect(widget.get_by_text("What this does not show.")).to_be_visible()


WORDS = """
import numpy as np
from voicelab.audio import Audio
from voicelab.widgets.words import WordPlayer
from voicelab.words import Timeline, TimedWord
heard = [("come", "come", "same", .1, .4), ("hum", "home", "exchanged", .4, .8), ("", "قريبا", "missing", .8, .8)]
tone = Audio(np.sin(np.arange(24_000) / 20).astype(np.float32), 24_000)
player = WordPlayer()
player.show(Timeline(tone, "come home soon", tuple(TimedWord(*each, .5) for each in heard), "nobody", "en"))
player"""


def test_words_under_their_waveform_are_played(opened):
    page = opened(WORDS)
    words = cell(page, 1).get_by_role("group", name="words")
    words.get_by_role("button", name="hum ≠ home, exchanged, 0.40 to 0.80 s").click()
    expect(status(cell(page, 1), "played: hum ≠ home")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(status(cell(page, 1), "played: − قريبا")).to_be_visible()
    assert words.locator("[data-begin]").evaluate_all("all => all.filter(each => each.tabIndex === 0).length") == 1


def test_ablation(opened):
    page = opened("bench = vl.widgets.Ablation(model)\n"
                  "for arm in ('wrong_transcript', 'reversed', 'half_length'): bench.ticks[arm].value = False\nbench",
                  "len(bench.result.attempts), bench.worker.error")
    widget = cell(page, 1)
    press(widget, "Run")
    expect(widget.get_by_text("8 of 8 samples.")).to_be_visible(timeout=3 * SECONDS)
    widget.get_by_label("hear").select_option(label="noise, seed 1")
    assert heard(widget, "sample") > 0.5
    expect(widget.locator("table").filter(has_text="other speaker")).to_have_count(1)
    gives(page, 2, "(8, None)".__eq__)


def test_codec_explorer(opened):
    page = opened("explorer = vl.widgets.CodecExplorer(model)\nexplorer", "explorer.k.value, explorer.mixture.codebooks")
    widget = cell(page, 1)
    press(widget, "Decode")
    expect(widget.get_by_text(re.compile("^The codec's ceiling"))).to_be_visible(timeout=2 * SECONDS)
    widget.get_by_role("slider", name="codebooks").focus()
    for _ in range(5): page.keyboard.press("ArrowLeft")
    expect(widget.get_by_text(re.compile("similarity 0.[0-9]+, distance .* 750 bits a second"))).to_be_visible()
    press(widget, "Exchange")
    expect(widget.get_by_text("of the longer recording are left out")).to_be_visible()
    assert min(heard(widget, "first codebooks"), heard(widget, "mixture")) > 2
    assert browser.run_cell(page, 2) == "(3, (0,))"


RUN = """import dataclasses, tempfile
from voicelab.ablation import make_arm
run = vl.Run(tempfile.mkdtemp())
for heard in (ada, make_arm("noise", ada)):
    for seed in (0, 1): run.save(dataclasses.replace(model.clone("Good evening.", reference=heard, seed=seed), reference=ada), speaker=heard.name)
ask = vl.widgets.ListeningTest(run, "naturalness", by="speaker", seed=3, most=2)"""


def begin_listening(page):
    "Agree, and say that there are no headphones."
    press(page, "Begin", exact=True)
    expect(page.get_by_role("status").filter(has_text="tick the box first")).to_be_visible()
    page.get_by_label("I agree").check()
    press(page, "Begin", exact=True)
    expect(page.get_by_role("heading", name="Headphones")).to_be_visible()
    press(page, "I have no headphones")


def answer_one(page, heading, names, choice):
    "Answer a question; before its sounds are played, it takes no answer."
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    answer = page.get_by_role("button", name=choice, exact=True)
    for name in names:
        expect(answer).to_be_disabled()
        press(page, f"Play {name}", exact=True)
        expect(page.get_by_role("progressbar", name=f"how much of {name} was played")).to_have_js_property("value", 1)
    expect(answer).to_be_enabled()
    answer.click()


def test_listening_test(opened):
    page = opened(VOICES, RUN, "ask", "len(ask.test.answers), vl.widgets.ListeningTest(run, 'naturalness', by='speaker', seed=3, most=2).test.next")
    widget = cell(page, 3)
    begin_listening(widget)
    for heading in ("Practice 1 of 2", "Practice 2 of 2", "Question 1 of 2"): answer_one(widget, heading, ["sample"], "4: mostly natural")
    expect(widget.get_by_role("heading", name="Question 2 of 2")).to_be_visible()
    shown = widget.locator(".vl-listening").inner_html()
    assert not re.search(r"\b(noise|ada|tiny|evening)\b", shown)
    assert browser.run_cell(page, 4) == "(1, 1)"
    answer_one(widget, "Question 2 of 2", ["sample"], "2: mostly unnatural")
    expect(widget.get_by_text("That was the last question. Thank you.")).to_be_visible()
    press(widget, "For whoever makes the test")
    press(widget, "Show the results")
    expect(widget.locator("table").first).to_contain_text("rating")


@pytest.fixture(scope="module")
def sent_page(voices, tmp_path_factory):
    "A test whose sounds are short, and its page."
    from types import SimpleNamespace

    from test_runs import sample

    from voicelab.listening import ListeningTest
    from voicelab.reference import Reference
    from voicelab.runs import Run
    run, ada = Run(tmp_path_factory.mktemp("sent") / "run"), voices["ada"].audio
    short = Reference(ada.slice(0.5, 1.2), transcript="Old library.", consent="mine", remarks=())
    for n, (text, form) in enumerate((text, form) for text in ("One.", "Two.") for form in ("left", "right")):
        run.save(sample(text, short, audio=ada.slice(0.2 * n, 0.2 * n + 0.6), prompt=SimpleNamespace(form=form)))
    test = ListeningTest(run, seed=2)
    return test, test.write_page()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_that_is_sent_comes_back(chromium, sent_page, root, theme, tmp_path):
    test, path = sent_page
    context = chromium.new_context(viewport=dict(width=1280 if theme == "light" else 390, height=844), color_scheme=theme)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    page.screenshot(path=root / f"tests/out/sent_{theme}_1.png", full_page=True)
    press(page, "Begin", exact=True)
    expect(page.get_by_role("status").filter(has_text="give a name first")).to_be_visible()
    page.get_by_label("My name").fill(f"Kim {theme} <b>")
    page.screenshot(path=root / f"tests/out/sent_{theme}_2.png", full_page=True)
    begin_listening(page)
    names = ["reference", "A", "B"]
    for heading in ("Practice 1 of 2", "Practice 2 of 2"): answer_one(page, heading, names, "A")
    page.screenshot(path=root / f"tests/out/sent_{theme}_3.png", full_page=True)
    answer_one(page, "Question 1 of 2", names, "A")
    page.reload()                                                           # what was done is still there
    other = context.new_page()
    other.goto(path.as_uri())                                               # and in a second tab
    expect(other.get_by_role("heading", name="Question 2 of 2")).to_be_visible()
    answer_one(page, "Question 2 of 2", names, "B")
    expect(other.get_by_text("That was the last question.")).to_be_visible()
    page.screenshot(path=root / f"tests/out/sent_{theme}_4.png", full_page=True)
    with page.expect_download() as download: press(page, "Save the answers")
    download.value.save_as(tmp_path / "answers.json")
    assert download.value.suggested_filename.endswith(f"-Kim-{theme}-b-.json")
    page.evaluate("() => fetch('http://127.0.0.1:9/').catch(() => 0)")      # the policy stops it
    assert not [url for url in asked if not url.startswith(("file:", "blob:"))] and all("Content Security Policy" in error for error in errors)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert test.read_answers(tmp_path / "answers.json") == 2 and test.read_answers(tmp_path / "answers.json") == 0
    trials = test.page_plan()[1]
    wins = sum(trial.conditions["AB".index(answer)] == "left" for trial, answer in zip(trials, "AB"))
    results = test.results
    assert results.answers.sum() == 2 * results.listeners.max() and results.preferred[0] == wins / 2
    press(page, "Another listener")
    expect(page.get_by_label("My name")).to_have_value("")
    context.close()


def test_a_headphone_check(chromium, sent_page):
    page = chromium.new_page()
    page.add_init_script("""window.played = []; const begin = AudioBufferSourceNode.prototype.start
AudioBufferSourceNode.prototype.start = function (...args) { const [l, r] = [0, 1].map(n => this.buffer.getChannelData(n))
  played.push([Math.max(...l), l.every((x, n) => Math.abs(x + r[n]) < 1e-4)]); return begin.apply(this, args) }
const wait = window.setTimeout; window.setTimeout = (work, ms) => wait(work, ms / 20)""")
    page.goto(sent_page[1].as_uri())
    page.get_by_label("My name").fill("Ann")
    page.get_by_label("I agree").check()
    press(page, "Begin", exact=True)
    for number in range(1, 7):
        expect(page.get_by_text(f"Tones {number} of 6")).to_be_visible()
        expect(page.get_by_role("button", name="The first is the quietest")).to_be_disabled()
        press(page, "Play the three tones")
        expect(page.get_by_role("button", name="The first is the quietest")).to_be_enabled()
        tones = page.evaluate("played.splice(0)")
        assert len(tones) == 3 and [turned for _, turned in tones].count(True) == 1
        quiet = min(range(3), key=lambda n: tones[n][0])
        assert 20 * math.log10(max(peak for peak, _ in tones) / tones[quiet][0]) == pytest.approx(6, abs=0.1) and not tones[quiet][1]
        press(page, f"The {['first', 'second', 'third'][quiet]} is the quietest")
    expect(page.get_by_text("6 of 6 were right. You seem to hear with headphones.")).to_be_visible()
    press(page, "Go on")
    expect(page.get_by_role("heading", name="Practice 1 of 2")).to_be_visible()
    page.close()


BOARD = """import tempfile
board = vl.widgets.SweepBoard(model, tempfile.mkdtemp() + "/four")
board"""
CODED = """space = {}
if board.sweep: exec(board.code(), space)
board.sweep and ([cell.name for cell in space["sweep"].grid.cells] == [cell.name for cell in board.sweep.grid.cells], len(board.sweep))"""


def test_sweep_board(opened):
    page = opened(BOARD, CODED, "vl.widgets.SweepBoard(folder=board.sweep.folder) if board.sweep else 0")
    widget = cell(page, 1)
    widget.get_by_label("texts").fill(" ")
    press(widget, "Run")
    expect(widget.get_by_role("alert").filter(has_text="texts: needs at least one text")).to_be_visible()
    widget.get_by_label("texts").fill("Good evening.")
    press(widget, "Add an option")
    widget.get_by_label("levels").fill("0.3, 1.0")
    expect(widget.get_by_text(re.compile("4 cells, 0 made; 4 missing, about"))).to_be_visible()
    press(widget, "Try one cell")
    expect(widget.get_by_text(re.compile("4 cells, 1 made; 3 missing, about .* of work")).first).to_be_visible()
    press(widget, "Run")
    expect(status(widget, "4 cells, 4 made").first).to_be_visible()
    widget.get_by_role("tab", name="Compare").click()
    press(widget, "Measure")
    expect(status(widget, "Measured.")).to_be_visible()
    widget.get_by_role("tab", name="Listen").click()
    choose_two(page, widget)
    widget.get_by_role("tab", name="Compare").click()
    widget.get_by_label("compare by").select_option("temperature")
    press(widget, "Compare")
    expect(widget.get_by_text("temperature 1.0 against 0.3").first).to_be_visible()
    widget.get_by_role("tab", name="Export").click()
    press(widget, "Code")
    expect(widget.get_by_text("sweep = vl.Sweep(")).to_be_visible()
    assert browser.run_cell(page, 2) == "(True, 4)"
    browser.run_cell(page, 3)
    expect(cell(page, 3).get_by_text("Another board of this notebook")).to_be_visible()
    expect(cell(page, 3).get_by_label("levels")).to_have_value("0.3\n1.0")


SWEEP = """import tempfile
sweep = vl.Sweep(tempfile.mkdtemp() + "/temperatures", model=model, references=[ada, ben], texts="Good evening.",
                 sampling=[vl.Sampling(temperature=t) for t in (0.3, 1.0)])
sweep.run(most=3).measure("similarity", "ended")
sent = []"""
PIVOT = """pivot = vl.widgets.Pivot(sweep)
answer = pivot.page.answer
pivot.page.answer = lambda key: sent.append(key) or answer(key)
pivot"""
AGAIN = """opened = "opened" in globals()                      # all cells run once when the page is opened
if opened: sweep.run(); pivot.refresh()
opened = True"""


def choose_two(page, widget):
    "Play a sample, then another, then the first one again where the second is."
    samples = widget.locator("td button[data-point]")
    expect(samples).to_have_count(4)
    samples.nth(0).click()
    moment(widget, r"playing A, (0\.[2-9]|[1-9])")
    samples.nth(1).click()
    moment(widget, r"playing A, (0\.[3-9]|[1-9])")
    page.keyboard.press("b")
    moment(widget, r"playing B, (0\.[3-9]|[1-9])")
    page.keyboard.press("s")
    expect(widget.get_by_role("status").filter(has_text="heard B")).to_be_visible()
    expect(widget.get_by_role("table", name="the chosen samples").get_by_role("row", name=re.compile("^similarity"))).to_be_visible()
    samples.nth(1).focus()
    page.keyboard.press("ArrowRight")
    expect(samples.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    moment(widget, "playing A")


def test_pivot(opened):
    page = opened(VOICES, SWEEP, PIVOT, "sent, len(str(pivot.page.content)) < 5000", AGAIN)
    widget = cell(page, 3)
    expect(widget.get_by_role("button", name=re.compile("^show missing; ")).first).to_be_visible()
    choose_two(page, widget)
    assert browser.run_cell(page, 4) == "(['g0', 'g1', 'g2'], True)"                # each sound once, when it is played
    browser.run_cell(page, 5)
    expect(widget.get_by_role("button", name=re.compile("^show missing; "))).to_have_count(0)
    widget.get_by_label("columns").select_option("none")
    expect(widget.get_by_role("table", name="samples by two axes").get_by_role("row")).to_have_count(3)
    widget.locator("svg .dot").first.click()
    expect(widget.get_by_role("status").filter(has_text=re.compile("playing A|heard A"))).to_be_visible()
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") == 6         # no key was a command


STUDY = """import tempfile
asked = vl.widgets.Study(model, "length", references=[ada, ben], texts=["Good evening."], folder=tempfile.mkdtemp() + "/length")
asked.seeds.value = 1
asked"""


def test_study(opened):
    page = opened(VOICES, STUDY, "asked.result and (asked.result.state, len(asked.result.sweep))")
    widget = cell(page, 2)
    for name in ("cleo", "dan"): expect(widget.get_by_label(name, exact=True)).not_to_be_checked()
    press(widget, "Open in the pivot")
    expect(widget.get_by_role("alert").filter(has_text="there is no sweep to open yet")).to_be_visible()
    widget.get_by_label("options").fill("seconds=1\nwindows=1")
    press(widget, "Run")
    expect(status(widget, "complete, 4 samples.")).to_be_visible(timeout=SECONDS)
    answer = widget.get_by_role("listitem")
    expect(answer.filter(has_text="similarity: can't tell from which length on nothing is gained: no interval for 1 s")).to_be_visible()
    expect(answer.filter(has_text="wer is not judged: ")).to_be_visible()
    expect(widget.get_by_role("img").first).to_be_visible()
    widget.get_by_label("hear").select_option(index=1)
    assert heard(widget, "sample") > 0.3 and heard(widget, "its reference") >= 1
    gives(page, 3, "('complete, 4 samples', 4)".__eq__)
    press(widget, "Open in the pivot")
    samples = widget.locator("td button[data-point]")
    expect(samples).to_have_count(4)
    samples.nth(2).click()
    expect(widget.get_by_role("status").filter(has_text=re.compile("playing A|heard A"))).to_be_visible()
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") == 4         # no key was a command


GAINS = """window.gains = []; const make = AudioContext.prototype.createGain
AudioContext.prototype.createGain = function () { const node = make.call(this); window.gains.push(node); return node }"""


@pytest.fixture(scope="module")
def exported(model, voices, tmp_path_factory):
    "The page of a sweep whose last cell is missing, and the sweep."
    import voicelab as vl
    sweep = vl.Sweep(tmp_path_factory.mktemp("sweep") / "temperatures", model=model, references=[voices["ada"], voices["ben"]],
                     texts="Good evening.", sampling=[vl.Sampling(temperature=t) for t in (0.3, 1.0)])
    return sweep.run(most=3).measure("similarity", "ended").export("html"), sweep


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_from_disk(chromium, exported, root, theme):
    path, sweep = exported
    page, asked, errors = chromium.new_page(viewport=dict(width=1280, height=1000), color_scheme=theme), [], []
    page.add_init_script(GAINS)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    expect(page.get_by_text("AI-generated (synthetic) speech")).to_be_visible()
    choose_two(page, page.locator("main"))
    levels = [sweep[n].generated.rms_db for n in (0, 1)]
    quieter = [20 * math.log10(gain) + level for gain, level in zip(page.evaluate("gains.map(node => node.gain.value)"), levels)]
    assert all(abs(level + 23) < 1 for level in quieter), quieter
    page.get_by_label("same level").click()
    press(page, "A", exact=True)                            # it may have ended by itself
    page.wait_for_function("() => gains.at(-1).gain.value === 1")
    page.get_by_role("button", name="reference of A").click()
    expect(page.get_by_role("status").filter(has_text="the reference, ")).to_be_visible()
    page.screenshot(path=root / f"tests/out/page_{theme}.png", full_page=True)
    page.evaluate("() => fetch('http://127.0.0.1:9/').catch(() => 0)")                      # the policy stops it
    assert asked == [path.as_uri()] and all("Content Security Policy" in error for error in errors) and errors
    page.close()


def test_a_page_of_a_thousand_samples_is_quick(chromium, exported, tmp_path):
    from voicelab.page import content_of, html_file
    content, sounds = content_of(exported[1])
    sound, point = sounds["g0"].mp3(), content["points"][0]
    content["axes"][-1]["levels"] = list(range(1000))
    content["points"] = [point | dict(at=[*point["at"][:-1], n], sound=f"g{n}") for n in range(1000)]
    (path := tmp_path / "many.html").write_bytes(html_file(content, {f"g{n}": sound for n in range(1000)}))
    page, begun = chromium.new_page(), time.monotonic()
    page.goto(path.as_uri())
    page.locator("td button[data-point]").first.click()
    expect(page.get_by_role("status").filter(has_text="playing A")).to_be_visible()
    assert time.monotonic() - begun < 30 and page.locator("svg .dot").count() == 1000
    page.get_by_role("button", name="988 more").click()
    expect(page.locator("td button[data-point]")).to_have_count(1000)
    page.close()


def command(*words) -> list[str]: return [str(Path(sys.executable).with_name("voicelab")), *words]


@contextmanager
def neighbour(folder, body):
    "Another server on this machine, with one page; gives its address."
    (folder / "index.html").write_text(body)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try: yield f"http://127.0.0.1:{server.server_port}/"
        finally: server.shutdown()


VITA = """from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.models.glm4voice import tiny_glm4voice
from voicelab.reference import shipped_voices
vita, ada, ben = VitaModel(tiny_vita(), tiny_glm4voice()), shipped_voices()["ada"], shipped_voices()["ben"]
said = iter(())
def say(module, inputs, output): output[..., next(said)] = 1e4        # or the random weights write signs that nobody can read
vita.network.lm_head.register_forward_hook(say)
def plan():
    global said
    tokens, words = vita.parts.tokens, vita.tokenizer("It opens at nine, and the garden behind it a little later.").input_ids
    codes = [tokens.first_code + 7 * n for n in range(24)]
    runs = [[tokens.begin, *codes[n:n + 8], tokens.end] for n in (0, 8, 16)]
    said = iter([words[0], *runs[0], *words[1:9], *runs[1], *words[9:], *runs[2], tokens.stops[0]])
"""


def test_conversation(opened):
    page = opened(VITA, "talk = vl.widgets.Conversation(vita, question=ben.audio, reference=ada, option_steps=1)\nplan()\ntalk",
                  "plan(), len(talk.answers)")
    widget = cell(page, 2)
    expect(widget.get_by_text("Needs a question by voice; takes text, a reference as well")).to_be_visible()
    assert heard(widget, "input audio") > 1 and heard(widget, "chosen voice") > 1
    press(widget, "Ask")
    expect(status(widget, "Done.")).to_be_visible()
    expect(widget.get_by_text("It opens at nine, and the garden behind it a little later.")).to_be_visible()
    expect(widget.get_by_text("Stopped: eos")).to_be_visible()
    expect(widget.get_by_role("row", name=re.compile("system .* reference →"))).to_be_visible()
    expect(widget.get_by_role("row", name=re.compile("user .* input audio →"))).to_be_visible()
    expect(widget.get_by_text(re.compile("heard while it was made: [0-9.]+ s"))).to_be_visible()
    assert abs(heard(widget, "answer") - 1.92) < 0.05
    gives(page, 3, "(None, 1)".__eq__)
    widget.get_by_label("task", exact=True).select_option("text")
    expect(widget.get_by_label("voice", exact=True)).not_to_be_visible()
    widget.get_by_label("text", exact=True).fill("And on Sunday?")
    widget.get_by_label("text", exact=True).press("x")
    press(widget, "Ask")
    expect(widget.get_by_text("2. text")).to_be_visible()
    expect(status(widget, "Done.")).to_be_visible()
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") == 4


def test_steps_of_words_and_sound(opened):
    told = "from voicelab.families.vita.likelihood import saying\nanswer = saying(vita, 'It opens at nine.', range(0, 16_000, 500))\nanswer.__enter__()\n"
    page = opened(VITA.partition("said =")[0] + told, "walk = vl.widgets.DelayPattern(vita, 'It opens at nine.', ada, option_steps=1)\nwalk",
                  "walk.generation.mode")
    widget = cell(page, 2)
    widget.get_by_label("mode", exact=True).select_option("boost")
    press(widget, "Generate")
    expect(status(widget, "stopped by eos")).to_be_visible()
    widget.get_by_role("slider", name="step").press("Home")
    for _ in range(4): press(widget, "Forward")
    expect(widget.get_by_role("row", name="drawn by head 3")).to_be_visible()
    expect(widget.get_by_role("row", name="block of the vocoder 0: codes 0 to 7")).to_be_visible()
    expect(widget.get_by_role("row", name=re.compile("^looks at recording [0-9]+%, text to say [0-9]+%, own words"))).to_be_visible()
    expect(widget.get_by_text("[♪ 8 codes, 0.00 to 0.64 s]")).to_be_visible()
    press(widget, "Hear up to here")
    assert abs(heard(widget, "up to here") - 0.24) < 0.05
    assert browser.run_cell(page, 3) == "'boost'"


TWO = "The old library opens at nine in the morning, and the garden behind it a little later.", "Hello there."
PHONE = dict(width=390, height=844)


def test_studio(chromium, root, tmp_path):
    "Two people at once: what one is shown, saves and deletes; a page on a telephone; a page that loses its place."
    url = f"http://127.0.0.1:{(port := browser.free_port())}"
    (home := tmp_path / "home").mkdir()
    (lines := tmp_path / "lines").mkdir()
    words = ("--no-browser", f"--port={port}", f"--Voila.connection_dir_root={lines}")
    with browser.serving(command("studio", "--pages", "2", "--", *words), url, home, tmp_path) as log:
        assert browser.soon(lambda: "?token=" in log.read_text())
        token = re.search(r"\?token=\w+", log.read_text())[0]
        page, other = (browser.watched_page(chromium) for _ in range(2))
        for each in (page, other): each.set_default_timeout(3 * SECONDS)
        other.emulate_media(color_scheme="dark")
        page.goto(f"{url}/{token}")
        for each in (page, other):
            if each is other: other.goto(f"{url}/{token}")
            each.get_by_label("text", exact=True).fill(TWO[each is other])
        with SharedTurns(next(lines.glob("*")) / "queue"):              # somebody is first
            for each, before in ((page, "one is"), (other, "2 are")):
                press(each, "Generate")
                expect(status(each, f"Waiting for the model: {before} before you.")).to_be_visible()
        for each in (page, other): expect(status(each, "Done.")).to_be_visible(timeout=3 * SECONDS)
        assert heard(page, "result") > 0.5 < heard(other, "result") != heard(page, "result")
        expect(page.get_by_text("heard while it was made")).to_be_visible()
        other.screenshot(path=root / "tests/out/studio_dark.png")
        found = [f"dark: {each}" for each in browser.violations(other, "body")]
        for name, size in (("studio", dict(width=1280, height=1600)), ("studio_phone", PHONE)):
            page.set_viewport_size(size)
            for tab in page.get_by_role("tab").all():
                tab.click()
                page.wait_for_timeout(500)
                page.wait_for_function("() => [...document.querySelectorAll('.noUi-handle')].every(handle => handle.ariaLabel)")
                page.screenshot(path=root / f"tests/out/{name}_{tab.inner_text().split()[-1].lower()}.png")
                if name == "studio": found += [f"{tab.inner_text()}: {each}" for each in browser.violations(page, "body")]
                if page.evaluate("() => document.documentElement.scrollWidth > innerWidth"): found.append(f"{tab.inner_text()}: scrolls sideways")
        assert not found, "\n".join(found)
        page.get_by_role("tab", name="Tuner").click()
        expect(page.get_by_role("button", name="Generate")).to_be_in_viewport()     # on a telephone, without scrolling
        page.get_by_label("folder").and_(page.locator(":visible")).first.fill("../outside")
        press(page, "Save all")
        expect(page.get_by_text(re.compile("folder: must be in .* or below, got '../outside'"))).to_be_visible()
        page.get_by_label("folder").and_(page.locator(":visible")).first.fill("mine")
        press(page, "Save all")
        expect(status(page, "1 sample in mine.")).to_be_visible()
        (folder,) = tmp_path.glob("studio/*")
        assert not any(path.stat().st_mode & 0o077 for path in [folder, *folder.rglob("*")])
        for each, words in ((other, "Nothing of yours is on the disk."), (page, re.compile("files? .* Only this studio's owner"))):
            each.get_by_role("tab", name="What is kept").click()
            expect(each.get_by_text(words)).to_be_visible()
        page.get_by_label("I mean it").check()
        press(page, "Delete all of it")
        expect(page.get_by_text("It is deleted.")).to_be_visible()
        assert not folder.exists()
        with neighbour(home, f"<img src='{url}/'><iframe src='{url}/{token}'></iframe>") as elsewhere, page.expect_popup() as popup:
            page.evaluate("url => { window.open(url) }", elsewhere)            # with the studio's cookie in the jar
            popup.value.wait_for_load_state()
        assert all(f"403 GET /{asked} " in log.read_text() for asked in ("", token)) and log.read_text().count("Kernel started") == 2
        page.context.set_offline(True)                                         # a tunnel
        expect(page.get_by_role("alert").filter(has_text="The studio does not answer")).to_be_visible()
        page.context.set_offline(False)
        expect(page.get_by_role("alert").filter(has_text="The studio does not answer")).to_be_hidden()
        page.get_by_role("tab", name="Tuner").click()
        page.get_by_label("folder").and_(page.locator(":visible")).first.fill("again")
        press(page, "Save all")
        expect(status(page, "1 sample in again.")).to_be_visible()
        page.reload()                                                          # it says farewell, or there were no place for another
        expect(page.get_by_role("button", name="Generate")).to_be_visible()
        page.get_by_role("tab", name="Listening test").click()                 # it finds what was saved before
        expect(page.get_by_role("option", name="again")).to_be_attached()
        first, _, third = re.findall("Kernel started: (\\S+)", log.read_text())
        assert f"Kernel shutdown: {first}" in log.read_text()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/api/kernels/{third}{token}", method="DELETE")): pass
        expect(page.get_by_text("This page has ended, and what was not saved is lost.")).to_be_visible()
        assert not page.errors and not other.errors


def test_lab_opens_at_the_lessons(tmp_path):
    url = f"http://127.0.0.1:{(port := browser.free_port())}"
    words = ("--no-browser", f"--port={port}", "--allow-root", "--IdentityProvider.token=")
    with browser.serving(command("lab", "--", *words), f"{url}/api/status", tmp_path):
        with urllib.request.urlopen(url) as answer: assert answer.url == f"{url}/lab/tree/index.ipynb"
        with urllib.request.urlopen(f"{url}/api/contents/lessons?content=0") as answer: assert answer.status == 200
