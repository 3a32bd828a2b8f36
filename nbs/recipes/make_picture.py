"""Make the README's pictures: a reference and its clone, with the budget and the probability of the end; and the tuner.

    python make_picture.py ../images/clone.png        # run from nbs/recipes
    python make_picture.py ../images/tuner.png        # needs Chromium
"""
import re
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import voicelab as vl

VOICE, WORDS = "../../data/voices/ada.wav", "The old library opens at nine in the morning."
TEXT = "The garden is open today."


def draw(audio, ax, title, limit):
    ax.specgram(np.pad(audio.samples, (0, max(0, round((limit - audio.seconds) * audio.rate)))) + 1e-6, NFFT=960, noverlap=720,
                Fs=audio.rate, cmap="magma", vmin=-140, vmax=-50)
    ax.set(title=title, ylabel="frequency / Hz", ylim=(0, 8000), xlim=(0, limit))


def draw_tuner(path):
    "The tuner in JupyterLab, after it has made a sample."
    sys.path.append("../../tests")
    import browser
    from playwright.sync_api import expect
    tuner = f"import voicelab as vl\ntuner = vl.widgets.Tuner(vl.load('tiny'), {TEXT!r})\ntuner.knobs.seed.value = 1\ntuner"
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder, browser.chromium() as chromium, \
         browser.jupyterlab(Path(home), Path(folder)) as url:
        page = browser.Lab(url, Path(folder), chromium).open("tuner", tuner)
        page.set_viewport_size(dict(width=1280, height=2000))
        widget = page.locator(".jp-Cell").first.locator(".jp-OutputArea-output")
        widget.get_by_role("button", name="Generate").click()
        expect(widget.get_by_role("row", name=re.compile("similarity"))).to_be_visible(timeout=300_000)
        page.wait_for_timeout(3000)                         # the sound is played to its end
        widget.screenshot(path=path)


def draw_clone(path):
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
    fig.savefig(path, dpi=110)


if __name__ == "__main__": (draw_tuner if Path(sys.argv[1]).stem == "tuner" else draw_clone)(sys.argv[1])
