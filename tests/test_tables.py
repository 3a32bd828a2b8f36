"A new budget rule, metric and stop rule show up everywhere, and nothing but their table is told of them."
import contextlib
import io
import json
import subprocess
from types import SimpleNamespace

import pytest

import voicelab as vl
from voicelab.asr import library
from voicelab.budget import RULES, BudgetError, Rule, columns_for_frames, letter_wish, make_budget, plan, rule_named
from voicelab.cli import main
from voicelab.control import STOP_REASONS, STOP_RULES, Control, ControlError, StopRule, StopRules
from voicelab.metrics import METRICS, Measure, Metric, chosen_metrics, measure
from voicelab.registry import Registry
from voicelab.settings import AudioGenerationConfig, Settings, SettingsError
from voicelab.text import count_words
from voicelab.widgets.tuner import Tuner

TEXT = "The garden is open today."
getattr(vl, "load")       # with its first use every metric joins the table
SHIPPED = [list(table) for table in (RULES, METRICS, STOP_RULES)]


class Countdown(StopRule):
    "Stops after so many frames, whatever is in them."
    name, says, limit = "countdown", "the countdown came to its end", 7

    def __init__(self, control):
        super().__init__(control)
        self.seen = 0

    def see(self, code):
        self.seen += 1
        return self.seen >= self.control.limits[self.name]


def loudest(audio):
    "Level of the loudest 20 ms."
    return Measure("loudest", audio.loudest_db, "dBFS", "test-loudest-1", "ok")


WORD_A_SECOND = Rule("word_a_second", lambda text, rate: float(count_words(text)),
                     lambda text, rate: f"{count_words(text)} words, a second each", letter_wish, settings=("reference_margin",))
LOUDEST = Metric("loudest", loudest, "dBFS", "test-loudest-1", True, "all but the loudest 20 ms")


