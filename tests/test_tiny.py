"The model that ships: what it does with Arabic, with texts it barely saw, with people; and the measures of its card."
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import voicelab as vl
from voicelab.audio import Audio
from voicelab.metrics import similarity
from voicelab.text import strip_harakat

RECORDINGS = Path(os.environ.get("VOICELAB_VOICES", "no-such-folder"))
recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings: {RECORDINGS} is absent (set VOICELAB_VOICES)")
BREAKFAST = "شَرِبْنَا الْقَهْوَةَ فِي الصَّبَاحِ."


@pytest.mark.parametrize("text", ["Yes.", "Room 25 is closed.", "It began on 4 May 1998.", "Dr. Smith met Mr. Jones at 8 a.m.",
                                  "Wait... what?! No, really?", " ".join(["The garden is open today and tomorrow."] * 9)])
def test_texts_that_training_barely_had_end_by_themselves(model, voices, text):
    made = model.clone(text, reference=voices["ada"], seed=0)
    expected = sum(budget.reading_seconds for budget in (chunk.budget for chunk in made.chunks))
    assert made.stop_reason == "eos" and 0.2 < made.audio.seconds < 3 * expected + 1


def test_vowel_marks_do_not_change_the_length_of_what_is_said(model, voices):
    marked, bare = (np.mean([model.clone(text, reference=voices["noor"], seed=seed).audio.seconds for seed in range(3)])
                    for text in (BREAKFAST, strip_harakat(BREAKFAST)))
    assert 0.75 < marked / bare < 1.33


def test_bare_words_get_vowel_marks(model, voices):
    "In text and transcript, and in every part of a long text; marks that somebody wrote stay, and `vowels=False` leaves a text alone."
    noor = voices["noor"]
    bare_noor = vl.Reference(noor.audio, transcript=strip_harakat(noor.transcript), consent="synthetic")
    prompt = model.prompt("قرأنا الكتاب، والكِتاب قديم.", bare_noor)
    assert "قرأنا" not in prompt.text and "والكِتاب" in prompt.text and bare_noor.transcript not in prompt.text
    assert strip_harakat(prompt.text) == strip_harakat(model.prompt("قرأنا الكتاب، والكِتاب قديم.", bare_noor, vowels=False).text)
    as_typed = model.prompt("قرأنا الكتاب.", bare_noor, vowels=False).text
    assert "قرأنا الكتاب." in as_typed and bare_noor.transcript in as_typed
    at_most = "كتاب " * 9_990                               # marks count for nothing, in the limit of a text, too
    assert len(model.prompt(at_most, bare_noor, vowels=False).text) < len(model.prompt(at_most, bare_noor).text)
    long = model.session("قرأنا الكتاب في البيت مع الأصدقاء. " * 6, reference=noor, seed=0)
    assert len(long.chunks) > 1 and all("قرأنا" in chunk.text and "قرأنا" not in chunk.prompt.text for chunk in long.chunks)


@pytest.mark.parametrize("name, text", [("noor", "Please bring two cups of coffee to the garden."), ("dan", BREAKFAST)])
def test_a_voice_is_kept_across_languages(model, voices, name, text):
    made = [model.clone(text, reference=voices[name], seed=seed).audio for seed in range(3)]
    to = {other: np.mean([similarity(audio, reference).value for audio in made]) for other, reference in voices.items()}
    assert to[name] > np.mean([value for other, value in to.items() if other != name]) + 0.05, to


@recordings
def test_people_through_the_codec_and_as_clones(model, record_property):
    heard = {path.stem: vl.Reference(path, transcript=path.with_suffix(".txt").read_text().strip() if path.with_suffix(".txt").exists() else None,
                                     consent="test only") for path in sorted(RECORDINGS.glob("*.wav"))}
    assert heard
    for name, reference in heard.items():
        through = model.codec.decode(model.codec.encode(reference.audio))
        to = {other: similarity(through, person).value for other, person in heard.items()}
        record_property(f"{name} through the codec", to[name])
        assert max(to, key=to.get) == name, to
        if not reference.transcript: continue
        made = model.clone("The garden is open today.", reference=reference, seed=0)
        record_property(f"{name} cloned", similarity(made.audio, reference).value)
        assert made.stop_reason == "eos" and 0.5 < made.audio.seconds < 6


@pytest.fixture(scope="module")
def measures(root):
    "The recipe's module of that name."
    pytest.importorskip("librosa", reason="the recipe's measures need librosa")
    folder = str(root / "nbs/recipes/tiny")
    sys.path.insert(0, folder)
    try: return importlib.import_module("measures")
    finally: sys.path.remove(folder)


def test_the_cepstral_distance_hears_words_not_pace(measures, voices):
    ada, dan = voices["ada"].audio, voices["dan"].audio
    slower = Audio(np.repeat(ada.samples.reshape(-1, 240), 2, 0).ravel()[:len(ada.samples) * 2], ada.rate)   # each 10 ms twice
    assert measures.cepstral_distance(ada, ada) == pytest.approx(0, abs=1e-9)
    assert measures.cepstral_distance(ada, slower) < 0.6 * measures.cepstral_distance(ada, dan)


def test_scales_have_their_anchors_where_they_say(measures):
    value, zero, one = (np.full((5, 2), number) for number in (0.6, 0.5, 0.7))
    for value, expected in ((zero, 0), (value, 0.5), (one, 1)):
        assert measures.scale_interval(value, zero, one) == pytest.approx((expected,) * 3)


def test_intervals_cover_the_mean_as_often_as_they_say(measures):
    rng = np.random.default_rng(0)
    inside = [low <= 0 <= high for _, low, high in (measures.mean_interval(rng.normal(size=(30, 3))) for _ in range(120))]
    assert 0.85 < np.mean(inside) <= 1
