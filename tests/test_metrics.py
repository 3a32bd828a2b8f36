"Measures: definitions, limits, every reason for `unavailable`, and refusal to compare unlike things."
import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from voicelab import embedding, metrics
from voicelab.audio import Audio
from voicelab.control import STOP_REASONS
from voicelab.generation import Generation
from voicelab.metrics import Measure, Report, compare, judged, measure, similarity, unavailable
from voicelab.reference import Reference
from voicelab.settings import Settings

NAMES = ["duration_ratio", "silence_ratio", "length", "level", "clipping", "ended", "end_level", "similarity", "wer", "cer"]
VOWELS = np.array([[730, 1090, 2440], [270, 2290, 3010], [570, 840, 2410], [440, 1020, 2240], [530, 1840, 2480]])
TEXT = "Seven grey geese fly over a quiet harbour."


def buzz(pitch=110, tract=1.0, seconds=2.4, seed=0, rate=16_000):
    "A voice of `pitch` Hz that speaks vowels picked by `seed`."
    time = np.arange(int(seconds * rate)) / rate
    formants = np.random.default_rng(seed).choice(VOWELS, int(seconds * 5) + 1)[(time * 5).astype(int)] * tract
    phase = np.cumsum(pitch * (1 + 0.08 * np.sin(4 * time))) * 2 * np.pi / rate
    wave = sum((1 / (1 + ((k * pitch - formants) / 90) ** 2)).sum(-1) * np.sin(k * phase) for k in range(1, int(4000 / pitch)))
    return Audio((0.3 * wave / np.abs(wave).max()).astype(np.float32), rate)


def silent(seconds, rate=16_000): return Audio(np.zeros(int(seconds * rate), np.float32), rate)


@pytest.fixture(scope="module")
def voice(): return buzz()


@pytest.fixture
def limits(): return Settings().quality


def test_report_has_every_measure_in_order_with_unit_and_model(voice):
    report = measure(voice, text=TEXT, reference=Reference(voice))
    assert list(report.table.metric) == NAMES
    assert list(report.table.columns) == ["metric", "value", "unit", "model", "status", "detail"]
    assert all(m.unit and m.model for m in report.measures)
    assert report["similarity"].model == "resemblyzer-0.1.4/GE2E@-30dBFS"
    assert report.passed is True
    with pytest.raises(ValueError, match="metric: must be one of duration_ratio, .*'mos'"): report["mos"]


def test_the_callers_settings_of_torch_change_no_measure(voice):
    plain = measure(voice, text=TEXT, reference=Reference(voice)).table
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16): assert measure(voice, text=TEXT, reference=Reference(voice)).table.equals(plain)
        assert torch.get_default_dtype() is torch.float64
    finally: torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("value,status", [(0.99, "fail"), (1.0, "pass"), (30.0, "pass"), (30.01, "fail"), (math.inf, "fail")])
def test_limits_are_inclusive(value, status):
    assert judged("length", value, "s", "m", at_least=1, at_most=30).status == status


def test_a_measure_without_a_value_is_unavailable_and_only_that():
    with pytest.raises(AssertionError): Measure("x", None, "s", "m", "ok")
    with pytest.raises(AssertionError): Measure("x", 1.0, "s", "m", "unavailable")
    with pytest.raises(AssertionError): Measure("x", 1.0, "s", "m", "fine")


def test_level_and_clipping():
    square = Audio(np.tile(np.float32([1, -1]), 8000), 16_000)
    assert metrics.level(square).value == pytest.approx(0, abs=1e-4)
    assert metrics.clipping(square).value == 1
    assert metrics.level(silent(1)).value == -math.inf
    assert metrics.clipping(silent(1)).value == 0


@pytest.mark.parametrize("pause", [0.3, 0.6, 1.2])
def test_silence_ratio_counts_pauses_and_duration_ratio_does_not(voice, limits, pause):
    paused = Audio.join([voice, silent(pause), voice])
    assert metrics.silence_ratio(paused, limits).value == pytest.approx(pause / paused.seconds, abs=0.02)
    spoken = metrics.duration_ratio(paused, TEXT, None, limits).value
    assert spoken == pytest.approx(2 * metrics.duration_ratio(voice, TEXT, None, limits).value, rel=0.03)


