"""Make pictures of every widget and of the README's example; `make screenshots` runs this.

    python make_pictures.py ../images            # the README's: clone.png, tuner.png and sweep.png; needs Chromium
    python make_pictures.py FOLDER --all         # each widget, light and dark, 1280, 1920 and 390 pixels wide, and the studio's tabs
"""
import argparse
import io
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import voicelab as vl
from voicelab.asr import CACHE
from voicelab.reference import shipped_voices

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))
import browser
from PIL import Image
from playwright.sync_api import expect

VOICE, WORDS = ROOT / "data/voices/ada.wav", "The old library opens at nine in the morning."
TEXT = "The garden is open today."
WIDTHS, SECONDS = (1280, 1920, 390), 300_000

START = """import tempfile
import voicelab as vl
from voicelab.reference import shipped_voices
ada, ben, *_ = shipped_voices().values()
if "model" not in globals(): model = vl.load("tiny")     # the notebooks share a kernel"""
RUN = """run = vl.Run(tempfile.mkdtemp())
for voice in (ada, ben): run.save(model.clone("The garden is open today.", reference=voice, seed=0))
"""
SWEEP = """sweep = vl.Sweep(tempfile.mkdtemp(), model=model, references=[ada, ben], texts=["Good evening."],
                 sampling=[vl.Sampling(temperature=t) for t in (0.3, 1.0)]).run().measure("similarity")
"""
STUDY = """widget = vl.widgets.Study(model, "length", references=[ada, ben], texts=["Good evening."], folder=tempfile.mkdtemp() + "/length")
widget.seeds.value, widget.options.value = 2, "seconds=1, 2, 3\\nwindows=1"
"""
HEARD = f"""made = model.clone("The garden is open today.", reference=ada, seed=1)
widget = vl.widgets.WordTimeline(made, recogniser={str(CACHE / "whisper-base")!r})
"""
VITA = """from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.models.glm4voice import tiny_glm4voice
vita = VitaModel(tiny_vita(), tiny_glm4voice())
"""
SAYING = """from voicelab.families.vita.likelihood import saying
TEXT = "It opens at nine."
widget = vl.widgets.{}
with saying(vita, TEXT, range(0, 16_000, 500)):          # random weights don't take turns
    widget.run()
    widget.worker.wait()"""
WIDGETS = {         # by name of the picture: what makes it, the button that is pressed, and what is seen when it is done
    "Tuner": ("widget = vl.widgets.Tuner(model)\nwidget.knobs.seed.value = 1", "Generate", "Done."),
    "PromptAnatomy": ("widget = vl.widgets.PromptAnatomy(model)", None, None),
    "DelayPattern": ("widget = vl.widgets.DelayPattern(model)", "Generate", "stopped by"),
    "Steps": (VITA + SAYING.format("DelayPattern(vita, TEXT, ada, mode='boost', option_steps=1)"), None, None),
    "Ablation": ("widget = vl.widgets.Ablation(model)\nfor arm, tick in widget.ticks.items(): tick.value = arm in ('right', 'none')", "Run", "samples."),
    "CodecExplorer": ("widget = vl.widgets.CodecExplorer(model)", "Decode", "The codec's ceiling"),
    "AttentionMap": ("widget = vl.widgets.AttentionMap(model)", "Generate", "frames over"),
    "OwnWords": (VITA + SAYING.format("AttentionMap(vita, TEXT, ada, option_steps=1)")
                 + "\nwidget.over.value = 'written'\nwidget.worker.wait()\nwidget.check.click()", None, None),
    "Conversation": (VITA + "widget = vl.widgets.Conversation(vita, question=ben.audio, reference=ada)\nwidget.most.value = 30", "Ask", "Stopped: "),
    "Microphone": ("widget = vl.widgets.Microphone()", "Record", None),
    "Pivot": (SWEEP + "widget = vl.widgets.Pivot(sweep)", None, None),
    "SweepBoard": (SWEEP + "widget = vl.widgets.SweepBoard(folder=sweep.folder)", None, None),
    "Study": (STUDY, "Run", "complete, "),
    "ListeningTest": (RUN + "widget = vl.widgets.ListeningTest(run, 'similarity')", None, None),
    "WordTimeline": (HEARD + "widget.worker.wait()", None, None),
}
if not (CACHE / "whisper-base").exists():
    print("WordTimeline is left out: no recogniser is there (tests/recogniser.py fetches one)")
    del WIDGETS["WordTimeline"]


def keep(file: Path, png: bytes):
    "Write a picture; a large one with 256 colours, the pale ones too."
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if len(png) > 150_000: picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)


def draw(audio, ax, title, limit):
    ax.specgram(np.pad(audio.samples, (0, max(0, round((limit - audio.seconds) * audio.rate)))) + 1e-6, NFFT=960, noverlap=720,
                Fs=audio.rate, cmap="magma", vmin=-140, vmax=-50)
    ax.set(title=title, ylabel="frequency / Hz", ylim=(0, 8000), xlim=(0, limit))


