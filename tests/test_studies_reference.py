"""The studies of what a reference may be (window, transcript, corruption) and the length study's picture: bad input, an interruption, one voice
or text, and the answer's logic on made-up values whose truth is known. A whistler makes the samples, so they cost nothing."""
import numpy as np
import pytest
from test_sweep import folder_of_whistler, whistler  # noqa: F401
from whistling import register_whistler

import voicelab as vl
from voicelab.alter import words_of
from voicelab.audio import Audio
from voicelab.compare import Seen
from voicelab.corrupt import DAMAGES, at_level, cleaned, louder, mp3, mu_law, speech_db, subtracted, through, with_noise
from voicelab.errors import VoicelabError
from voicelab.family import FAMILIES
from voicelab.reference import Reference
from voicelab.studies.corruption import Corruption, first_break
from voicelab.studies.length import Length
from voicelab.studies.transcript import KINDS, Transcript, erred, foreign_words
from voicelab.studies.window import Window, best_elsewhere, chosen_by, gain_of, gains_at, joined, starts
from voicelab.study import STUDIES, StudyError
from voicelab.text import weigh

TEXTS = ["The boat.", "Bells rang.", "Come home."]


@pytest.fixture
def ask(folder_of_whistler, voices, tmp_path):      # noqa: F811
    "A study of a kind, with the whistler, three voices and three texts."
    register_whistler()
    def made(kind, **given):
        usual = dict(references=[voices[name] for name in ("ada", "ben", "dan")], texts=TEXTS, seeds=[0], folder=tmp_path / kind.name)
        return kind(folder_of_whistler, **usual | given)
    yield made
    del FAMILIES["whistling"]


def pretend(study, value, monkeypatch, name="similarity"):
    "Let the measure of each cell be `value(labels, chance)`; None is unavailable. Other measures have no values."
    rng = np.random.default_rng(0)
    def view(metric):
        found = [value(cell.labels, rng.normal(0, 0.01)) if metric.name == name else None for cell in study.sweep.grid.cells]
        return [Seen(cell.labels, cell.speaker, cell.text, "eos", each, "made up", "" if each is not None else "nobody listened")
                for cell, each in zip(study.sweep.grid.cells, found)]
    monkeypatch.setattr(study.sweep, "_view", view, raising=False)
    return study


# ---- bad input

@pytest.mark.parametrize("kind, given, words", [
    (Window, dict(seconds=5.0), "references: 'ada' has 2.44 s, not more than the 5 s of a stretch; give a longer recording"),
    (Window, dict(seconds=0.1), "seconds: must be at least 0.5, got 0.1"), (Window, dict(places=1), "places: must be"),
    (Window, dict(clips=1), "clips: must be"), (Window, dict(references=[None]), "references: 'window' needs at least one voice"),
    (Transcript, dict(kinds=["spelt"]), "kinds: must be among wrong, empty"), (Transcript, dict(kinds=[]), "kinds: need at least one"),
    (Transcript, {}, "prompt_form: of this model does not read the transcript of a reference"),
    (Corruption, dict(damages=["rain"]), "damages: must be all, or among noise, reverb"), (Corruption, dict(damages=[]), "damages: need at least one"),
    (Corruption, dict(damages={"noise": []}), "damages: 'noise' needs at least one step"),
    (Corruption, dict(damages={"MP3": [500]}), "damages: MP3 500 kbit/s: kilobits: must be 9 to 160, got 500"),
    (Corruption, dict(damages=["noise"], clean=["rain"]), "clean: must be among"),
    (Length, dict(seconds=[9.0]), "references: 'ada' has 2.44 s, not more than the shortest length of 9 s")])
def test_bad_input_is_one_line(ask, kind, given, words):
    with pytest.raises(VoicelabError) as caught: ask(kind, **given)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_two_voices_of_one_name_are_refused(ask, voices):
    twin = Reference(voices["ben"].audio, voices["ben"].transcript, voices["ben"].consent, name="ada")
    with pytest.raises(StudyError, match="references: 2 voices are named 'ada'; give each its own name="): ask(Window, references=[voices["ada"], twin])