def test_ratios_do_not_depend_on_level(voice, limits):
    paused = Audio.join([voice, silent(0.5), voice])
    faint = Audio(paused.samples * 0.05, paused.rate)
    assert metrics.silence_ratio(faint, limits).value == metrics.silence_ratio(paused, limits).value
    assert metrics.duration_ratio(faint, TEXT, None, limits).value == metrics.duration_ratio(paused, TEXT, None, limits).value


@pytest.mark.parametrize("audio", [silent(2), Audio(np.float32(1e-4) * np.ones(32_000, np.float32), 16_000)], ids=["zeros", "-80 dB"])
def test_silence_fails_and_is_no_speech(audio, limits):
    report = measure(audio, text=TEXT, reference=Reference(buzz()))
    assert report["silence_ratio"].value == 1 and report["silence_ratio"].status == "fail"
    assert report["duration_ratio"].status == "unavailable" and "no speech" in report["duration_ratio"].detail
    assert report["similarity"].status == "unavailable" and "generated" in report["similarity"].detail
    assert report.passed is False


def test_no_samples_at_all(voice):
    report = measure(silent(0), text=TEXT, reference=Reference(voice))
    assert [m.status for m in report.measures] == ["unavailable", "unavailable", "fail", "ok", "ok"] + ["unavailable"] * 5
    assert "no samples" in report["silence_ratio"].detail
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_little_faint_speech_in_a_long_silence_is_speech(voice, limits):
    "The whole clip lies under -60 dBFS. A reference of it is accepted, so a sample of it is measured, too."
    faint = Audio.join([Audio(voice.samples * 0.02, voice.rate), silent(27)])
    assert faint.rms_db < -60 and Reference(faint).speech_seconds > 2
    assert metrics.duration_ratio(faint, TEXT, None, limits).status == "pass"
    assert metrics.silence_ratio(faint, limits).value == pytest.approx(27 / faint.seconds, abs=0.02)


def test_too_long_for_its_text_fails(voice, limits):
    babble = Audio.join([voice] * 6)
    assert metrics.duration_ratio(babble, "Yes.", None, limits).status == "fail"
    assert metrics.duration_ratio(babble, "Yes.", None, replace(limits, max_duration_ratio=100.0)).status == "pass"


def test_pace_of_the_reference_is_another_model_than_the_usual_pace(voice, limits):
    hardly = Reference(Audio.join([voice.slice(0, 0.3), silent(1)]), transcript="Two slow owls watch the road.")
    paced = Reference(voice, transcript="Two slow owls watch the road.")
    names = [metrics.duration_ratio(voice, TEXT, reference, limits).model for reference in (None, Reference(voice), hardly, paced)]
    assert names[0] == names[1] == names[2] != names[3]     # 0.3 s of speech give no pace
    assert metrics.duration_ratio(voice, None, None, limits).detail.startswith("no text")
    assert metrics.duration_ratio(voice, "\u2028", None, limits).status == "unavailable"


def test_embedding_is_resemblyzers_own(voice):
    from resemblyzer import VoiceEncoder
    encoder = VoiceEncoder("cpu", verbose=False)
    for seconds in (0.7, 1.5, 2.4):
        wave = embedding.voiced(voice.slice(0, seconds))
        assert embedding.embed_voice(wave) == pytest.approx(encoder.embed_utterance(wave), abs=2e-5)


def test_similarity_tells_voices_apart_and_not_words_levels_or_rates(voice):
    value = lambda audio: similarity(audio, Reference(voice)).value
    assert value(voice) == pytest.approx(1, abs=1e-5)
    assert all(value(Audio(voice.samples * gain, voice.rate)) > 0.98 for gain in (0.02, 0.3, 3.0))
    assert value(voice.resample(24_000)) > 0.98
    assert value(buzz(seed=1)) > value(buzz(220, tract=1.17)) + 0.1


def test_short_speech_is_marked_and_very_short_speech_is_unavailable(voice):
    assert "runs low" not in similarity(voice, Reference(voice)).detail
    assert "runs low under 1.6 s" in similarity(voice.slice(0, 1.0), Reference(voice)).detail
    found = similarity(voice.slice(0, 0.3), Reference(voice))
    assert (found.status, found.value) == ("unavailable", None) and "0.30 s in the generated" in found.detail
    assert "in the reference" in similarity(voice, SimpleNamespace(audio=voice.slice(0, 0.3))).detail
    assert similarity(voice, None).detail == "no reference to compare with"


