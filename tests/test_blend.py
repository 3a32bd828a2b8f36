"""Two references whose predictions are mixed: the ends code for code, rows of a batch, prompt forms, long texts, stop reasons, refusals, and the
way from a sweep or the command line to the manifest."""
import json

import pytest
import torch

import voicelab as vl
from voicelab.cli import main
from voicelab.control import Control
from voicelab.families.higgs.blend import Blended
from voicelab.families.higgs.cache import CachedNetwork, PrefixStore
from voicelab.families.higgs.prompt import PROMPT_FORMS
from voicelab.generation import EngineError
from voicelab.reference import Reference
from voicelab.session import run_together

TEXT, SHORT = "The boat was blue.", dict(budget=vl.Budget("fixed", 0.0, 12, 21, None, "", ""))


@pytest.fixture(scope="module")
def pair(voices):
    "Prompts of different lengths."
    return [voices["ada"], voices["dan"]]


def ids(made): return [chunk.columns.tolist() for chunk in made.chunks]


@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_the_ends_are_the_clones_of_one_reference_code_for_code(model, pair, form):
    for weight, voice in zip((0, 1), pair):
        alone = model.clone(TEXT, reference=voice, seed=3, prompt_form=form, **SHORT)
        blended = model.clone(TEXT, reference=pair, blend=weight, seed=3, prompt_form=form, **SHORT)
        assert ids(blended) == ids(alone) and blended.prompt.text == alone.prompt.text and blended.prompt.form == form
        assert torch.equal(blended.codes, alone.codes) and blended.reference.name == "ada+dan"


@pytest.mark.parametrize("sampling", ["greedy", "upstream"])
def test_the_ends_are_equal_to_their_natural_end_and_have_the_budget_of_one_reference(model, pair, sampling):
    for weight, voice in zip((0.0, 1.0), pair):
        alone, blended = (model.clone(TEXT, seed=1, sampling=sampling, budget="reference_rate", **given)
                          for given in (dict(reference=voice), dict(reference=pair, blend=weight)))
        assert ids(blended) == ids(alone) and blended.budget == alone.budget and blended.stop_reason == alone.stop_reason
        assert blended.trace.entropy.tolist() == pytest.approx(alone.trace.entropy.tolist(), abs=1e-4)


def test_one_reference_blended_with_itself_is_its_clone(model, pair):
    alone = model.clone(TEXT, reference=pair[0], seed=2, **SHORT)
    assert ids(model.clone(TEXT, reference=[pair[0], pair[0]], blend=0.3, seed=2, **SHORT)) == ids(alone)


def test_the_mixture_is_that_of_log_probabilities(model, pair):
    prompts = [model.prompt(TEXT, voice) for voice in pair]
    mix = Blended(model.network, prompts[:1], 4, PrefixStore(), [0], beside=[(prompts[1], 0)], weights=[0.3])
    sides = CachedNetwork(model.network, prompts, 4, PrefixStore(), [0, 0])
    a, b = sides.prefill().log_softmax(-1)
    found = mix.prefill().log_softmax(-1)[0]
    assert torch.allclose(found, (0.7 * a + 0.3 * b).log_softmax(-1), atol=1e-5)
    other = ((0.7 * a.exp() + 0.3 * b.exp()).log() - found).abs().max()
    assert other > 0.1                                                                  # not the mixture of probabilities


def test_weights_and_sides_are_the_same_written_either_way(model, pair):
    one = model.clone(TEXT, reference=pair, blend=0.75, seed=1, **SHORT)
    assert ids(one) == ids(model.clone(TEXT, reference=pair[::-1], blend=0.25, seed=1, **SHORT))
    assert (one.settings["blend"], one.reference.name) == (0.75, "ada+dan")
    assert "0.25 of the first reference, 0.75 of the second" in one._repr_html_()


def test_rows_of_a_batch_are_what_they_are_alone(model, voices, pair):
    "Other references, texts of other lengths and rows that end before the others."
    texts, seeds = [TEXT, "Yes.", "Come home soon, and bring two cups of coffee."], [1, 2, 3]
    references = [pair, [voices["ben"], voices["cleo"]], pair[::-1]]
    made = model.clone_batch(texts, references=references, seeds=seeds, blend=0.4)
    assert len({each.codes.shape[1] for each in made}) == 3 and {each.stop_reason for each in made} == {"eos"}
    for text, voices_of_row, seed, each in zip(texts, references, seeds, made):
        assert ids(each) == ids(model.clone(text, reference=voices_of_row, seed=seed, blend=0.4))