def draw_clone(folder: Path):
    "A reference and its clone, with the budget and the probability of the end; and the clone as a sound that a browser plays."
    reference = vl.Reference(VOICE, transcript=WORDS, consent="synthetic voice, made with espeak-ng for voicelab")
    made = vl.load("tiny").clone(TEXT, reference=reference, seed=1)
    limit = max(reference.audio.seconds, made.budget.cap_seconds)
    fig, (top, middle, bottom) = plt.subplots(3, 1, figsize=(9, 7), sharex=True, height_ratios=(2, 2, 1), constrained_layout=True)
    draw(reference.audio, top, f"reference: “{WORDS}”", limit)
    draw(made.audio, middle, f"clone: “{TEXT}”, similarity {made.report()['similarity'].value:.2f}, stopped: {made.stop_reason}", limit)
    bottom.step(made.trace.column / 25, made.trace.eos_probability, color="tab:orange", label="probability of the end")
    bottom.axvline(made.budget.seconds, color="tab:blue", linestyle=":", label=f"expected {made.budget.seconds:.1f} s")
    bottom.axvline(made.budget.cap_seconds, color="tab:red", linestyle="--", label=f"budget {made.budget.cap_seconds:.1f} s")
    bottom.set(xlabel="time / s", ylabel="probability", ylim=(0, 1.05))
    bottom.legend(loc="center right")
    fig.savefig(file := io.BytesIO(), dpi=110)
    keep(folder / "clone.png", file.getvalue())
    made.audio.save(folder / "clone.mp3")
    reference.audio.save(folder / "reference.mp3")


@contextmanager
def lab():
    "A JupyterLab with a browser and a loaded model."
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder, browser.chromium() as chromium, \
         browser.jupyterlab(Path(home), Path(folder)) as url:
        yield browser.Lab(url, Path(folder), chromium)


def used(shared, name: str):
    "A page of JupyterLab with a widget that has done its work, and the widget."
    code, button, done = WIDGETS[name]
    page = shared.open(name, START, f"{code}\nwidget")
    widget = page.locator(".jp-Cell").nth(1).locator(".voicelab-panel").first
    if button:
        widget.get_by_role("button", name=button).first.click()
        if done: expect(widget.get_by_text(re.compile(re.escape(done))).first).to_be_visible(timeout=SECONDS)
        page.wait_for_timeout(3000)                         # the sound is played to its end, and the measures come
    return page, widget


def settle(page, widget):
    "Wait until the page has its width, and the kernel has drawn its pictures for it."
    seen, same = None, 0
    while same < 4:
        page.wait_for_timeout(400)
        now = widget.evaluate("widget => [widget.clientWidth, ...[...widget.querySelectorAll('img')].map(image => image.src.length)].join()")
        seen, same = now, same + 1 if now == seen else 0
    page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')")


def draw_widgets(folder: Path):
    "Each widget in JupyterLab, in two themes and three widths."
    with lab() as shared:
        for name in WIDGETS:
            page, widget = used(shared, name)
            for theme in ("Light", "Dark"):
                browser.do(page, "apputils:change-theme", theme=f"JupyterLab {theme}")
                for width in WIDTHS:
                    page.set_viewport_size(dict(width=width, height=6000))
                    settle(page, widget)
                    widget.screenshot(path=folder / f"{name}_{theme.lower()}_{width}.png")
            browser.forget_widgets(page)
            page.close()


def draw_studio(folder: Path):
    "The tabs of the studio, in two themes and three widths."
    for theme in ("light", "dark"):
        url = f"http://127.0.0.1:{(port := browser.free_port())}"
        command = [str(Path(sys.executable).with_name("voicelab")), "studio", "--", "--no-browser", f"--port={port}"]
        with tempfile.TemporaryDirectory() as home, browser.serving(command, url, Path(home), Path(home)) as log, browser.chromium() as chromium:
            assert browser.soon(lambda: "?token=" in log.read_text())
            page = chromium.new_page(viewport=dict(width=1280, height=844), color_scheme=theme)
            page.goto(url + "/" + re.search(r"\?token=\w+", log.read_text())[0])
            page.get_by_role("button", name="Generate").click(timeout=SECONDS)
            expect(page.get_by_role("status").filter(has_text="Done.")).to_be_visible(timeout=SECONDS)
            for tab in page.locator(".voicelab-tabs").get_by_role("tab").all():
                tab.click()
                page.wait_for_timeout(4000)                 # the kernel makes what is in it
                for width in WIDTHS:
                    page.set_viewport_size(dict(width=width, height=844 if width < 600 else 2400))
                    page.wait_for_timeout(700)
                    page.screenshot(path=folder / f"studio_{tab.inner_text().replace(' ', '_').lower()}_{theme}_{width}.png")


def draw_tuner(folder: Path):
    "The tuner in JupyterLab, after it has made a sample."
    with lab() as shared:
        page, widget = used(shared, "Tuner")
        page.set_viewport_size(dict(width=1280, height=3000))
        settle(page, widget)
        keep(folder / "tuner.png", widget.screenshot())


def draw_sweep(folder: Path):
    "The page of a sweep, with two samples that were played."
    voices = list(shipped_voices().values())[:3]
    with tempfile.TemporaryDirectory() as place, browser.chromium() as chromium:
        sweep = vl.Sweep(f"{place}/temperatures", model="tiny", references=voices, texts=["The boat was blue.", "Eleven bells rang."], seeds=[1, 2],
                         sampling=[vl.Sampling(temperature=t) for t in (0.3, 0.7, 1.2)]).run().measure("similarity", "ended")
        page = chromium.new_page(viewport=dict(width=1180, height=900))
        page.goto(sweep.export("html").as_uri())
        for number in (6, 1): page.locator("td button[data-point]").nth(number).click()
        expect(page.get_by_role("status").filter(has_text="playing A")).to_be_visible()
        keep(folder / "sweep.png", page.screenshot())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="each widget in two themes and three widths, and the studio")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for each in (draw_widgets, draw_studio) if given.all else (draw_clone, draw_tuner, draw_sweep): each(given.folder)


if __name__ == "__main__": main()
