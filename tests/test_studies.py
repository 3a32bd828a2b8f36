"""What holds for every study: with VITA, a family without likelihoods; one voice and one text; an interruption; a reference that is too short."""
import warnings
from dataclasses import replace

import pytest
import torch
from test_ask import stop_after
from test_sweep import folder_of_whistler, whistler  # noqa: F401

import voicelab as vl
from voicelab import studies
from voicelab.audio import Audio
from voicelab.errors import VoicelabError
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.family import FAMILIES
from voicelab.identity import ModelSource
from voicelab.models.glm4voice import tiny_glm4voice
from voicelab.settings import Settings
from voicelab.study import STUDIES, StudyError
from voicelab.sweep import Sweep

SMALLEST = {"length": dict(seconds=[1.0], windows=1), "window": dict(places=2), "carry_over": dict(properties=["rate"]),
            "corruption": dict(damages={"noise": [10]}, clean=[]), "generations": dict(generations=2), "sampling": dict(temperatures=[0.5]),
            "caps": dict(margins=[1.0]), "two_references": dict(weights=[0.5]), "attention": dict(layers=[0], draws=1)}
REFUSED = {"transcript": "does not read the transcript of a reference"}
NEED_BITS = ("gain", "attention")        # studies of families with likelihoods, which the whistler has not
LITTLE = Settings()
LITTLE = replace(LITTLE, audio_generation=replace(LITTLE.audio_generation, min_seconds=0.5, min_tokens=10, max_tokens=25))


@pytest.fixture(scope="module")
def vita(): return VitaModel(tiny_vita(), tiny_glm4voice())


def ask(name, model, voices, folder, texts=("The boat was blue.",), **more):
    "The smallest form of a study; no warning repeats what its answer says."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = getattr(studies, name)(model, voices, list(texts), [0], folder, **SMALLEST.get(name, {}) | more)
    assert not [each for each in said if "has a value" in str(each.message)]
    return made


def shown(made):
    "What a study shows; its picture is drawn, or refused in a line."
    assert made.answers() and all("nan" not in each for each in made.answers()), made.answers()
    try: made.plot()
    except StudyError as error: assert "\n" not in str(error)
    return made._repr_html_()


@pytest.mark.parametrize("name", [*STUDIES])
def test_every_study_of_vita_runs_or_says_why_not(name, vita, voices, tmp_path):
    two = [voices["ada"], voices["ben"]]
    if name in REFUSED:
        with pytest.raises(StudyError) as refused: ask(name, vita, two, tmp_path / "a")
        assert REFUSED[name] in str(refused.value) and "\n" not in str(refused.value)
        return
    made = ask(name, vita, two, tmp_path / "a", settings=LITTLE)
    assert made.state.startswith("complete, ") and "failed" not in made.state
    assert ("<audio" in shown(made)) == (name != "caps")            # it shows samples that end by themselves; none did
    if name == "length": assert "likelihood_gain is of readings" in made.answer and "likelihood_gain is not judged" not in made.answer


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in (*REFUSED, *NEED_BITS)])
def test_one_voice_one_text_and_an_interruption(name, whistler, voices, tmp_path, monkeypatch):                # noqa: F811
    begun = []
    init = STUDIES[name].__init__
    monkeypatch.setattr(STUDIES[name], "__init__", lambda self, *given, **more: (begun.append(self), init(self, *given, **more))[1])
    seeds = dict(texts=["The garden is open."])
    voice = [voices["ada"], voices["ben"]] if name == "two_references" else voices["ada"]
    with monkeypatch.context() as patched:
        stop_after(patched, Sweep, "_keep", 1 if name not in ("caps", "variance") else 0)
        half = ask(name, whistler, voice, tmp_path / "a", **seeds)
    assert half is begun[0] and half.state.startswith("unfinished, ") and half.answer.startswith(half.state.capitalize())
    assert half.state in half._repr_html_()
    done = ask(name, whistler, voice, tmp_path / "a", **seeds)
    assert done.state.startswith("complete, "), done.state
    shown(done)


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in (*REFUSED, *NEED_BITS)])
def test_a_short_reference_is_used_or_refused_in_a_line(name, whistler, voices, tmp_path):                # noqa: F811
    short = vl.Reference(Audio(voices["ada"].audio.samples[:9600], 16_000), name="short", transcript="The old", consent="synthetic")
    try: made = ask(name, whistler, [short, voices["ben"]], tmp_path / "a")
    except VoicelabError as error:
        too_long = "references: 'short' has 0.60 s, not more than the "
        says = {"length": too_long, "window": too_long, "carry_over": "references: 'short' can't have its rate changed: ",
                "two_references": "weights: 0.5 leaves 0.30 s of 0.60 s to one of 'short' and 'ben'"}
        assert str(error).startswith(says[name]) and "\n" not in str(error)
    else: assert made.state.startswith("complete, ")