def test_a_long_text_shows_both_prompts_the_same_earlier_turns(model, pair):
    text, options = "The boat was blue. Come home soon. Eleven bells rang.", dict(chunking=1.5, turns=1, seed=4)
    for weight, voice in zip((0, 1), pair):
        alone, blended = model.clone(text, reference=voice, **options), model.clone(text, reference=pair, blend=weight, **options)
        assert len(alone.chunks) == 3 and ids(blended) == ids(alone)
    session = model.stream(text, reference=pair, blend=0.5, **options)
    made, beside = session.run(), session.engine.beside
    assert [chunk.turns for chunk in made.chunks] == [chunk.turns for chunk in beside] == [0, 1, 1]
    assert [str(chunk.text) for chunk in beside] == [str(chunk.text) for chunk in made.chunks]
    prompt, _ = session.engine.prompt_beside(session)                       # of the last chunk
    shown = made.chunks[1]
    assert shown.stop_reason == "eos" and torch.equal(prompt.codes[-1], shown.codes) and torch.equal(prompt.codes[0], model.encode(pair[1]))
    assert torch.equal(made.chunks[2].prompt.codes[-1], shown.codes) and torch.equal(made.chunks[2].prompt.codes[0], model.encode(pair[0]))


def test_turns_that_only_one_prompt_has_room_for_are_shown_by_neither(model, voices):
    long = Reference(vl.Audio.join([voices["dan"].audio] * 3), "many words " * 9, "mine", name="long", remarks=())
    session = model.stream("The boat was blue. Come home soon.", reference=[voices["ada"], long], blend=0.5, chunking=1.5, turns=1, seed=0)
    own = model.stream("The boat was blue. Come home soon.", reference=long, chunking=1.5, turns=1, seed=0)
    assert own.chunks[1].turns == session.chunks[1].turns == session.engine.beside[1].turns


def test_a_blended_sample_streams_and_stops_like_any_other(model, pair):
    whole = model.clone(TEXT, reference=pair, blend=0.5, seed=1)
    session = model.stream(TEXT, reference=pair, blend=0.5, seed=1)
    assert sum(len(piece.samples) for piece in session) == len(whole.audio.samples) and ids(session.generation) == ids(whole)
    assert model.clone(TEXT, reference=pair, blend=0.5, seed=1, **SHORT).stop_reason == "budget"
    late = model.clone(TEXT, reference=pair, blend=0.5, seed=1, control=Control(timeout_seconds=0.0))
    assert late.stop_reason == "timeout" and late.settings["blend"] == 0.5
    looped = model.clone(TEXT, reference=pair, blend=0.5, seed=1, control=Control(repetition_frames=2))
    assert looped.stop_reason in ("repetition", "eos") and looped.codes.shape[1] <= whole.codes.shape[1]
    stopped = model.stream(TEXT, reference=pair, blend=0.5, seed=1)
    stopped.stop()
    assert stopped.run().stop_reason == "interrupted"


# ---- refusals

@pytest.mark.parametrize("blend, count, words", [
    (-0.01, 2, "blend: must be a number from 0 to 1, got -0.01"), (1.5, 2, "blend: must be a number from 0 to 1, got 1.5"),
    (float("nan"), 2, "got nan"), (float("inf"), 2, "got inf"), (True, 2, "got True"), ("0.5", 2, "got '0.5'"), ([0.5], 2, "got [0.5]"),
    (0.5, 0, "blend: mixes two references, got 0"), (0.5, 1, "got 1"), (0.5, 3, "got 3")])
def test_a_wrong_use_is_one_line(model, voices, blend, count, words):
    given = [voices[name] for name in ("ada", "ben", "cleo")][:count]
    with pytest.raises(vl.VoicelabError) as caught: model.clone(TEXT, reference=given or None, blend=blend)
    assert str(caught.value).startswith("blend: ") and words in str(caught.value) and "\n" not in str(caught.value)


def test_a_second_reference_without_transcript_is_refused_where_the_form_needs_one(model, voices):
    mute = Reference(voices["ben"].audio, None, "mine", name="mute")
    with pytest.raises(vl.VoicelabError, match="transcript: form 'assistant_ref' needs one, got none"):
        model.clone(TEXT, reference=[voices["ada"], mute], blend=0.5)
    assert model.clone(TEXT, reference=[voices["ada"], mute], blend=0.5, prompt_form="system_ref", seed=0, **SHORT).codes.shape[1]