@pytest.mark.parametrize("words", [None, "Hello.", "no no", "No. No."])
def test_a_transcript_that_reads_the_same_backwards_is_refused(ask, voices, words):
    voice = Reference(voices["ada"].audio, words, "mine", name="ada")
    with pytest.raises(StudyError, match="needs a transcript of at least two different words"):
        Transcript("tiny", references=[voice], texts=TEXTS, folder="never")


def test_a_form_that_reads_no_transcript_is_refused_and_empty_is_left_out_where_it_must_be(voices, tmp_path, model):
    given = dict(references=[voices["ada"]], texts=TEXTS[:1], seeds=[0])
    with pytest.raises(StudyError, match="prompt_form: 'system_ref' does not read the transcript"):
        Transcript(model, folder=tmp_path / "a", prompt_form=["assistant_ref", "system_ref"], **given)
    study = Transcript(model, folder=tmp_path / "b", prompt_form=["assistant_ref", "user_ref"], **given)
    assert len(study.sweep) == 2 * 5 and "empty" in study.left_out and "needs one, got none" in study.left_out["empty"]
    assert study.answers()[-1].startswith("'empty' is not asked: transcript: form")
    assert {cell.options["budget"] for cell in study.sweep.grid.cells} == {"words_per_minute"}


# ---- running, interruption, one voice, one text

@pytest.mark.parametrize("kind, given", [(Window, {}), (Corruption, dict(damages={"noise": [0], "codec": [1, 2]}, clean=[])),
                                         (Length, dict(seconds=[1.0], windows=1))])
def test_these_studies_run_with_any_family_and_go_on_after_an_interruption(ask, voices, kind, given):
    given = dict(references=[voices["ada"]], texts=TEXTS[:2]) | given
    study = ask(kind, **given)
    study.sweep.run(most=2)
    assert study.state == f"unfinished, 2 of {len(study.sweep)} samples" and study.answer.startswith("Unfinished, 2 of")
    study._repr_html_()
    again = ask(kind, **given).run()
    assert again.state == f"complete, {len(study.sweep)} samples" and isinstance(again.comparisons["wer"], str)
    assert any("wer is not judged: wer: no cell has a value" in each for each in again.answers())
    shown = again._repr_html_()
    assert "data:image/png" in shown and "<audio" in shown


def test_a_damage_that_changes_nothing_is_left_out(ask, voices):
    "The whistler's codec gives its own sound again unchanged."
    study = ask(Corruption, references=[voices["ada"]], damages={"codec": [2, 4]})
    assert len(study.sweep) == 2 * len(TEXTS) and "codec 4 trips of 'ada' is left out: it is the same sound as codec 2 trips" in study.answer


def test_a_study_without_samples_has_no_picture_and_says_why(ask):
    for kind in (Window, Corruption, Length):
        study = ask(kind)
        with pytest.raises(StudyError, match="has no measured samples to compare yet; `run` makes them"): study.plot()
        assert "no cell has a value" in study.answer and study.telling() == {}


@pytest.mark.parametrize("few, words", [(dict(texts=TEXTS[:1]), "for these texts only"), (dict(references=["ada"]), "for these speakers only")])
def test_one_voice_or_one_text_is_said(ask, voices, monkeypatch, few, words):
    if "references" in few: few = dict(references=[voices["ada"]])
    for kind, given in ((Window, {}), (Corruption, dict(damages=["noise"]))):
        study = pretend(ask(kind, **few, **given), lambda labels, chance: 0.8 + chance, monkeypatch)
        assert words in study.answer
        study.plot()


# ---- made-up values

def test_a_better_place_and_better_joined_clips_are_found(ask, monkeypatch):
    worth = lambda labels, chance: 0.7 + 0.1 * (labels["place"] == 2) + 0.2 * (labels["clips"] == 2) + chance
    study = pretend(ask(Window), worth, monkeypatch)
    gains = study.gains("similarity").set_index("choice")
    assert gains.verdict["place 2 of 3"] == "higher" and gains.difference["place 2 of 3"] == pytest.approx(0.2 / 3, abs=0.02)
    assert gains.verdict["place 1 of 3"] == "lower" and gains.verdict["the best in hindsight"] == "higher"
    assert any("place 2 of 3 has higher similarity than a random stretch" in each for each in study.answers())
    assert any("clips 2 against 1: similarity is higher (better)" in each for each in study.answers())


