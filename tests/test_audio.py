"Audio and Reference: refusals, levels, silences, resampling, cutting long recordings, the picture, what a sound says of itself, consent."
import base64
import html
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import warnings
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from voicelab.audio import GENERATED, Audio, AudioError, Mark, load_audio, read_info, resampling_ratio
from voicelab.mark import LONGEST_TEXT
from voicelab.reference import Reference
from voicelab.settings import ReferencePolicy, Settings

RATE = 16_000
MARK = Mark(f"{GENERATED}; model tiny; run sample 3", "Consent of the reference speaker: مريم © agreed", "voicelab 1.2.3")
ENDINGS = ("wav", "flac", "ogg", "mp3")


def tone(seconds=1.0, rate=RATE, hertz=440.0, peak=0.5):
    return peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def speech(*parts, rate=RATE):
    "Seconds of tone (positive) and of silence (negative), one after the other."
    pieces = [tone(part, rate) if part > 0 else np.zeros(round(-part * rate)) for part in parts]
    return Audio(np.concatenate(pieces), rate)


def syllables(seconds, rate=RATE):
    "A gliding buzz with four syllables a second: by the simple measures it is speech."
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(5 * time) + 20 * np.sin(17 * time)) / rate
    return Audio(0.2 * sum(np.sin(k * phase) / k for k in range(1, 9)) * np.sin(4 * np.pi * time) ** 2, rate)


def refusal(call, *arguments, **options):
    "The one line with which `call` is refused."
    with pytest.raises(AudioError) as caught: call(*arguments, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def spoken(call, *arguments, **options):
    "What `call` returns, and the warnings it gave."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call(*arguments, **options)
    return value, [str(warning.message) for warning in caught]


# Samples

@pytest.mark.parametrize("samples, said", [
    ([0.0, np.nan], "1 of 2 are NaN or infinite, first at 1"), ([np.inf, 0.0, -np.inf], "2 of 3 are NaN or infinite"),
    (np.array([1e300]), "NaN or infinite"), (np.zeros(10, np.int16), "type int16"), ([True, False], "type bool"),
    (np.zeros((2, 10)), r"shape (2, 10)"), (0.5, "shape ()"), ("abc", "type <U3"), (None, "type object"),
    ([1j], "type complex128"),
])
def test_samples_that_are_refused(samples, said): assert said in refusal(Audio, samples, RATE)


@pytest.mark.parametrize("rate", [0, -1, 7_999, 192_001, 16_000.0, "16000", None, True, np.nan])
def test_rates_that_are_refused(rate): assert "8000 to 192000 Hz" in refusal(Audio, tone(), rate)


@pytest.mark.parametrize("samples", [[0.1, 0.2], (0.1, 0.2), np.array([0.1, 0.2]), torch.tensor([0.1, 0.2]),
                                     np.array([0.1, 0.2], np.float16)])
def test_samples_become_a_float32_copy(samples):
    audio = Audio(samples, np.int64(RATE))
    assert audio.samples.dtype == np.float32 and type(audio.rate) is int
    if isinstance(samples, np.ndarray):
        samples[0] = 9
        assert audio.samples[0] < 1
    with pytest.raises(FrozenInstanceError): audio.rate = 8_000


def test_an_empty_clip_works_everywhere():
    empty = Audio([], RATE)
    assert (empty.seconds, empty.peak, empty.rms_db, empty.clipped_share, empty.speech_seconds) == (0, 0, -np.inf, 0, 0)
    assert empty.silences() == [] and len(empty.resample(8_000).samples) == 0 and len(empty.wav_bytes()) == 44
    assert Audio.join([empty, empty]).seconds == 0 and "0.00 s" in empty._repr_html_()
    assert "no samples" in refusal(empty.plot)


def test_levels():
    assert Audio(np.ones(100), RATE).rms_db == 0 and Audio(np.ones(100), RATE).clipped_share == 1
    assert Audio(tone(peak=0.1), RATE).rms_db == pytest.approx(-23.01, abs=0.01)
    assert Audio([0.5, -0.999, 0.9], RATE).clipped_share == pytest.approx(1 / 3)
    assert Audio(np.zeros(10), RATE).rms_db == -np.inf


# Cutting, joining, resampling

def test_slices_and_their_join_are_the_clip():
    audio = Audio(tone(), RATE)
    parts = [audio.slice(0, 0.25), audio.slice(0.25, 0.25), audio.slice(0.25, audio.seconds)]
    assert np.array_equal(Audio.join(parts).samples, audio.samples)


@pytest.mark.parametrize("start, end", [(-0.1, 0.5), (0.5, 0.4), (0, 1.1), (2, 3)])
def test_slices_outside_the_clip(start, end):
    assert "not within the clip of 1.000 s" in refusal(speech(1).slice, start, end)


def test_joins_that_are_refused():
    assert "0 with the rates []" in refusal(Audio.join, [])
    assert "[8000, 16000] Hz" in refusal(Audio.join, [speech(1), speech(1, rate=8_000)])


@pytest.mark.parametrize("new", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("old", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000])
def test_resampling_keeps_length_level_and_pitch(old, new):
    audio = Audio(tone(0.5, old), old)
    made = audio.resample(new)
    assert made.rate == new and len(made.samples) == pytest.approx(audio.seconds * new, abs=1)
    assert made.rms_db == pytest.approx(audio.rms_db, abs=0.1)
    spectrum = np.abs(np.fft.rfft(made.samples))
    assert spectrum.argmax() * new / len(made.samples) == pytest.approx(440, abs=2.1)


@pytest.mark.parametrize("old, new", [(47_999, 24_000), (8_001, 191_999), (191_999, 8_001), (24_001, 24_000),
                                      (44_056, 24_000)])
def test_odd_rates_need_no_great_memory(old, new):
    ratio = resampling_ratio(old, new)
    assert ratio.numerator * ratio.denominator <= 4_000_000
    assert float(ratio) * old / new == pytest.approx(1, rel=1 / 4000)
    assert Audio(tone(0.1, old), old).resample(new).seconds == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("old, new", [(a, b) for a in (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 192_000)
                                      for b in (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 192_000)])
def test_usual_rates_keep_their_exact_ratio(old, new): assert resampling_ratio(old, new) * old == new


def test_resampling_to_the_same_rate_is_nothing_and_to_no_rate_an_error():
    audio = speech(1)
    assert audio.resample(RATE) is audio
    assert "rate: must be a whole number from 8000 to 192000 Hz, got 4000" in refusal(audio.resample, 4_000)


# Silence

def test_silences_and_speech_seconds():
    audio = speech(-0.5, 1, -0.3, 0.5, -0.1, 0.5, -1)
    assert np.allclose(audio.silences(), [(0, 0.5), (1.5, 1.8), (2.9, 3.9)], atol=0.021)
    assert audio.speech_seconds == pytest.approx(2.1, abs=0.05)
    assert len(audio.silences(min_seconds=0.1)) == 4 and len(audio.silences(min_seconds=0.6)) == 1


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 44_100, 192_000])
def test_silences_at_any_rate(rate):
    assert np.allclose(speech(1, -0.5, 1, rate=rate).silences(), [(1, 1.5)], atol=0.03)


