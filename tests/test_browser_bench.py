"The bench of widgets in JupyterLab: ablation, codec explorer, where it listens, listening test, microphone."
import re

import browser
import pytest

if browser.missing(): pytest.importorskip("test_browser")       # skips with its reason, or fails where a browser is required
from test_browser import chromium, lab, opened  # noqa: F401  (fixtures)

VOICES = "from voicelab.widgets.voice import shipped_voices\nada, ben = (shipped_voices()[name] for name in ('ada', 'ben'))"


TONE = """() => { navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext(), tone = context.createOscillator(), quieter = context.createGain(), out = context.createMediaStreamDestination()
    quieter.gain.value = 0.2; tone.connect(quieter).connect(out); tone.start(); return out.stream } }"""


def record(page, widget):
    from playwright.sync_api import expect
    widget.get_by_role("button", name="Record").click()
    expect(widget.locator(".voicelab-recorder")).to_have_text(re.compile("recording: [3-9]"), timeout=30_000)
    widget.get_by_role("button", name="Stop").click()


def test_microphone(opened):  # noqa: F811
    from playwright.sync_api import expect
    page = opened("microphone = vl.widgets.Microphone()\nmicrophone", "print(microphone.reference)")
    widget = page.locator(".jp-Cell").nth(1)
    record(page, widget)                                    # the browser's own beeps are at full scale
    expect(widget.get_by_text(re.compile("^recording: .* at full scale"))).to_be_visible(timeout=30_000)
    assert browser.run_cell(page, 2).strip() == "None"
    page.evaluate(TONE)
    record(page, widget)
    expect(widget.get_by_text("State the consent")).to_be_visible(timeout=30_000)
    player = widget.locator("audio[aria-label='recording']")
    assert browser.seconds_of(player) > 2 and browser.hear(player) > 0.1
    widget.get_by_label("consent").fill("a machine's tone, for a test")
    page.keyboard.press("Tab")
    expect(widget.get_by_text(re.compile("^Ready: "))).to_be_visible(timeout=30_000)
    assert "Reference('microphone'" in browser.run_cell(page, 2)


def test_where_it_listens(opened):  # noqa: F811
    from playwright.sync_api import expect
    page = opened("look = vl.widgets.Listening(model)\nlook", "look.map.place, look.worker.error")
    widget = page.locator(".jp-Cell").nth(1)
    widget.get_by_role("button", name="Generate").click()
    expect(widget.get_by_text(re.compile("^[0-9]+ frames over [0-9]+ positions"))).to_be_visible(timeout=120_000)
    canvas, heard = widget.locator("canvas.voicelab-map"), widget.locator(".voicelab-heard")
    canvas.click(position=dict(x=400, y=180))
    expect(heard).to_have_text(re.compile("^heard [0-9.]+ s: sample [0-9.]+ s, then recording [0-9.]+ s"), timeout=30_000)
    expect(widget.get_by_text("this head looks most at")).to_be_visible(timeout=30_000)
    first = browser.run_cell(page, 2)
    canvas.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"): page.keyboard.press(key)
    expect(heard).to_have_text(re.compile("^heard "), timeout=30_000)
    assert browser.run_cell(page, 2) != first and first.endswith("None)")
    widget.get_by_role("button", name="text").click()
    expect(widget.get_by_role("combobox", name="head")).to_contain_text("of its weight on the text", timeout=30_000)


def test_ablation(opened):  # noqa: F811
    from playwright.sync_api import expect
    page = opened("bench = vl.widgets.Ablation(model)\nfor arm in ('wrong_transcript', 'reversed', 'half_length'): bench.ticks[arm].value = False\nbench",
                  "len(bench.result.trials), bench.worker.error")
    widget = page.locator(".jp-Cell").nth(1)
    widget.get_by_role("button", name="Run").click()
    expect(widget.get_by_text("8 of 8 samples.")).to_be_visible(timeout=180_000)
    widget.get_by_label("hear").select_option(label="noise, seed 1")
    player = widget.locator("audio[aria-label='sample']")
    assert browser.seconds_of(player) > 0.5 and browser.hear(player) > 0.1
    expect(widget.locator("table")).to_contain_text("other speaker")
    assert browser.run_cell(page, 2) == "(8, None)"


def test_codec_explorer(opened):  # noqa: F811
    from playwright.sync_api import expect
    page = opened("explorer = vl.widgets.CodecExplorer(model)\nexplorer", "explorer.k.value, explorer.mixture.books")
    widget = page.locator(".jp-Cell").nth(1)
    widget.get_by_role("button", name="Decode").click()
    expect(widget.get_by_text(re.compile("^The codec's ceiling"))).to_be_visible(timeout=120_000)
    widget.get_by_role("slider", name="codebooks").focus()
    for _ in range(5): page.keyboard.press("ArrowLeft")
    expect(widget.get_by_text(re.compile("similarity 0.[0-9]+, distance .* 750 bits a second"))).to_be_visible(timeout=30_000)
    widget.get_by_role("button", name="Exchange").click()
    expect(widget.get_by_text("of the longer recording are left out")).to_be_visible(timeout=60_000)
    for name in ("first codebooks", "mixture"):
        player = widget.locator(f"audio[aria-label='{name}']")
        assert browser.seconds_of(player) > 2 and browser.hear(player) > 0.1
    assert browser.run_cell(page, 2) == "(3, (0,))"


RUN = """import dataclasses, tempfile
from voicelab.ablation import make_arm
run = vl.Run(tempfile.mkdtemp())
for text in ("The garden is open today.", "Seven small boats came home."):
    for heard in (ada, make_arm("noise", ada)): run.save(dataclasses.replace(model.clone(text, reference=heard, seed=0), reference=ada), speaker=heard.name)
ask = vl.widgets.ListeningTest(run, by="speaker", seed=3)"""


def test_listening_test(opened):  # noqa: F811
    from playwright.sync_api import expect
    page = opened(VOICES, RUN, "ask", "len(ask.test.answers), vl.widgets.ListeningTest(run, by='speaker', seed=3).number")
    widget = page.locator(".jp-Cell").nth(3)
    expect(widget.get_by_text("Question 1 of 2")).to_be_visible()
    shown = widget.locator(".jp-OutputArea").inner_html()
    assert not re.search(r"\b(noise|ada|tiny)\b", re.sub('src="[^"]*"', "", shown))
    for name in ("reference", "A", "B"):
        player = widget.locator(f"audio[aria-label='{name}']")
        assert browser.seconds_of(player) > 0.5 and browser.hear(player) > 0.1
    widget.get_by_role("button", name="A", exact=True).click()
    expect(widget.get_by_text("Question 2 of 2")).to_be_visible(timeout=30_000)
    assert browser.run_cell(page, 4) == "(1, 1)"
    widget.get_by_role("button", name="B", exact=True).click()
    widget.get_by_role("button", name="Show the results").click()
    expect(widget.locator("table")).to_contain_text("preferred", timeout=30_000)