def test_without_an_effect_nothing_is_found(ask, monkeypatch):
    study = pretend(ask(Window), lambda labels, chance: 0.7 + chance, monkeypatch)
    assert {*study.gains("similarity").dropna(subset="difference").verdict} == {"can't tell"}
    assert any("can't tell any of 3 places from a random stretch" in each for each in study.answers())


def test_a_stretch_without_a_value_is_left_out_with_its_twins(ask, monkeypatch):
    lost = lambda labels, chance: None if (labels["place"], labels["reference"]) == (2, "ada") else 0.7 + chance
    study = pretend(ask(Window), lost, monkeypatch)
    assert len(study.table_of("similarity")) == 6 and "similarity: 3 of 9 voices, texts and seeds are left out" in study.answer


def test_the_best_of_the_same_text_is_not_taken_for_the_best():
    rng = np.random.default_rng(1)
    chance = {(f"v{v}", f"t{t}", ""): {place: rng.normal() for place in range(4)} for v in range(10) for t in range(8)}
    honest = gain_of("hindsight", "", gains_at(chance, lambda key: best_elsewhere(chance, 1, key)), 1)
    greedy = gain_of("hindsight", "", gains_at(chance, lambda key: [max(chance[key], key=chance[key].get)]), 1)
    assert honest.verdict == "can't tell" and greedy.verdict == "higher"


def test_where_a_damage_breaks_and_whether_cleaning_helps(ask, monkeypatch):
    loss = {"noise 10 dB SNR": 0.1, "noise 0 dB SNR": 0.3, "noise 0 dB SNR, cleaned": 0.1, "noise 10 dB SNR, cleaned": 0.1}
    study = pretend(ask(Corruption, damages=["noise", "band"], clean=["noise"]),
                    lambda labels, chance: 0.8 - loss.get(labels["corruption"], 0) + chance, monkeypatch)
    assert first_break(study.ladder("similarity", "noise")).level == "noise 10 dB SNR" and first_break(study.ladder("similarity", "band")) is None
    found = study.answers()
    assert any(each.startswith("similarity breaks at noise 10 dB SNR, -0.") for each in found)
    assert any(each.startswith("no step is seen to be worse in similarity; the last is band 1000 Hz") and "can detect" in each for each in found)
    assert any(each.startswith("cleaned, noise 0 dB SNR has higher similarity than uncleaned, +0.") for each in found)
    assert any(each.startswith("can't tell whether cleaning changes similarity at noise 20 dB SNR, noise 10 dB SNR") for each in found)
    assert any(each.startswith("with nothing to clean, similarity: ") for each in found)


def test_missing_pairs_are_said_with_what_they_could_change(ask, monkeypatch):
    study = pretend(ask(Corruption, damages=["noise"], clean=[]), lambda labels, chance:
                    None if labels["text"] == TEXTS[0] and labels["corruption"] == "noise 0 dB SNR" else 0.8 + chance, monkeypatch)
    said = next(each for each in study.answers() if "the last is noise 0 dB SNR" in each)
    assert "6 pairs, " in said and "; 3 pairs are missing; with the lowest or the highest value here for each, " in said


def test_a_better_step_is_no_break(ask, monkeypatch):
    study = pretend(ask(Corruption, damages=["level"], clean=[]), lambda labels, chance: 0.8 + 0.1 * (labels["corruption"] != "none") + chance, monkeypatch)
    assert first_break(study.ladder("similarity", "level")) is None and "none, cleaned" not in study.sweep.table.corruption.tolist()


def test_the_length_picture_has_a_line_and_a_panel_for_each_measure(ask, monkeypatch):
    study = pretend(ask(Length, seconds=[0.5, 1.0], windows=1), lambda labels, chance: 0.8 + chance, monkeypatch)
    axis = study.plot()
    assert axis.get_xlabel() == "length of the reference (s)" and axis.get_ylabel() == "similarity (cosine)" and len(axis.figure.axes) == 1
    assert "2.4 to 2.8 s" in axis.get_title(loc="left") and [tick.get_text() for tick in axis.get_xticklabels()] == ["0.5", "1"]


