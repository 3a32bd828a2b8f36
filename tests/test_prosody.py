"Rate, pauses, pitch, a predicted opinion score, the gain in likelihood: known signals, and every reason for `unavailable`."
import importlib.util
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from voicelab import mos as mos_module
from voicelab.audio import Audio
from voicelab.family import FAMILIES
from voicelab.likelihood import likelihood_gain
from voicelab.metrics import METRICS, measure
from voicelab.mos import mos, mos_maker
from voicelab.prosody import f0_median, f0_span, pause_share, pauses, pitch, speaking_rate

NAMES = ["speaking_rate", "pauses", "pause_share", "f0_median", "f0_span", "mos"]
TEXT = "Good evening."


def tone(hertz, seconds, rate=16_000): return 0.2 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
def sound(*parts, rate=16_000): return Audio(np.concatenate(parts).astype(np.float32), rate)
def quiet(seconds, rate=16_000): return np.zeros(int(seconds * rate))


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("hertz", [62, 110, 200, 333.3, 480])
def test_a_tone_has_its_own_pitch_at_every_rate_and_level(hertz, rate):
    whole = sound(tone(hertz, 0.6, rate), rate=rate)
    for each in (whole, replace(whole, samples=whole.samples / 50), replace(whole, samples=whole.samples + 0.3)):
        assert abs(f0_median(each).value - hertz) < 0.01 * hertz and f0_span(each).value < 0.3


@pytest.mark.parametrize("first", [1, 2, 3])
def test_harmonics_without_their_fundamental_keep_the_pitch(first):
    assert abs(f0_median(sound(sum(tone(120 * k, 0.5) for k in range(first, 12)) / 4)).value - 120) < 1


def test_pitch_is_found_where_it_is_and_not_in_silence_or_noise():
    found = pitch(sound(quiet(0.3), tone(200, 0.5), quiet(0.3)))
    assert np.isnan(found[:24]).all() and np.isfinite(found[32:70]).all() and np.isnan(found[82:]).all()
    noise = Audio((0.1 * np.random.default_rng(1).normal(size=16_000)).astype(np.float32), 16_000)
    assert f0_median(noise).value is None and "too little voiced sound" in f0_span(noise).detail


def test_two_pitches_an_octave_apart_span_an_octave():
    assert abs(f0_span(sound(tone(150, 1), tone(300, 1))).value - 12) < 0.1


@pytest.mark.parametrize("gap,count", [(0.2, 0), (0.24, 0), (0.26, 1), (1.0, 1)])
def test_a_pause_is_a_quarter_of_a_second_and_no_silence_at_an_end(gap, count):
    audio = sound(quiet(0.5), tone(200, 0.4), quiet(gap), tone(200, 0.4), quiet(0.5))
    assert pauses(audio).value == count
    assert abs(pause_share(audio).value - count * gap / (0.8 + gap)) < 0.04


def test_the_rate_counts_letters_of_the_text_over_speech_without_pauses():
    fast, slow = sound(tone(200, 0.5)), sound(tone(200, 0.5), quiet(0.6), tone(200, 0.5))
    assert abs(speaking_rate(fast, "abcde").value - 10) < 0.5 and abs(speaking_rate(slow, "abcde").value - 5) < 0.5
    assert speaking_rate(fast, None).detail == "no text to count the letters of"
    assert speaking_rate(fast, "...").detail == "the text has nothing that is spoken"


@pytest.mark.parametrize("audio", [sound(quiet(0)), sound(quiet(1)), sound(tone(200, 1) / 1e5), sound(np.full(16_000, 0.5))],
                         ids=["empty", "silence", "under the limit", "a constant"])
def test_without_sound_there_is_no_number(audio):
    for made in measure(audio, text=TEXT, metrics=NAMES).measures: assert made.status == "unavailable" and "no s" in made.detail, made


def test_very_short_sounds_are_no_error():
    for samples in (1, 10, 160, 319, 320, 900, 1000):
        for made in measure(sound(tone(200, samples / 16_000)), text=TEXT, metrics=NAMES).measures: assert made.model


def test_each_record_says_its_unit_its_maker_and_its_deafness():
    for name in (*NAMES, "likelihood_gain"):
        metric = METRICS[name]
        assert metric.unit and metric.maker() and metric.cannot_hear and not metric.in_report


def test_mos_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "distillmos", None)
    mos_maker.cache_clear(), mos_module.predictor.cache_clear()
    made = mos(sound(tone(200, 1.5)))
    assert (made.status, made.model) == ("unavailable", "distillmos") and "pip install distillmos" in made.detail
    mos_maker.cache_clear()


def test_mos_is_within_its_scale_and_repeats(voices):
    pytest.importorskip("distillmos", reason="distillmos is not installed (extra mos)")
    ada = voices["ada"].audio
    noise = np.random.default_rng(0).normal(size=len(ada.samples)).astype(np.float32)
    clean, noisy = (mos(replace(ada, samples=ada.samples + level * noise)) for level in (0, 0.2))
    assert clean.status == noisy.status == "ok" and 1 <= noisy.value <= 5 and mos(ada).value == clean.value
    assert clean.model.startswith("distillmos-0.9") and len(clean.model.split("/")[1]) == 8 and "too short" in mos(ada.slice(0, 0.9)).detail


def test_likelihood_gain_needs_a_model_a_text_a_reference(model, voices):
    ada = voices["ada"]
    reasons = {"no model": dict(speaker=None), "no text": dict(text=None), "no reference": dict(reference=None)}
    for said, lacks in reasons.items():
        given = dict(text=TEXT, reference=ada, speaker=model) | lacks
        assert said in likelihood_gain(ada.audio, **given).detail
    other = SimpleNamespace(info=replace(model.info, family="whistling"), codec=model.codec)
    assert "family 'whistling' has no likelihoods" in likelihood_gain(ada.audio, TEXT, ada, other).detail
    assert "transcript" in likelihood_gain(ada.audio, TEXT, replace(ada, transcript=None, noticed=True), model).detail


def test_bits_are_the_loss_of_the_forward_pass_and_causal(model, voices):
    bits = FAMILIES[model.info.family].code_bits
    ada = voices["ada"]
    codes = model.codec.encode(ada.audio)[:, :20]
    found = bits(model, TEXT, codes, ada)
    assert found.shape == codes.shape and (found > 0).all() and found.dtype == torch.float32
    changed = codes.clone()
    changed[0, 10] = (changed[0, 10] + 1) % 1024
    other = bits(model, TEXT, changed, ada)
    columns = 1 + torch.arange(8)[:, None] + torch.arange(20)
    assert torch.allclose(other[columns < 11], found[columns < 11], atol=1e-3) and not torch.allclose(other[0, 11], found[0, 11], atol=1e-3)
    drawn = model.clone(TEXT, reference=ada, seed=0, sampling="greedy")
    cheap = bits(model, TEXT, drawn.codes, ada)
    assert cheap.mean() < found.mean()                      # the likeliest codes cost least
    with pytest.raises(ValueError, match="codes: "): bits(model, TEXT, codes[:4], ada)