def test_silence_is_relative_to_the_clip():
    audio = speech(1, -0.5, 1)
    quiet = Audio(audio.samples * 1e-3, RATE)
    assert quiet.silences() == audio.silences()
    hum = Audio(audio.samples + 0.02 * tone(2.5, hertz=100), RATE)
    assert hum.silences() == [] and len(hum.silences(threshold_db=-30)) == 1


@pytest.mark.parametrize("spoken_seconds", [0.5, 1, 15])
def test_a_little_speech_in_much_hiss_is_found(spoken_seconds):
    hiss = Audio(np.random.default_rng(0).normal(0, 5e-4, 30 * RATE), RATE)
    audio = Audio.join([speech(spoken_seconds), hiss])
    assert audio.speech_seconds == pytest.approx(spoken_seconds, abs=0.05)


def test_a_click_does_not_make_speech_silent():
    audio = speech(2, -0.5, 2)
    clicked = audio.samples.copy() * 0.1
    clicked[:20] = 1.0
    assert len(Audio(clicked, RATE).silences()) == 1


def test_digital_silence_is_one_silence_and_constant_noise_is_none():
    assert Audio(np.zeros(RATE), RATE).silences() == [(0.0, 1.0)] and Audio(np.zeros(RATE), RATE).speech_seconds == 0
    assert Audio(np.random.default_rng(0).normal(0, 0.1, RATE), RATE).silences() == []


# Files

