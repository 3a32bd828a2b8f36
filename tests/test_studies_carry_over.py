"What is copied from a reference: slopes of known truth, bad input, interruption, every family; and the changes that make the slopes."
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_sweep import folder_of_whistler, whistler  # noqa: F401

from voicelab.audio import Audio
from voicelab.backends import BACKENDS
from voicelab.colour import noise_floor, spectral_tilt
from voicelab.corrupt import louder
from voicelab.prosody import f0_median
from voicelab.reference import Reference
from voicelab.retouch import PROPERTIES, faster, higher, noisy, paused, retouched, shelved
from voicelab.studies.carry_over import CarryOver, across_slope, carry_over, copied, slope_words, within_slope
from voicelab.study import TEXTS, StudyError

def points(rng, voices=4, texts=3, seeds=2, slope=0.5, across=0.5, steps=(-1.0, 0.0, 1.0), noise=0.1):
    "Clones that copy `slope` of a change, and `across` of the differences between voices; those have no other reason."
    height = rng.normal(0, 2, voices)
    voice, text, seed, step = np.array(np.meshgrid(*map(range, (voices, texts, seeds, len(steps))), indexing="ij")).reshape(4, -1)
    change = np.array(steps)[step]
    y = across * height[voice] + slope * change + 0.3 * text + rng.normal(0, noise, len(change))
    return pd.DataFrame(dict(voice=voice, text=text, seed=seed, x=height[voice] + change, y=y, step=change))


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.5, 1.0, 1.5])
def test_a_slope_within_a_voice_is_found_whatever_differs_between_voices(slope):
    made = points(np.random.default_rng(1), slope=slope, across=3.0)
    found = within_slope(made)
    assert abs(found.mean - slope) < 0.1 and found.low <= slope <= found.high and (found.speakers, found.texts) == (4, 3)
    wanted = {-0.5: "turned around", 0.0: "no copying is seen", 0.5: "copied in part", 1.0: "copied; it can't", 1.5: "more than copied"}
    assert copied(found).startswith(wanted[slope])


def test_a_slope_across_voices_is_another_number():
    made = points(np.random.default_rng(2), voices=8, slope=0.0, across=1.0)
    assert within_slope(made).high < 0.5 < across_slope(made[made.step == 0]).low


def test_intervals_across_voices_hold_the_truth():
    rng, held = np.random.default_rng(3), {4: [], 8: []}
    for voices, kept in held.items():
        for _ in range(60):
            made = points(rng, voices=voices, steps=(0.0,))
            made["y"] += rng.normal(0, 1, voices)[made.voice]           # each voice has more of its own than its height
            found = across_slope(made)
            kept.append(found.low <= 0.5 <= found.high)
    assert np.mean(held[4]) > 0.88 and np.mean(held[8]) > 0.88


def test_more_seeds_do_not_make_a_slope_across_voices_surer():
    rng = np.random.default_rng(4)
    few, many = points(rng, steps=(0.0,), seeds=1), points(np.random.default_rng(4), steps=(0.0,), seeds=20)
    own = np.array([1.0, -1.0, 0.5, -0.5])
    wide = [(found := across_slope(made.assign(y=made.y + own[made.voice]))).high - found.low for made in (few, many)]
    assert wide[1] > 0.8 * wide[0]


def test_clones_that_are_all_alike_show_nothing():
    made = points(np.random.default_rng(5)).assign(y=0.0)
    assert slope_words(within_slope(made)).startswith("can't tell: no clone differs")


def test_what_has_no_slope_says_so():
    made = points(np.random.default_rng(5))
    assert np.isnan(within_slope(made[made.step == 0]).mean) and np.isnan(within_slope(made.iloc[:0]).mean)
    assert np.isnan(across_slope(made[made.voice == 0]).mean) and "did not change enough" in slope_words(across_slope(made[made.voice == 0]))
    three = across_slope(made[(made.voice < 3) & (made.step == 0)])
    assert np.isfinite(three.mean) and np.isnan(three.low) and "can't tell" in slope_words(three)
    assert np.isfinite(within_slope(made.drop(index=made.index[::3])).mean)             # clones without a value leave gaps


# ---- the study, with a family that whistles

@pytest.fixture
def ask(whistler, voices, tmp_path):                # noqa: F811
    def ask(names=("ada", "ben", "cleo", "dan"), **given):
        return CarryOver(whistler, [voices[name] for name in names], given.pop("texts", TEXTS[:2]), given.pop("seeds", [0]), tmp_path / "study", **given)
    return ask


def test_a_whistler_copies_nothing_but_the_study_runs(ask):
    made = ask(properties=["level", "tilt", "melody"]).run()
    assert made.state == "complete, 40 samples" and made.slopes("level").within.mean == pytest.approx(0, abs=0.1)
    said = " ".join(made.answers())
    assert "level within a voice: slope" in said and "level through the codec alone" in said and "f0_span" in said
    assert made.slopes("level").references == 12 and np.isnan(made.slopes("melody").within.mean)
    assert made.plot().get_xlabel().startswith("slope") and len(made.telling()) == 4 and "<img" in made._repr_html_()
    assert len(made.compare("level").table) == 5        # as it is, two levels, two tilts