def test_other_families_and_other_calls_refuse_it_in_words(model, pair):
    from whistling import Whistler
    with pytest.raises(vl.VoicelabError, match="blend: no such option; Whistler.stream takes"): Whistler("x").clone(TEXT, reference=pair[0], blend=0.5)
    with pytest.raises(vl.VoicelabError, match="blend: no such option; HiggsModel.prompt takes"): model.prompt(TEXT, pair, blend=0.5)
    with pytest.raises(vl.VoicelabError, match=r"texts\[0\]: blend: mixes two references, got 1"):
        model.clone_batch([TEXT, TEXT], references=pair, blend=0.5)                     # one reference for each text


def test_blended_and_other_sessions_share_no_batch(model, pair):
    one, two = (model.stream(TEXT, reference=pair, seed=0, **given) for given in ({}, dict(blend=0.5)))
    for sessions in ([one, two], [two, one]):
        with pytest.raises(EngineError, match="sessions: must be of one kind in a batch: all with blend="): run_together(sessions)


def test_memory_is_asked_for_both_rows(model, pair, monkeypatch):
    asked = []
    monkeypatch.setattr("voicelab.families.higgs.blend.check_memory", lambda network, rows, positions, columns: asked.append((rows, positions)))
    longest = max(len(model.prompt(TEXT, voice).ids) for voice in pair)
    model.clone_batch([TEXT, TEXT], references=[pair, pair], seeds=[0, 1], blend=0.5, **SHORT)
    assert asked == [(4, longest)]


# ---- sweeps, runs and the command line

def test_it_is_an_axis_of_a_sweep_and_kept_in_the_manifest(model, pair, tmp_path):
    given = dict(references=[tuple(pair)], texts=[TEXT], seeds=[0], **SHORT)
    sweep = vl.Sweep(tmp_path / "sweep", model, blend=[None, 0.0, 0.5], **given).run()
    assert len({cell.name for cell in sweep.grid.cells}) == 3 and sweep.table.status.tolist() == ["ok"] * 3
    assert sweep.table.blend.tolist()[1:] == [0.0, 0.5] and [pair.row["settings"].get("blend") for pair in sweep] == [None, 0.0, 0.5]
    alone = vl.Sweep(tmp_path / "alone", model, **given | dict(references=pair)).run()
    hashes = lambda sweep: [pair.row["hashes"]["codes"] for pair in sweep]
    assert hashes(sweep)[1] == hashes(alone)[0] and len({*hashes(sweep), *hashes(alone)}) == 4
    again = vl.Sweep(tmp_path / "sweep")
    assert [cell.options["blend"] for cell in again.grid.cells] == [None, 0.0, 0.5] and not again.cost.missing
    with pytest.raises(vl.VoicelabError, match="blend: must be a number from 0 to 1, got 2"): vl.Sweep(tmp_path / "wrong", model, blend=[0.5, 2], **given)


def test_a_batch_in_a_sweep_is_the_same(model, pair, voices, tmp_path):
    given = dict(references=[tuple(pair), (voices["ben"], voices["cleo"])], texts=[TEXT], seeds=[0], blend=[0.25, 0.75], **SHORT)
    one, two = (vl.Sweep(tmp_path / str(batch), model, batch=batch, **given).run() for batch in (1, 2))
    codes = lambda sweep: [pair.row["hashes"]["codes"] for pair in sweep]
    assert codes(one) == codes(two) and len({*codes(one)}) == 4


def test_the_command_line_blends_two_references(root, tmp_path, capsys):
    def told(*words):
        try: main(["clone", "--text", "Yes.", "--seed", "1", "--consent", "mine", "--out", str(tmp_path / "out"), "--json", *words])
        except SystemExit as stop: return stop.code, capsys.readouterr().err
        return 0, json.loads(capsys.readouterr().out.splitlines()[-1])
    voice = lambda name, words: ["--reference", str(root / f"data/voices/{name}.wav"), "--transcript", words]
    both = [*voice("ada", "The old library opens at nine in the morning."), *voice("ben", "My brother walks along the river.")]
    code, result = told(*both, "--blend", "0.5")
    assert code == 0 and "--blend 0.5" in result["repeat"] and vl.Run(tmp_path / "out").rows[-1]["settings"]["blend"] == 0.5
    for words, weight, said in ((both[:4], "0.5", "--blend: mixes two references, got 1"), (both, "nan", "--blend: must be a number from 0 to 1, got nan")):
        code, error = told(*words, "--blend", weight)
        assert code == 2 and error.startswith("voicelab clone: ") and said in error and error.count("\n") == 1