@pytest.mark.parametrize("name", ["length", "generations", "carry_over"])
def test_a_study_loads_its_model_once(name, whistler, voices, tmp_path, monkeypatch):                # noqa: F811
    loads, load = [], ModelSource.load
    monkeypatch.setattr(ModelSource, "load", lambda self: (loads.append(self.name), load(self))[1])
    more = dict(generations=3) if name == "generations" else {}
    ask(name, whistler, voices["ada"], tmp_path / "a", **more)
    assert loads == [whistler]
    ask(name, whistler, voices["ada"], tmp_path / "a", **more)
    assert loads == [whistler]                          # nothing is made, so nothing is loaded
    if name == "generations":
        ask(name, whistler, voices["ada"], tmp_path / "a", generations=5)
        assert loads == [whistler] * 2


def test_endings_with_one_temperature_can_be_heard(whistler, voices, tmp_path):                # noqa: F811
    made = ask("sampling", whistler, voices["ada"], tmp_path / "a")
    assert made.by == "ras_window" and all(words.startswith("ras window ") for words in made.telling())


def test_without_an_interval_nothing_is_said_to_be_alike(whistler, voices, tmp_path):                # noqa: F811
    two = [voices["ada"], voices["ben"]]
    assert "can't tell from which length on nothing is gained: no interval for 1 s" in ask("length", whistler, two, tmp_path / "a").answer
    assert "can't tell; generation 2 against the first: " in ask("generations", whistler, two, tmp_path / "b").answer


def test_the_length_study_asks_what_each_stretch_saves(whistler, voices, tmp_path):                # noqa: F811
    three, asked = [voices[name] for name in ("ada", "ben", "dan")], []
    def bits(speaker, text, codes, reference, **shaped):
        if len(asked) == 7: asked.append(None); raise KeyboardInterrupt
        asked.append(reference)
        return torch.full((1, codes.shape[1]), 5.0 - (reference.audio.seconds if reference else 0))
    FAMILIES["whistling"] = replace(FAMILIES["whistling"], code_bits=bits)
    texts, folder = ["The boat was blue.", "Eleven bells rang.", "Come home soon."], tmp_path / "a"
    with pytest.warns(UserWarning, match="stopped: unfinished, 9 samples, 7 of 27 questions asked"):
        half = studies.length(whistler, three, texts, [0], folder, seconds=[1.0], windows=1)
    assert half.state == "unfinished, 18 samples, 14 of them not measured yet" and half.answer.startswith("Unfinished, ")
    made = ask("length", whistler, three, folder, texts)
    assert made.state == "complete, 18 samples" and len(asked) == 28           # the last call before the stop is asked again
    found = made.compare("likelihood_gain").table.set_index("level")
    whole = sum(voice.audio.seconds for voice in three) / 3
    assert found["mean"]["whole"] == pytest.approx(whole, abs=1e-3) and found.difference[1.0] == pytest.approx(1 - whole, abs=1e-3)
    assert found.pairs[1.0] == 9 and "likelihood_gain is of readings that the model made from the whole recording" in made.answer
    assert "likelihood_gain" in made._repr_html_() and ask("length", whistler, three, folder, texts).answers() == made.answers() and len(asked) == 28


def test_a_study_may_get_more_seeds_or_fewer(whistler, voices, tmp_path):                # noqa: F811
    made = [studies.length(whistler, voices["ada"], ["The boat was blue."], seeds, tmp_path / "a", seconds=[1.0], windows=1).state
            for seeds in ([0], [0, 1], [0])]
    assert made == ["complete, 2 samples", "complete, 4 samples", "complete, 2 samples"]