def test_one_voice_one_text_and_an_interruption(ask, monkeypatch):
    made = ask(names=["ada"], texts=TEXTS[0], properties=["level"])
    run = BACKENDS["inline"].run
    def broken(jobs, *given):
        for n, each in enumerate(run(jobs, *given)):
            if n == 2: raise KeyboardInterrupt
            yield each
    with monkeypatch.context() as patch:
        patch.setitem(BACKENDS, "inline", replace(BACKENDS["inline"], run=broken))
        with pytest.warns(UserWarning, match="stopped"): made.run()
    assert made.state.startswith("unfinished, 2 of 3 samples") and made.answer.startswith("Unfinished")
    made.run()
    assert made.state == "complete, 3 samples" and "4 voices are needed, got 1" in made.answer
    assert "too few voices and texts for an interval" in made.answer


def test_continuing_measures_nothing_twice(ask, monkeypatch):
    ask(properties=["level"]).run()
    monkeypatch.setattr(sys.modules[CarryOver.__module__], "codec_sound", lambda *given: pytest.fail("measured twice"))
    assert ask(properties=["level"]).run().state == "complete, 24 samples"


def test_without_a_transcript_the_rate_is_not_judged(whistler, voices, tmp_path):                # noqa: F811
    bare = Reference(voices["ada"].audio, consent="mine", name="bare")
    made = carry_over(whistler, bare, TEXTS[:1], [0], tmp_path / "bare", properties=["rate"])
    assert "speaking_rate within a voice: can't tell" in made.answer


@pytest.mark.parametrize("given,said", [
    (dict(properties=["beauty"]), "properties: must be one of level"), (dict(properties=[]), "properties: needs at least one")])
def test_what_is_refused(ask, given, said):
    with pytest.raises(StudyError, match=said): ask(**given)


def test_two_models_are_refused(whistler, model, voices, tmp_path):                # noqa: F811
    with pytest.raises(StudyError, match="takes one at a time, got 2"):
        CarryOver([whistler, model], voices["ada"], TEXTS[:1], [0], tmp_path / "two", properties=["level"])


# ---- the changes and the measures that see them

def tone(hertz, seconds=1.0, rate=16_000): return Audio((0.2 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32), rate)


@pytest.mark.parametrize("semitones", [-7, -1, 0, 3, 7])
def test_a_tone_is_moved_by_so_many_semitones(semitones):
    moved = higher(tone(200), semitones)
    assert len(moved.samples) == 16_000 and abs(f0_median(moved).value - 200 * 2 ** (semitones / 12)) < 2


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.5])
def test_a_tone_keeps_its_pitch_and_level_at_another_rate(factor):
    moved = faster(tone(200), factor)
    assert abs(moved.seconds - 1 / factor) < 1e-3 and abs(f0_median(moved).value - 200) < 2 and abs(moved.rms_db - tone(200).rms_db) < 0.01


def test_changes_are_marked_and_keep_the_original(voices):
    marked = voices["ada"].altered({"a": 1})
    for name, each in PROPERTIES.items():
        for step in each.steps:
            made = retouched(marked, name, step)
            assert made.source is voices["ada"] and made.change == {"a": 1, "property": name, "step": step} and made.transcript == marked.transcript
            assert made.audio.mark == marked.audio.mark and made.audio.rate == marked.audio.rate


def test_a_level_changes_the_level_alone(voices):
    ada = voices["ada"].audio
    quiet = louder(ada, -20)
    assert abs(quiet.rms_db - ada.rms_db + 20) < 0.01
    assert abs(spectral_tilt(quiet).value - spectral_tilt(ada).value) < 0.01 and abs(noise_floor(quiet).value - noise_floor(ada).value) < 0.01


def test_noise_and_shelves_move_their_own_measures(voices):
    cleo = voices["cleo"].audio
    floors = [noise_floor(noisy(cleo, under)).value for under in (-40, -30, -20, -10)]
    assert np.allclose(np.diff(floors), 10, atol=2.5)
    tilts = [spectral_tilt(shelved(cleo, gain)).value for gain in (-12, -6, 0, 6, 12)]
    assert (np.diff(tilts) > 0.8).all() and abs(tilts[2] - spectral_tilt(cleo).value) < 0.01


def test_a_pause_may_lie_in_a_recording_of_one_word():
    one = Reference(tone(200), transcript="Hello.", consent="mine", remarks=())
    assert abs(paused(one, 0.5).seconds - 1.5) < 1e-3


@pytest.mark.parametrize("audio", [Audio(np.zeros(0, np.float32), 16_000), Audio(np.zeros(16_000, np.float32), 16_000)])
def test_without_sound_there_is_no_colour(audio):
    assert spectral_tilt(audio).status == noise_floor(audio).status == "unavailable"


def test_very_short_sounds_have_a_colour_or_a_reason():
    for samples in (1, 10, 160, 320, 1000):
        for made in (spectral_tilt(tone(200, samples / 16_000)), noise_floor(tone(200, samples / 16_000))): assert made.model and made.unit