def test_loading_resamples_and_saving_keeps_the_texts(tmp_path):
    path = speech(1).save(tmp_path / "a.wav", info={"ICMT": "synthetic"})
    assert read_info(path) == {"ICMT": "synthetic"}
    audio, said = spoken(load_audio, str(path), rate=24_000)
    assert (audio.rate, len(audio.samples), said) == (24_000, 24_000, [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_a_file_with_nan_or_infinity(tmp_path, value, subtype):
    samples = np.stack([tone(), tone()], axis=1)
    samples[100, 0] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
    for call in (load_audio, Reference):
        said = refusal(call, tmp_path / "a.wav")
        assert "a.wav" in said and "1 of 16000 are NaN or infinite, first at 100" in said


@pytest.mark.parametrize("options, said", [
    (dict(rate=100), "rate: must be a whole number from 8000 to 192000 Hz, got 100"), (dict(rate=24_000.5), "192000 Hz, got 24000.5"),
    (dict(limit_seconds=0), "limit_seconds: 0"),
    (dict(limit_seconds=-1), "limit_seconds: -1"), (dict(limit_seconds=np.nan), "limit_seconds: nan"),
    (dict(limit_seconds=np.inf), "limit_seconds: inf"),
])
def test_options_that_are_refused(tmp_path, options, said):
    assert said in refusal(load_audio, speech(1).save(tmp_path / "a.wav"), **options)


def test_a_long_file_is_cut_at_its_last_pause(tmp_path):
    path = speech(10, -0.5, 14, -0.5, 20).save(tmp_path / "a.wav")
    audio, said = spoken(load_audio, path)
    assert audio.seconds == pytest.approx(24.75, abs=0.02) and len(said) == 1
    assert f"{str(path)!r} is 45.0 s long, longer than the limit of 30 s: cut at 24.7" in said[0]
    assert "in a pause" in said[0]


@pytest.mark.parametrize("parts, seconds", [((5, -0.5, 40), 30), ((45,), 30), ((5, -40), 25), ((29.9, -5), 30),
                                            ((28, -5), 29)])
def test_where_a_long_file_is_cut(tmp_path, parts, seconds):
    audio, said = spoken(load_audio, speech(*parts).save(tmp_path / "a.wav"))
    assert audio.seconds == pytest.approx(seconds, abs=0.02) and len(said) == 1
    assert ("in mid-sound" in said[0]) == (seconds == 30)


@pytest.mark.parametrize("seconds, warned", [(30, 0), (30 + 1 / RATE, 1)])
def test_the_limit_itself_is_allowed(tmp_path, seconds, warned):
    assert len(spoken(load_audio, speech(seconds).save(tmp_path / "a.wav"))[1]) == warned


def test_a_limit_of_ones_own_and_none(tmp_path):
    path = speech(2, -0.4, 40).save(tmp_path / "a.wav")
    audio, said = spoken(load_audio, path, limit_seconds=2.5)
    assert audio.seconds == pytest.approx(2.2, abs=0.02) and "limit of 2.5 s" in said[0]
    assert spoken(load_audio, path, limit_seconds=None)[0].seconds == pytest.approx(42.4)


def test_an_mp3_of_unknown_length_is_cut_without_naming_one(tmp_path):
    soundfile.write(tmp_path / "a.mp3", speech(40).samples, RATE)
    said = spoken(load_audio, tmp_path / "a.mp3")[1]
    assert "a.mp3' is longer than the limit of 30 s" in said[0]


def test_a_file_of_too_many_chunks_is_refused_in_one_line(tmp_path):
    path = speech(1).save(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes() + (b"none" + bytes(4)) * 1_000)
    assert refusal(load_audio, path) == f"{str(path)!r} has more than 1000 chunks"


def test_a_long_sound_of_silence_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("voicelab.recordings.MAX_SECONDS", 60)
    path = Audio(np.zeros(61 * 8_000), 8_000).save(tmp_path / "a.flac")
    assert path.stat().st_size < 20_000 and "a.flac' holds more than 60 s" in refusal(load_audio, path, limit_seconds=None)
    assert spoken(load_audio, path)[0].seconds == 25


def test_a_ten_minute_reference_stays_small_in_memory(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(speech(8, -0.5, 1.5).samples, 60), RATE)
    tracemalloc.start()
    reference, said = spoken(Reference, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 20 < reference.audio.seconds <= 30 and "600.0 s long" in said[0]
    assert peak < 600 * RATE  # the whole would be four bytes a sample


# What a sound says of itself

@pytest.fixture
def generated(): return replace(speech(1), mark=MARK)


def test_the_mark_follows_the_sound(generated):
    unmarked = speech(1)
    made = [generated.slice(0.2, 0.4), generated.slice(0, 0), Audio.join([unmarked, generated]), Audio.join([generated, unmarked, generated]),
            generated.resample(8_000), generated.resample(RATE), Audio([], RATE, MARK).resample(24_000), replace(generated, samples=[0.1]),
            pickle.loads(pickle.dumps(generated))]
    assert [sound.mark for sound in made] == [MARK] * len(made) and unmarked.mark == Mark() == Audio.join([unmarked] * 2).mark
    assert generated.synthetic and not unmarked.synthetic
    with pytest.raises(FrozenInstanceError): generated.mark = Mark()
    with pytest.raises(FrozenInstanceError): generated.mark.comment = ""


def test_joined_sounds_say_what_both_said():
    one, other = Mark(f"{GENERATED}; model a", "c", "x"), Mark(f"{GENERATED}; model b", "d", "x")
    both = Audio.join([Audio(tone(), RATE, mark) for mark in (Mark("A walk"), one, other)]).mark
    assert both == Mark(f"{GENERATED}; A walk; model a; model b", "c; d", "x")
    assert Mark.join([both, one, both]) == both and Mark.join([]) == Mark()


def test_marks_that_are_odd_do_no_harm(tmp_path):
    odd = Audio(tone(), RATE, Mark(f"{GENERATED}; a\0b \ud800", "c" * 10_000, "\n"))
    for ending in ENDINGS:
        found = load_audio(odd.save(tmp_path / f"a.{ending}")).mark
        assert found == Mark(f"{GENERATED}; a b ?", "c" * 3_999 + "…", "\n")
    assert "comment: 3 is not a text" in refusal(Mark, 3)
    assert "mark: dict given" in refusal(Audio, tone(), RATE, {"ICMT": "x"})


def wav_in(shown):
    "The bytes of the WAV file that a page plays."
    return base64.b64decode(re.search("data:audio/wav;base64,([^\"']+)", shown)[1])


def test_every_player_says_it(generated, tmp_path):
    contents = [generated.wav_bytes(), wav_in(generated.player()), wav_in(generated._repr_html_()),
                wav_in(Reference(generated, consent="mine")._repr_html_())]
    for content in contents:
        (tmp_path / "a.wav").write_bytes(content)
        assert load_audio(tmp_path / "a.wav").mark == MARK


@pytest.mark.parametrize("second", ENDINGS)
@pytest.mark.parametrize("first", ENDINGS)
def test_a_file_read_and_saved_again_still_says_it(generated, tmp_path, first, second):
    again = load_audio(load_audio(generated.save(tmp_path / f"a.{first}")).save(tmp_path / f"b.{second.upper()}"), rate=8_000)
    assert again.mark == MARK and again.seconds == pytest.approx(1, abs=0.05)
    assert read_info(tmp_path / f"b.{second.upper()}")["INAM"] == GENERATED


def test_texts_that_are_added_stand_beside_the_mark(generated, tmp_path):
    for ending in ENDINGS:
        path = generated.save(tmp_path / f"a.{ending}", {"ICMT": "nothing to see; run sample 3", "INAM": "A song", "IART": "Anna"})
        assert read_info(path) == {"ICMT": f"{MARK.comment}; nothing to see", "ICOP": MARK.copyright, "ISFT": MARK.software,
                                   "INAM": f"{GENERATED}; A song", "IART": "Anna"}
    given = {"ICMT": "one; two; two", "IABC": "odd"}
    assert read_info(speech(1).save(tmp_path / "b.wav", given)) == given


def test_it_is_known_as_generated_however_long_the_comment_before_it(tmp_path):
    path = speech(1).save(tmp_path / "a.wav", {"ICMT": "a word " * 1_000 + "; " + GENERATED})
    again = load_audio(path)
    assert again.synthetic and again.mark.comment.startswith(f"{GENERATED}; a word a word") and len(again.mark.comment) == 4_000


def test_a_title_is_enough_to_be_known_as_generated(tmp_path):
    path = speech(1).save(tmp_path / "a.flac", {"INAM": GENERATED, "ICMT": "made smaller"})
    assert load_audio(path).mark == Mark(f"{GENERATED}; made smaller") and not load_audio(speech(1).save(tmp_path / "b.flac", {"INAM": "x"})).synthetic


@pytest.mark.parametrize("name, options, said", [
    ("a.aiff", {}, "a.aiff' ends in '.aiff': sound is saved as .wav, .flac, .ogg, .mp3"), ("a", {}, "ends in ''"), (".wav", {}, "ends in ''"),
    ("a.flac", dict(exact=True), "exact: FLAC holds no 32-bit floats"), ("a.ogg", dict(info={"IABC": "x"}), "info: OGG has no place for IABC"),
    ("a.mp3", dict(info={"ICMT": "a\0b"}), "info: ICMT holds a null character"), ("a.wav", dict(info={"abc": "x"}), "info: 'abc' is not four letters"),
])
def test_files_that_cannot_be_made(tmp_path, name, options, said):
    assert said in refusal(speech(1).save, tmp_path / name, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_saving_leaves_the_old_file(tmp_path, monkeypatch, ending):
    path = speech(1).save(tmp_path / f"a.{ending}")
    old = path.read_bytes()

    def full(descriptor): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"): speech(2).save(path)
    assert path.read_bytes() == old and os.listdir(tmp_path) == [path.name]


def test_a_generated_sound_as_a_reference_says_so(generated, tmp_path):
    clone = Reference(generated.save(tmp_path / "clone.mp3"), consent="<mine>")
    assert "AI-generated" in repr(clone) and f"<em>{MARK.comment}</em>" in clone._repr_html_() and clone.audio.mark == MARK
    real = Reference(speech(1), consent="mine")
    assert "AI-generated" not in repr(real) + real._repr_html_()


# References

def test_a_reference_from_a_path_an_audio_and_samples(tmp_path):
    audio = speech(1, -0.5, 1)
    path = audio.save(tmp_path / "my voice.wav")
    from_path, from_audio = Reference(path), Reference(load_audio(path))
    samples = from_audio.audio.samples
    assert (from_path.name, from_audio.name, Reference(audio, name="me").name) == ("my voice", "reference", "me")
    assert from_path.speech_seconds == pytest.approx(2.0, abs=0.05)
    same = [from_path, from_audio, Reference((samples, RATE)), Reference((samples[None], RATE)),
            Reference((np.stack([samples, samples], axis=1), RATE)), Reference((torch.tensor(samples), RATE))]
    assert len({reference.sha256 for reference in same}) == 1
    assert Reference((samples, 2 * RATE)).sha256 != from_path.sha256


@pytest.mark.parametrize("audio, said", [
    (speech(0.49), "'reference' is 0.49 s long, but at least 0.5 s"), (Audio([], RATE), "0.00 s long"),
    (speech(30.01), "is 30.01 s long, but at most 30 s"), (Audio(np.zeros(RATE), RATE), "silent: its loudest 20 ms"),
    (Audio(tone(peak=1e-3), RATE), "dBFS, not over -60"), ((tone(0.1), RATE), "0.10 s long"),
    ((np.zeros(RATE, np.int16), RATE), "type int16"), ((tone() * np.nan, RATE), "NaN"),
    ((tone(), 1), "rate: must be a whole number from 8000 to 192000 Hz, got 1"),
    ((tone(),), "tuple given"), (None, "NoneType given"), (tone(), "ndarray given"), (b"a.wav", "bytes given"),
    ("none.wav", "No such file"),
])
def test_recordings_that_are_no_reference(audio, said): assert said in refusal(Reference, audio)


def test_short_and_silent_files_are_no_reference(tmp_path):
    assert "'a' is 0.40 s long" in refusal(Reference, speech(0.4).save(tmp_path / "a.wav"))
    assert "'b' is silent" in refusal(Reference, Audio(np.zeros(RATE), RATE).save(tmp_path / "b.wav"))


@pytest.mark.parametrize("seconds", [0.5, 30])
def test_the_limits_themselves_are_allowed(seconds): assert Reference(speech(seconds)).audio.seconds == seconds


def test_speech_with_digital_silence_round_it_is_a_reference():
    assert Reference(speech(-5, 0.1, -5)).speech_seconds < 0.2


@pytest.mark.parametrize("options, said", [
    (dict(transcript=""), "transcript: ''"), (dict(transcript=" \n "), "transcript: ' \\n '"),
    (dict(transcript=3), "transcript: 3"),
    (dict(transcript="a\0b"), "transcript"), (dict(consent=""), "consent: ''"), (dict(consent=None), "consent: None"),
    (dict(name=" "), "name: ' '"), (dict(name=7), "name: 7"), (dict(consent="x\0"), "consent"),
])
def test_texts_that_are_refused(options, said): assert said in refusal(Reference, speech(1), **options)


def test_an_exact_copy_of_a_reference_is_the_same_reference(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = Reference(Audio(tone(30.0) * 4.1, RATE), consent="synthetic")
    given.audio.save(tmp_path / "exact.wav", {"ISFT": "voicelab"}, exact=True)
    given.audio.save(tmp_path / "rounded.wav")
    again, warned = spoken(Reference, "~/exact.wav", consent="synthetic", remarks=())
    assert again.sha256 == given.sha256 and again.name == "exact" and not warned and read_info(tmp_path / "exact.wav") == {"ISFT": "voicelab"}
    assert Reference(tmp_path / "rounded.wav").sha256 != given.sha256


def test_the_notice_shows_until_consent_is_stated():
    silent = Reference(speech(1))
    assert silent.consent == "not stated" and "consent" in silent.notice and "\n" not in silent.notice
    assert html.escape(silent.notice) in silent._repr_html_()
    assert Reference(speech(1), consent="my own voice").notice == ""


def test_the_notice_comes_once_when_the_reference_is_made_at_the_line_that_made_it(tmp_path):
    path = syllables(1).save(tmp_path / "a.wav")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        silent = Reference(path)
        Reference(path, consent="mine"), replace(silent, noticed=True), repr(silent), silent._repr_html_()
    assert [str(warning.message) for warning in caught] == [silent.notice] and caught[0].filename == __file__


def test_a_setting_refuses_references_without_consent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, silent = speech(1).save(tmp_path / "a.wav"), spoken(Reference, speech(1))[0]
    (tmp_path / "settings.ini").write_text("[REFERENCE_POLICY]\nrequire_consent = true\n")
    said = refusal(Reference, path)
    assert said.startswith("consent: none is stated for the voice 'a'") and "require_consent" in said and "consent=" in said
    assert Reference(path, consent="mine").consent == "mine"
    strict = Settings(references=ReferencePolicy(require_consent=True))
    assert refusal(silent.check_consent, strict).startswith("consent: none is stated for the voice 'reference'")
    silent.check_consent(Settings())
    Reference(path, consent="mine").check_consent(strict)


def test_html_is_escaped():
    shown = Reference(speech(1), "<script>", "<b>", "<i>")._repr_html_()
    assert "<script>" not in shown and "<b>" not in shown and "<i>" not in shown and "&lt;script&gt;" in shown


# What is done to a recording, and heard in it

@pytest.mark.parametrize("hiss", [0, 1e-3, 0.03])
@pytest.mark.parametrize("given", ["file", "array", "array of rows", "weak"])
def test_an_inverted_channel_does_not_silence_a_recording(tmp_path, given, hiss):
    voice, noise = syllables(1).samples, np.random.default_rng(0).normal(0, 1, (RATE, 2))
    both = np.stack([voice, -voice * (0.8 if given == "weak" else 1)], axis=1) + hiss * noise * voice.std()
    if given in ("file", "weak"): soundfile.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    source = tmp_path / "a.wav" if given in ("file", "weak") else (both.T if "rows" in given else both, RATE)
    reference, said = spoken(Reference, source, consent="mine")
    assert np.abs(reference.audio.samples - both[:, 0]).max() < 1e-6
    assert len(said) == 1 and "its channels cancel each other (is one inverted?): only channel 1 is read" in said[0]


@pytest.mark.parametrize("right", [1.0, 0.0, 0.5, -0.5, "other", "hiss", "late"])
def test_other_stereo_is_averaged(tmp_path, right):
    voice, other = syllables(1).samples, np.random.default_rng(0).normal(0, 0.05, RATE)
    second = dict(other=other, hiss=other / 50, late=np.roll(voice, 8)).get(right, voice * right if not isinstance(right, str) else None)
    both = np.stack([voice, second], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    for call in (load_audio, lambda path: Reference((both, RATE), consent="mine").audio):
        audio, said = spoken(call, tmp_path / "a.wav")
        assert np.abs(audio.samples - both.mean(axis=1)).max() < 1e-6 and not [words for words in said if "cancel" in words]


def test_a_silent_or_single_channel_is_not_cancelled(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((RATE, 2)), RATE)
    audio, said = spoken(load_audio, tmp_path / "a.wav")
    assert audio.peak == 0 and not said and not spoken(load_audio, syllables(1).save(tmp_path / "b.wav"))[1]


@pytest.mark.parametrize("offset", [0.02, -0.3, 0.9])
def test_an_offset_is_no_sound(offset):
    voice = Audio.join([syllables(1), Audio(np.zeros(RATE), RATE), syllables(1)])
    moved = Audio(voice.samples + np.float32(offset), RATE)
    assert moved.silences() == voice.silences() and moved.speech_seconds == voice.speech_seconds
    assert "silent: its loudest 20 ms" in refusal(Reference, Audio(np.full(RATE, offset), RATE))
    reference, said = spoken(Reference, moved, consent="mine")
    assert [words for words in said if f"a constant offset of {moved.samples.mean():.2g} was removed" in words]
    assert abs(reference.audio.samples.mean()) < 1e-6 and reference.audio.samples == pytest.approx(voice.samples - voice.samples.mean(), abs=1e-6)


def test_a_small_offset_stays():
    voice = Audio(syllables(1).samples + np.float32(0.005), RATE)
    assert Reference(voice, consent="mine").audio is voice


@pytest.mark.parametrize("before, behind, left", [(0, 0, (0, 0)), (0.9, 0.9, (0.9, 0.9)), (10, 0, (0.25, 0)), (0, 10, (0, 0.25)), (3, 4, (0.25, 0.25)),
                                                  (5, 0.6, (0.25, 0.6))])
def test_long_silence_at_the_ends_is_cut_and_told(before, behind, left):
    voice = Audio(np.where(np.arange(2 * RATE) % 100 < 50, 0.1, -0.1) * (1 + 0.5 * np.sin(np.arange(2 * RATE) / 600)), RATE)
    padded = Audio.join([Audio(np.zeros(round(before * RATE)), RATE), voice, Audio(np.zeros(round(behind * RATE)), RATE)])
    reference, said = spoken(Reference, padded, consent="mine")
    kept, told = spoken(Reference, padded, consent="mine", trim=False)
    assert reference.audio.seconds == pytest.approx(2 + sum(left), abs=0.03) and kept.audio is padded
    for lines in (said, told):
        lines = [line for line in lines if "silence around the speech" in line]
        assert len(lines) == (max(before, behind) > 1)
        if lines: assert f"{before:.1f} s before and {behind:.1f} s after it" in lines[0]
    again = spoken(replace, reference, transcript="Words.")
    assert again[0].audio is reference.audio and not again[1] and again[0].remarks == reference.remarks


@pytest.mark.parametrize("clicks, counted", [([1.0], 1), ([0.4, 2.0], 2), ([2.0, 2.09], 1), ([6.5], 1), ([0.5, 7.0], 2)])
def test_clicks_in_silence_at_the_ends_are_cut_with_it(clicks, counted):
    voice = syllables(2)
    padded = np.concatenate([np.zeros(3 * RATE), voice.samples, np.zeros(3 * RATE)])
    plain, _ = spoken(Reference, Audio(padded, RATE), consent="mine")
    for at in clicks: padded[round(at * RATE):][:80] = 0.5               # 5 ms
    reference, said = spoken(Reference, Audio(padded, RATE), consent="mine")
    assert np.array_equal(reference.audio.samples, plain.audio.samples)
    said, = [line for line in said if "silence around the speech" in line]
    assert f"after it, except for {counted} click{'s' * (counted > 1)}: all but 0.25 s was cut" in said


@pytest.mark.parametrize("sounds", [[(1.5, 0.2)], [(2.8, 0.01)]])         # start and seconds: a short word; a click close to the speech
def test_what_is_no_click_stays(sounds):
    padded = np.concatenate([np.zeros(3 * RATE), syllables(2).samples])
    for at, seconds in sounds: padded[round(at * RATE):round((at + seconds) * RATE)] = 0.3 * np.sign(np.sin(np.arange(round(seconds * RATE)) / 20))
    reference, said = spoken(Reference, Audio(padded, RATE), consent="mine")
    assert reference.audio.seconds == pytest.approx(5 - sounds[0][0] + 0.25, abs=0.03) and not any("click" in line for line in said)


def test_clicks_alone_are_not_cut_from_each_other():
    clicks = np.zeros(5 * RATE)
    for at in (1.5, 3): clicks[round(at * RATE):][:80] = 0.5
    reference, _ = spoken(Reference, Audio(clicks, RATE), consent="mine")
    assert reference.audio.seconds == pytest.approx(1.5 + 2 * 0.25, abs=0.05)


def test_a_recording_above_full_scale_is_kept_and_told():
    voice = syllables(1)
    loud, said = spoken(Reference, Audio(voice.samples * 10, RATE), consent="mine")
    assert loud.audio.peak == pytest.approx(voice.peak * 10) and "dB over full scale" in said[0] and loud.remarks[0] in loud._repr_html_()
    assert spoken(Reference, voice, consent="mine")[1] == []


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_whole_numbers_in_floats_are_refused_in_one_line(tmp_path, subtype):
    whole = np.round(syllables(1).samples / syllables(1).peak * 32767)
    soundfile.write(tmp_path / "a.wav", whole, RATE, subtype=subtype)
    for call, given in ((load_audio, tmp_path / "a.wav"), (Reference, tmp_path / "a.wav"), (Reference, (whole, RATE))):
        said = refusal(call, given)
        assert "samples: the largest is 32767, +90 dBFS" in said and "divide whole numbers by 32768" in said
    assert Audio(np.full(10, 100.0), RATE).peak == 100 and "at most 100" in refusal(Audio, [100.1], RATE)


@pytest.mark.parametrize("samples", [np.zeros(RATE, np.int16), np.zeros((RATE, 2)), np.zeros(3), [0.0] * 2000, torch.zeros(9)])
def test_scipys_order_is_answered_in_one_short_line(samples):
    assert refusal(Reference, (RATE, samples)) == "audio: (rate, samples) given, as scipy returns it, but (samples, rate) is needed"
    said = refusal(Audio, np.zeros(3), samples)
    assert said.startswith("rate: must be a whole number from 8000 to 192000 Hz, got ") and len(said) < 150


NOISE = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
MOMENTS = np.arange(3 * RATE) / RATE


def tune(notes_a_second, sustained):
    "Notes of a synthesiser, with seven partials."
    place = MOMENTS * notes_a_second
    hertz = 220 * 2 ** (np.array([0, 4, 7, 5, 9, 2, 11, 3])[place.astype(int) % 8] / 12)
    wave = sum(np.sin(2 * np.pi * k * hertz * (place % 1) / notes_a_second) / k**1.5 for k in range(1, 8))
    return 0.1 * wave * (1 if sustained else np.exp(-3 * (place % 1)))


@pytest.mark.parametrize("samples, kind", [
    (NOISE, "noise"), (NOISE * (MOMENTS % 0.4 < 0.2), "noise"), (NOISE[:RATE], "noise"), (np.cumsum(NOISE) * 0.01, "a steady sound"),
    (np.sin(2765 * MOMENTS) * 0.3, "a tone or music"), (np.sin(2765 * MOMENTS) * (1 + np.sin(31 * MOMENTS)) * 0.2, "a tone or music"),
    (sum(np.sin(314.16 * k * MOMENTS) / k for k in range(1, 12)) * 0.1, "a tone or music"),
    *((tune(pace, sustained), "a tone or music") for pace in (1, 2, 4, 8) for sustained in (True, False)),
])
def test_noise_tones_and_tunes_are_told(samples, kind):
    reference, said = spoken(Reference, Audio(samples, RATE), consent="mine")
    assert [f"audio: 'reference': {words}" for words in reference.remarks] == said and f"it sounds like {kind}: " in said[-1]


PEOPLE = Path(os.environ.get("VOICELAB_VOICES", "no-such-folder"))      # recordings of people, where there are some


@pytest.mark.parametrize("path", sorted([*Path(__file__).parent.parent.glob("data/voices/*.wav"), *PEOPLE.glob("*.wav")]), ids=lambda path: path.stem)
def test_speech_gives_no_remark(path):
    whole = load_audio(path)
    pieces = [whole.slice(start, start + 2) for start in range(int(whole.seconds) - 1)]
    noise = np.random.default_rng(0).normal(0, whole.samples.std() * 0.3, len(whole.samples))
    assert [piece.unlike_speech for piece in (whole, *pieces, Audio(whole.samples + noise, whole.rate), whole.slice(0.5, 1))] == [""] * (len(pieces) + 3)
    assert Reference(path, consent="mine").remarks == () and Reference(path, consent="mine").sha256 == Reference(whole, consent="mine").sha256


@pytest.mark.parametrize("limit", [0, 0.4, 30.1, -1, np.nan, "10", True])
def test_limits_of_a_reference_that_are_refused(tmp_path, limit):
    assert "limit_seconds: " in refusal(Reference, syllables(3).save(tmp_path / "a.wav"), limit_seconds=limit)


def test_a_reference_is_cut_where_its_owner_wants(tmp_path):
    recording = Audio.join([syllables(2.5), Audio(np.zeros(RATE // 2), RATE), syllables(3)])
    for source in (recording.save(tmp_path / "a.wav"), recording, (recording.samples, RATE)):
        reference, said = spoken(Reference, source, consent="mine", limit_seconds=4)
        assert reference.audio.seconds == pytest.approx(2.75, abs=0.1) and len(said) == 1
        assert "6.0 s long, longer than the limit of 4 s: cut at 2.8" in said[0] and "limit_seconds sets another limit" in said[0]
    assert spoken(Reference, recording, consent="mine", limit_seconds=20)[1] == []


# Seeing and hearing

def test_the_picture_takes_the_place_of_the_given_axes_and_leaves_no_figure():
    from matplotlib import pyplot
    from matplotlib.figure import Figure
    audio = speech(-0.5, 1, -0.5, 1)
    figure = Figure()
    ax = figure.subplots()
    assert audio.plot(ax) is ax and len(figure.axes) >= 2 and "full scale" in ax.get_ylabel()
    assert len(ax.patches) == len(audio.silences()) == 2
    assert audio.png_bytes().startswith(b"\x89PNG") and pyplot.get_fignums() == []


@pytest.mark.parametrize("audio", [Audio(np.zeros(RATE), RATE), Audio([0.5], 8_000), speech(100),
                                   Audio(tone(0.01, 192_000), 192_000), Audio(tone() * 5, RATE)], 
                         ids=["zeros", "one", "long", "short", "loud"])
def test_any_clip_has_a_picture_and_a_player(audio):
    shown = audio._repr_html_()
    assert "data:audio/wav;base64," in shown and "data:image/png;base64," in shown


def test_the_player_plays_the_true_level():
    import io
    content = Audio(tone(peak=0.05), RATE).player().split("base64,")[1].split('"')[0]
    assert np.abs(soundfile.read(io.BytesIO(base64.b64decode(content)))[0]).max() == pytest.approx(0.05, abs=1e-4)


def test_importing_does_not_load_matplotlib():
    root = Path(__file__).parent.parent
    code = "import sys, voicelab.audio; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_that_a_sound_is_generated_is_never_left_out():
    long, said = "a" * LONGEST_TEXT, f"made by me, {GENERATED}"
    assert Mark.join([Mark(long), Mark(said)]).synthetic and Mark(long + GENERATED).synthetic and Mark.join([Mark(said), Mark(long * 2)]).synthetic
    assert len(Mark(long + GENERATED).comment) == LONGEST_TEXT and not Mark(long * 2).synthetic


def test_the_notice_is_given_once_also_for_what_is_made_of_a_reference():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reference = Reference(syllables(1), transcript="Two owls.")
        replace(replace(reference, name="Anna"), transcript="Three owls.")
    assert len(caught) == 1 and "No consent is stated" in str(caught[0].message)


def test_the_callers_autocast_does_not_round_a_sound():
    plain = Audio(tone(), 44_100).resample(16_000)
    with torch.autocast("cpu", dtype=torch.bfloat16): assert np.array_equal(Audio(tone(), 44_100).resample(16_000).samples, plain.samples)