@pytest.mark.parametrize("package", ["resemblyzer", "webrtcvad", "librosa"])
def test_a_missing_package_is_unavailable_with_its_name(voice, monkeypatch, package):
    embedding.voice_encoder.cache_clear()
    for name in [n for n in sys.modules if n.split(".")[0] == "resemblyzer"]: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    found = similarity(voice, Reference(voice))
    assert (found.status, found.value) == ("unavailable", None) and package in found.detail


def test_to_dict_is_json_without_nan(voice):
    found = measure(silent(1)).to_dict()
    assert list(found) == NAMES and set(found["level"]) == {"value", "unit", "model", "status", "detail"}
    assert found["level"]["value"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_passed_is_none_when_a_limit_could_not_be_judged(voice):
    assert measure(voice).passed is None
    assert measure(voice.slice(0, 0.5)).passed is False


def test_html_escapes_details():
    report = Report((unavailable("x", "s", "m", "<script>"),))
    assert "<script>" not in report._repr_html_() and "&lt;script&gt;" in report._repr_html_()


def test_compare_refuses_other_models_and_names_both(voice):
    a = Report((Measure("similarity", 0.7, "cosine", "resemblyzer-0.1.4/GE2E", "ok"),))
    b = Report((Measure("similarity", 0.8, "cosine", "wavlm-sv/1", "ok"),))
    with pytest.raises(ValueError, match="resemblyzer-0.1.4/GE2E.*wavlm-sv/1"): compare(a, b)
    assert compare(a, a).difference.tolist() == [0]


def test_compare_keeps_what_one_side_lacks(voice):
    table = compare(measure(voice, text=TEXT), measure(voice, text=TEXT, reference=Reference(voice))).set_index("metric")
    assert math.isnan(table.difference["similarity"]) and table.b["similarity"] == pytest.approx(1, abs=1e-5)
    assert table.difference["length"] == 0


@pytest.mark.parametrize("stop_reason", ["eos", "budget", "timeout"])
def test_a_generation_brings_text_reference_and_stop_reason(voice, stop_reason):
    sample = object.__new__(Generation)         # as much of one as a report looks at
    vars(sample).update(audio=voice, text=TEXT, reference=Reference(voice), stop_reason=stop_reason, timings={})
    report = sample.report()
    assert sample.report() is report
    assert report["similarity"].value == pytest.approx(1, abs=1e-5)
    assert (f"stopped by {stop_reason}" in report["duration_ratio"].detail) == (stop_reason != "eos")
    strict = Settings(quality=replace(Settings().quality, min_duration_ratio=2, max_duration_ratio=3))
    assert [sample.report(settings=strict)["duration_ratio"].status, sample.report()["duration_ratio"].status] == ["fail"] * 2
    assert sample.report(settings=Settings()) == report


def test_measuring_leaves_the_random_state_alone(voice):
    embedding.voice_encoder.cache_clear()                # loading it counts
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    measure(voice, text=TEXT, reference=Reference(voice))
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("stop_reason,passed", [("eos", True), ("budget", False), ("silence", False), ("repetition", False),
                                                ("timeout", False), ("interrupted", False), (None, True), ("not known", True)])
def test_only_a_sample_that_ended_by_itself_passes(voice, stop_reason, passed):
    report = measure(voice, text=TEXT, stop_reason=stop_reason)
    was_cut = stop_reason in STOP_REASONS and stop_reason != "eos"
    assert report.passed is passed and report["duration_ratio"].status == ("ok" if was_cut else "pass")
    assert report["duration_ratio"].detail.startswith("not judged, because the sample was cut off; ") == was_cut
    assert (report["ended"].status == "unavailable") == (stop_reason in (None, "not known"))


@pytest.mark.parametrize("stop_reason, seconds, status", [("interrupted", 0.6, "ok"), ("budget", 0.6, "fail"), ("timeout", 0.6, "fail"),
                                                          ("eos", 0.6, "fail"), ("budget", None, "ok"), ("eos", None, "pass")])
def test_a_stopped_sample_neither_passes_nor_is_blamed_for_being_short(voice, limits, stop_reason, seconds, status):
    clip = voice if seconds is None else voice.slice(0, seconds)
    found = metrics.duration_ratio(clip, TEXT * (1 if seconds is None else 4), None, limits, stop_reason)
    assert found.status == status and found.value > 0 and (status == "ok") == found.detail.startswith("not judged")


def test_a_sample_that_lost_most_of_its_words_fails_even_if_it_ended_by_itself(voice):
    for stop_reason in ("eos", None):
        lost = measure(voice.slice(0, 1.2), text=TEXT * 2, stop_reason=stop_reason)
        assert lost["duration_ratio"].value < 0.5 and lost["duration_ratio"].status == "fail" and lost.passed is False
        assert "at least 0.5 and at most 3" in lost["duration_ratio"].detail


@pytest.mark.parametrize("least,passed", [(0.0, True), (0.6, True), (0.999, False)])
def test_a_least_similarity_is_judged_where_it_is_set_and_can_be(voice, least, passed):
    settings = replace(Settings(), quality=replace(Settings().quality, min_similarity=least))
    report = measure(buzz(seed=1), text=TEXT, reference=Reference(voice), settings=settings)
    assert report.passed is passed and report["similarity"].status == ("pass" if least and passed else "fail" if least else "ok")
    for unjudged in (measure(voice, text=TEXT, settings=settings),                                  # no reference
                     measure(voice.slice(0, 1.4), text="Two slow owls.", reference=Reference(voice), settings=settings)):
        assert unjudged.passed is (None if least else True) and unjudged["similarity"].status in ("ok", "unavailable")


@pytest.mark.parametrize("edge", [dict(max_silence_ratio=1.0), dict(max_silence_ratio=0.99)])
def test_a_limit_at_the_end_of_its_range_limits_nothing(voice, edge):
    quality = replace(Settings().quality, min_duration_ratio=0, max_duration_ratio=100, **edge)
    assert measure(voice, settings=replace(Settings(), quality=quality)).passed is True         # nothing is asked of the text
    assert quality.limits("max_silence_ratio") == (edge["max_silence_ratio"] < 1)


@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_the_end_is_measured_against_the_loudest_whatever_the_offset(voice, offset):
    samples = voice.samples.copy()
    shaped = lambda gain: Audio(np.concatenate([samples, samples[:320] * gain]) + np.float32(offset), voice.rate)
    cut, faded = metrics.end_level(shaped(1.0)), metrics.end_level(shaped(0.01))
    assert cut.value > -6 and cut.detail.startswith("an abrupt end") and cut.status == "ok"
    assert faded.value == pytest.approx(cut.value - 40, abs=0.2) and faded.detail.startswith("dies away")
    assert metrics.end_level(Audio.join([voice, silent(0.02)])).value == -120
    assert metrics.end_level(silent(1)).status == metrics.end_level(silent(0)).status == "unavailable"
    json.dumps(measure(Audio.join([voice, silent(0.02)])).to_dict(), allow_nan=False)


@pytest.mark.parametrize("gain", [1.0, 6.0, 60.0])
def test_a_voice_above_full_scale_is_scaled_not_clipped(voice, gain):
    loud = Audio(voice.samples * np.float32(gain), voice.rate)
    assert similarity(loud, Reference(voice)).value > 0.995


def test_a_clone_cut_at_thirty_frames_does_not_pass(model, reference):
    made = model.clone("Seven grey geese fly over a quiet harbour before the morning tide turns.", reference=reference, seed=0)
    assert (made.stop_reason, made.report().passed) == ("eos", True)
    cut, known = model.codec.decode(made.codes[:, :30]), dict(text=made.text, reference=reference)
    report = measure(cut, **known, stop_reason="budget")
    assert (report.passed, report["ended"].status, report["duration_ratio"].status) == (False, "fail", "fail")
    assert report["duration_ratio"].value < 0.4 and measure(cut, **known, stop_reason="eos").passed is False


def test_a_reference_is_heard_once_and_the_latest_are_kept(voice, monkeypatch):
    monkeypatch.setattr(embedding, "_voices", {})
    monkeypatch.setattr(embedding, "MOST_VOICES", 2)
    heard, original = [], embedding.hear_voice
    for module in (embedding, metrics): monkeypatch.setattr(module, "hear_voice", lambda audio: (heard.append(audio), original(audio))[1])
    others = [Reference(buzz(f0)) for f0 in (120, 150, 180)]
    first = similarity(voice, others[0])
    assert similarity(voice, Reference(buzz(120))) == first and len(heard) == 3            # the sample twice, the reference once
    for other in others[1:]: similarity(voice, other)
    assert len(embedding._voices) == 2 and similarity(voice, others[0]) == first
    assert [audio for audio in heard if audio is others[0].audio] == [others[0].audio] * 2