@pytest.fixture(autouse=True)
def tables():
    "The tables as they were, after each test."
    kept = [(table, dict(table)) for table in (RULES, METRICS, STOP_RULES, STOP_REASONS)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


@pytest.fixture
def added():
    "One more of each."
    RULES.add(WORD_A_SECOND)
    METRICS.add(LOUDEST)
    STOP_RULES.add(Countdown)


@pytest.fixture
def made(added, model, reference):
    "A sample made with all three."
    return model.clone(TEXT, reference=reference, seed=1, budget="word_a_second")


def test_clone_and_report(made):
    assert made.budget.rule == "word_a_second" and made.budget.seconds == 5 and "5 words, a second each" in str(made.budget)
    assert made.stop_reason == "countdown" and "the countdown came to its end" in made._repr_html_()
    assert made.control.limits == {"countdown": 7}
    assert made.report()["loudest"].value == made.audio.loudest_db


def test_the_table_of_a_run(made, tmp_path):
    run = vl.Run(tmp_path)
    pair = run.save(made)
    (row,) = run.table.to_dict("records")
    assert row["loudest"] == pytest.approx(made.audio.loudest_db) and row["stop_reason"] == "countdown"
    assert pair.row["settings"]["budget"]["rule"] == "word_a_second"
    assert pair.row["settings"]["control"]["limits"] == {"countdown": 7}


def test_the_tuner(added, model):
    tuner = Tuner(model, TEXT)
    tuner.knobs.rule.value = "word_a_second"
    assert "5 words, a second each" in tuner.estimate.value
    assert not tuner.knobs.margin.disabled and tuner.knobs.most.disabled
    tuner.run()
    tuner.worker.wait(60)
    assert tuner.status.text == "Ended early (countdown): the countdown came to its end." and "the countdown came to its end" in tuner.result.words.value
    assert tuner.history.frame.loudest[0] == tuner.generation.audio.loudest_db
    assert "loudest" in tuner.history.sort.options and "<th scope='col'>loudest (dBFS)</th>" in tuner.history.table.value
    assert "loudest" in tuner.result.measures.value and "budget='word_a_second'" in tuner.code()


def test_the_command_line(added, tmp_path):
    def say(*words):
        with contextlib.redirect_stdout(io.StringIO()) as out: main([*words, "--json"])
        return out.getvalue(), json.loads(out.getvalue().splitlines()[-1])
    shown, cloned = say("clone", "--text", TEXT, "--seed", "1", "--budget", "word_a_second", "--out", str(tmp_path))
    assert cloned["budget"]["rule"] == "word_a_second" and cloned["stop_reason"] == "countdown"
    assert "the countdown came to its end" in shown
    shown, found = say("evaluate", str(tmp_path))
    assert "loudest" in found["rows"][0]["measures"] and "loudest" in shown.splitlines()[0]


def test_an_unknown_rule_is_refused_with_the_names_of_all(added):
    with pytest.raises(BudgetError, match="fixed, word_a_second, got 'guess'"): make_budget(TEXT, rule="guess")
    with pytest.raises(SettingsError, match="fixed, word_a_second"): AudioGenerationConfig(rule="guess")
    assert make_budget(TEXT, settings=Settings(AudioGenerationConfig(rule="word_a_second"))).rule == "word_a_second"


def test_a_rule_that_expects_more_than_a_chunk_makes_several(added):
    pieces = plan(f"{TEXT} " * 4, rule="word_a_second", settings=Settings(), chunk_seconds=8)
    assert " ".join(piece for piece, _ in pieces).split() == (TEXT.split() * 4)
    assert all(budget.seconds <= 8 for _, budget in pieces)


@pytest.mark.parametrize("table, record", [(RULES, WORD_A_SECOND), (METRICS, LOUDEST), (STOP_RULES, Countdown)])
def test_a_name_is_taken_once(table, record):
    assert table.add(record) is record
    with pytest.raises(ValueError, match=f"{record.name!r} is taken.*replace=True"): table.add(record)
    assert table.add(record, replace=True) is record


@pytest.mark.parametrize("reason", ("eos", "budget", "timeout", "interrupted"))
def test_a_stop_rule_takes_no_other_reason(reason):
    other = type("Other", (Countdown,), dict(name=reason))
    for replace in (False, True):
        with pytest.raises(ControlError, match="is taken by a stop reason"): STOP_RULES.add(other, replace=replace)
    assert reason not in STOP_RULES and STOP_REASONS[reason] != Countdown.says


def test_the_limit_of_a_stop_rule_can_be_set_and_taken_away():
    before = Control()
    STOP_RULES.add(Countdown)
    def reason(control, frames=10):
        rules = StopRules(control)
        for code in range(frames): rules.see(code)
        return rules.reason
    assert [reason(Control(limits=dict(countdown=limit))) for limit in (10, 11, None)] == ["countdown", None, None]
    assert reason(before) is None and before.limits == {}       # what it says is what watches
    assert hash(Control()) == hash(Control()) and Control() == Control() != before
    with pytest.raises(ControlError, match=r"limits: must name stop rules with a limit \(countdown\), got 'silence'"):
        Control(limits=dict(silence=3))


def test_the_first_of_several_rules_is_the_reason():
    STOP_RULES.add(Countdown)
    rules = StopRules(Control(repetition_frames=3, limits=dict(countdown=6)))
    for _ in range(9): rules.see(5)
    assert rules.reason == "repetition"


def test_a_metric_on_request(model, reference):
    made = model.clone(TEXT, reference=reference, seed=1)
    asked = made.report(also=["cepstral_distance"], same_words=made.audio)
    assert asked["cepstral_distance"].value == 0 and asked.measures[:-1] == made.report().measures
    lacking = made.report(also=["cepstral_distance"])["cepstral_distance"]
    assert (lacking.status, lacking.detail) == ("unavailable", "no recording of the same words to compare with")
    assert [m.name for m in measure(made.audio, metrics=["level"]).measures] == ["level"]
    with pytest.raises(ValueError, match="also: must be among duration_ratio, .*, got 'charm'"): made.report(also=["charm"])
    with pytest.raises(ValueError, match="refrence: none of the requested"): measure(made.audio, refrence=reference)
    with pytest.raises(ValueError, match="same_words: none of the requested"): made.report(same_words=made.audio)


@pytest.mark.parametrize("given, said", [
    (dict(audio="ada.wav"), "audio: must be an Audio, got 'ada.wav'"), (dict(audio=None), "audio: must be an Audio, got None"),
    (dict(text=5), "text: must be a text, got 5"), (dict(reference="ada.wav"), "reference: must be a Reference, got 'ada.wav'"),
    (dict(settings={}), "settings: must be Settings, got {}"), (dict(generation=5), "generation: must be a Generation, got 5"),
    (dict(metrics="wer"), "metrics: must be a list of names, got 'wer'"), (dict(metrics=5), "metrics: must be a list of names, got 5"),
    (dict(metrics=[[]]), "metrics: must be among duration_ratio, "), (dict(stop_reason=[]), "stop_reason: must be a stop reason, got []"),
    (dict(thresholds=5), "thresholds: must be QualityThresholds, got 5"), (dict(language=5), "language: must be a name or a code such as en, got 5"),
    (dict(recogniser=5), "recogniser: must be a Recogniser, or the folder, name or hub id of one, got 5"),
    (dict(recogniser=[]), "recogniser: must be a Recogniser, "), (dict(recogniser=len), "recogniser: must be a Recogniser, "),
    (dict(speaker="tiny", metrics=["likelihood_gain"]), "speaker: must be a loaded model, as vl.load gives it, got 'tiny'"),
    (dict(same_words="ada.wav", metrics=["cepstral_distance"]), "same_words: must be an Audio, got 'ada.wav'")])
def test_an_argument_of_a_wrong_type_is_one_line(reference, given, said):
    "Before anything is measured."
    known = dict(audio=reference.audio, text=TEXT) | given
    if "language" in given: known["recogniser"] = SimpleNamespace(id="told", hear=lambda audio, code: TEXT)
    with pytest.raises(ValueError) as error: measure(known.pop("audio"), **known)
    assert str(error.value).startswith(said)


def test_a_report_refuses_what_it_can_not_use(model, reference):
    made = model.clone(TEXT, reference=reference, seed=1)
    for given, said in ((dict(recogniser=5), "recogniser: must be a Recogniser, or the folder, name or hub id of one, got 5"),
                        (dict(speaker=5), "speaker: none of the requested metrics takes it"),
                        (dict(speaker=5, also=["likelihood_gain"]), "speaker: must be a loaded model, as vl.load gives it, got 5"),
                        (dict(also="mos"), "also: must be a list of names, got 'mos'"), (dict(also=5), "also: must be a list of names, got 5"),
                        (dict(also=[[]]), "also: must be among"), (dict(settings=5), "settings: must be Settings, got 5")):
        with pytest.raises(ValueError) as error: made.report(**given)
        assert str(error.value).startswith(said)
    assert made.report().passed is not None or made.report()["wer"].status == "unavailable"         # and stays usable


def test_every_metric_says_what_it_lacks(model, reference):
    known = dict(text=TEXT, reference=reference, thresholds=Settings().quality, same_words=reference.audio, stop_reason="eos", speaker=model,
                 recogniser=SimpleNamespace(id=f"{library()}/told", hear=lambda audio, code: TEXT))
    for metric in METRICS.values():
        assert set(metric.needs) <= set(metric.takes) and metric.cannot_hear
        assert all(hasattr(Settings().quality, key) for key in metric.limits)
        full = metric.measure(reference.audio, known)
        assert full.value is not None and (full.status in ("pass", "fail")) == (metric.is_limited(known["thresholds"]) or metric.name == "ended")
        assert full.model.startswith(metric.unavailable("why").model)
        for need in metric.needs: assert metric.measure(reference.audio, known | {need: None}).status == "unavailable"


def test_a_limit_of_a_new_metric_decides_whether_a_sample_passes(reference):
    def strict(audio, thresholds): return Measure("loudest", audio.loudest_db, "dBFS", "test-loudest-1", "fail")
    assert measure(reference.audio, text=TEXT).passed is True
    METRICS.add(Metric("loudest", strict, "dBFS", "test-loudest-1", True, "all else", limits=("max_silence_ratio",)))
    assert measure(reference.audio, text=TEXT).passed is False


def test_a_function_that_measures_something_else_is_a_bug(reference):
    metric = METRICS.add(Metric("loudest", METRICS["level"].find, "dBFS", "m", None, "all else"))
    with pytest.raises(AssertionError): metric.measure(reference.audio, {})


def test_what_ships():
    assert SHIPPED[0] == ["words_per_minute", "reference_rate", "fixed"] and SHIPPED[2] == ["silence", "repetition"]
    in_report = ["duration_ratio", "silence_ratio", "length", "level", "clipping", "ended", "end_level", "similarity", "wer", "cer"]
    on_request = {"cepstral_distance", "speaking_rate", "pauses", "pause_share", "f0_median", "f0_span", "mos", "likelihood_gain",
                  "spectral_tilt", "noise_floor"}
    assert SHIPPED[1][:10] == in_report and set(SHIPPED[1][10:]) == on_request
    assert [metric.name for metric in chosen_metrics(None)] == in_report
    keys = vars(AudioGenerationConfig())
    assert all(key in keys for rule in RULES.values() for key in rule.settings)
    assert rule_named("fixed").cap == "max_tokens" and columns_for_frames(1) == 10
    assert isinstance(RULES, Registry) and all(RULES.values())


def test_a_loaded_model_can_report(python):
    "In a process of its own: `load` alone brings every metric."
    words = "import voicelab as vl; vl.load; from voicelab.session import Generation as g; from voicelab.metrics import METRICS as m"
    done = subprocess.run([*python, "-c", f"{words}; print(hasattr(g, 'report'), *m)"], capture_output=True, text=True)
    assert done.stdout.split()[0] == "True" and set(done.stdout.split()[1:]) == set(SHIPPED[1]), done.stderr