# ---- sounds and words

def test_joined_clips_have_the_words_of_their_places(voices):
    ada = voices["ada"]
    made = joined(ada, 1.2, 3, {"clips": 3})
    spans = [(begin, begin + 0.4) for begin in starts(ada, 0.4, 3)]
    inside = [word.text for word in words_of(ada) if any(a <= (word.begin + word.end) / 2 < b for a, b in spans)]
    assert made.transcript.split() == inside and made.audio.seconds == pytest.approx(1.2, abs=0.001) and made.source is ada


def test_a_rule_that_can_not_choose_chooses_nothing(voices):
    given = [voices["ada"], voices["ben"]]
    assert chosen_by(lambda each: 1.0, given) == [] and chosen_by(lambda each: float("-inf"), given) == []
    assert chosen_by(lambda each: each.audio.seconds, given) == [1]


@pytest.mark.parametrize("name", ["ada", "ben", "cleo", "dan", "noor"])
def test_the_wrong_transcripts_are_what_they_are_called(voices, name):
    said = voices[name].transcript
    made = {kind: erred(said, kind) for kind in KINDS}
    assert made["right"] == said and made["empty"] is None and sorted(made["wrong"].split()) == sorted(said.split()) and made["wrong"] != said
    assert weigh(made["too short"]) < weigh(said) < weigh(made["too long"])
    assert weigh(foreign_words(said)) == pytest.approx(weigh(said), rel=0.3) and len({*made.values()}) == len(KINDS)


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100])
def test_a_damaged_sound_keeps_its_length_rate_and_order_of_steps(voices, name, rate):
    clip = voices["ada"].audio.resample(rate)
    made = [DAMAGES[name].make(clip, step) for step in DAMAGES[name].steps]
    assert {(len(each.samples), each.rate) for each in made} == {(len(clip.samples), rate)}
    assert all(np.isfinite(each.samples).all() and each.mark == clip.mark for each in made)
    far = [np.square(each.samples - clip.samples).mean() for each in made]
    assert far[0] <= far[-1] or name == "reverb"            # the reverb has the same energy at each step, only longer


def test_silence_stays_silence(voices):
    silence = Audio(np.zeros(24_000), 24_000)
    for make in (lambda each: with_noise(each, 10), subtracted, cleaned, lambda each: at_level(each, -20), lambda each: louder(each, 20),
                 lambda each: mu_law(each, 8)):
        assert np.abs(make(silence).samples).max() < 0.01
    assert speech_db(silence) == -np.inf


def test_cleaning_removes_noise_where_there_are_pauses(voices):
    clip = voices["ben"].audio
    paused = Audio(np.concatenate([clip.samples, np.zeros(12_000), clip.samples]), clip.rate)
    far = lambda each: np.square(each.samples - paused.samples).mean()
    for snr in (20, 10, 0): assert far(subtracted(with_noise(paused, snr))) < 0.5 * far(with_noise(paused, snr))
    with pytest.raises(VoicelabError, match="audio: at least 2048 samples, got 100"): subtracted(Audio(np.zeros(100), 24_000))


def test_codecs_give_sound_in_time(voices, model):
    clip = voices["ada"].audio
    for kilobits in (10, 16, 32, 64, 160):
        made = mp3(clip, kilobits).samples
        assert np.correlate(made[8_000:16_000], clip.samples[8_000 - 50:16_000 + 50]).argmax() in (49, 50, 51)
    assert len(through(clip, model.codec, 2).samples) == len(clip.samples)


def test_a_libsndfile_without_mp3_is_said(ask, monkeypatch):
    monkeypatch.setattr("soundfile.available_formats", lambda: {"WAV": "WAV"})
    study = ask(Corruption, damages=["MP3", "noise"])
    assert "MP3 is left out: mp3: libsndfile" in study.answer and [*study.damages] == ["noise"]
    with pytest.raises(VoicelabError, match="can't write it"): mp3(Audio(np.zeros(100), 24_000), 32)


def test_the_studies_are_exported():
    names = {"corruption", "length", "transcript", "window"}
    assert names <= {*vl.studies.__all__} & {*STUDIES} and all(STUDIES[name].question.endswith("?") for name in names)
