"A third family, that of whistling.py, works everywhere without a line changed elsewhere."
import ast
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from whistling import LOUD, Whistler, register_whistler

import voicelab as vl
from voicelab import lab
from voicelab.ablation import ablate
from voicelab.attention import AttentionError, attention_of
from voicelab.cli import main
from voicelab.control import Control
from voicelab.family import FAMILIES, Family, FamilyError, Speaker, register
from voicelab.lab import known_models
from voicelab.session import TRACE
from voicelab.widgets.delay import DelayPattern
from voicelab.widgets.prompt import PromptAnatomy
from voicelab.widgets.tuner import Tuner

TEXT = "Good evening, garden."


@pytest.fixture
def whistler(tmp_path):
    "The family, registered, and a model of it in a folder."
    register_whistler()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(dict(model_type="whistler")))
    yield str(tmp_path / "model")
    del FAMILIES["whistling"]


def test_it_is_loaded_cloned_streamed_and_put_in_a_batch(whistler, reference):
    model = vl.load(whistler)
    assert isinstance(model, Whistler) and isinstance(model, Speaker)
    made = model.clone(TEXT, reference=reference, seed=1)
    assert made.stop_reason == "eos" and made.codes.shape == (1, len(TEXT)) and list(made.trace.columns[:len(TRACE)]) == list(TRACE)
    again = model.clone(TEXT, reference=reference, seed=1)
    assert (made.warm_up, again.warm_up) == (True, False) and "with the warm-up of a model's first sample" in made._repr_html_()
    assert "warm-up" not in again._repr_html_()
    assert "".join(made.trace.letter) == TEXT and made.trace.seconds.tolist() == pytest.approx([n / 10 for n in range(len(TEXT))])
    streamed = model.stream(TEXT, reference=reference, seed=1)
    assert np.allclose(vl.Audio.join(streamed).samples, made.audio.samples, atol=1e-6) and made.audio.synthetic
    both = model.clone_batch([TEXT, "Again."], references=reference, seeds=[1, 2])
    assert torch.equal(both[0].codes, made.codes) and both[1].text == "Again."
    assert model.clone("z" * 30, control=Control(repetition_frames=3), seed=0).stop_reason in ("repetition", "eos")
    assert made.report()["similarity"].model and made._repr_html_()


@pytest.mark.parametrize("options, said", [
    (dict(temprature=1), "temprature: no such option"), (dict(scene="x"), "scene: no such option"),
    (dict(reference="ada.wav"), "reference: must be one Reference or None here, got 'ada.wav'")])
def test_what_it_does_not_take_is_one_line(whistler, reference, options, said):
    model = vl.load(whistler)
    with pytest.raises(vl.VoicelabError) as error: model.clone("Hi there.", **options)
    assert str(error.value).startswith(said)
    with pytest.raises(vl.VoicelabError, match="reference: must be one Reference"): model.clone("Hi.", reference=[reference, reference])


@pytest.mark.parametrize("other, said", [
    ("x", "family: must be a Family, got 'x'"), (Family("x", "whistler2", print), "model_types: must be a tuple of names, got 'whistler2'"),
    (Family("", ("a",), print), "family: needs a name"), (Family("x", ("a",), None), "family: needs a name and a `load` to call"),
    (Family("x", ("a",), print, known="a"), "known: must be a table")])
def test_what_is_no_family_is_refused(other, said):
    with pytest.raises(FamilyError) as error: register(other)
    assert str(error.value).startswith(said) and "x" not in FAMILIES


def test_it_works_in_a_run_and_on_the_command_line(whistler, tmp_path, root, capsys):
    main(["clone", "--text", TEXT, "--model", whistler, "--reference", str(root / "data/voices/ada.wav"), "--transcript",
          "The old library opens at nine in the morning.", "--consent", "synthetic", "--seed", "1", "--out", str(tmp_path / "run"), "--json"])
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result["warm_up"] and ", with the warm-up of a first sample" in out
    pair = vl.Run(tmp_path / "run")[0]
    assert result["model"] == "whistler" and result["frames"] == len(TEXT) and pair.row["model"]["family"] == "whistling"
    assert pair.generated.synthetic
    main(["evaluate", str(tmp_path / "run")])
    assert "1 sample, 0 failed" in capsys.readouterr().out and "tiny" in known_models().name.tolist()


def test_it_works_in_the_widgets_and_the_ablation(whistler, reference):
    model = vl.load(whistler)
    tuner, walk, anatomy = Tuner(model, TEXT, reference), DelayPattern(model, TEXT, reference), PromptAnatomy(model, TEXT)
    for widget in (tuner, walk):
        widget.run()
        widget.worker.wait(60)
        assert not widget.status.failed and widget.generation.codes.shape == (1, len(TEXT))
    assert replace(tuner.generation.sampling, seed=None, top_p=None) == LOUD
    assert torch.equal(tuner.generation.codes, model.clone(TEXT, reference=reference, seed=1).codes)
    assert "nothing is delayed" in walk.counters.value and TEXT in anatomy.prompt.text
    assert f"<td>letter &lt;of the text&gt;</td><td>{TEXT[-1]}</td>" in walk.counters.value        # what the family adds to the trace
    assert f"The last letter was {TEXT[-1]}." in tuner.result.words.value
    assert "odebook" not in tuner.result.words.value + walk.counters.value.partition("<span")[0]
    found = ablate(model, TEXT, reference, arms=["right", "none"], seeds=[0, 1])
    assert found.table.samples.tolist() == [2, 2] and "right" in found._repr_html_()
    with pytest.raises(AttentionError, match="of the family whistling; attention can be read for"): attention_of(model, tuner.generation)
    for widget in (tuner, walk, anatomy): widget.close()


@pytest.mark.parametrize("other, said", [(Family("whistling", (), print), "name: 'whistling' of 'whistling' is taken"),
                                         (Family("b", ("whistler",), print), "model_types: 'whistler' of 'b' is taken by the family 'whistling'"),
                                         (Family("b", (), print, {"tiny": {}}), "known: 'tiny' of 'b' is taken"),
                                         (Family("b", (), print, {"coco": dict(hub="a/b", size="1 MB")}), "known: 'coco' of 'b' lacks license, languages$"),
                                         (Family("b", (), print, {"coco": dict(size="1 MB", license="MIT", languages="any")}), "lacks folder or hub$")])
def test_what_can_not_be_registered_is_said(whistler, other, said):
    with pytest.raises(FamilyError, match=said): register(other)
    assert "b" not in FAMILIES


def test_the_models_are_those_of_the_families_that_are_there(monkeypatch):
    monkeypatch.setitem(FAMILIES, "parrot", Family("parrot", ("parrot",), print, {"polly": dict(folder="cage")}))
    assert "polly" in lab.MODELS
    monkeypatch.undo()
    assert "tiny" in lab.MODELS and "polly" not in lab.MODELS


def test_a_loader_that_fails_shows_its_own_error(tmp_path, monkeypatch):
    def broken(*_): raise RuntimeError("no such layer")
    monkeypatch.setitem(FAMILIES, "broken", Family("broken", ("broken",), broken))
    (tmp_path / "config.json").write_text('{"model_type": "broken"}')
    with pytest.raises(RuntimeError, match="no such layer"): vl.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nobody"}')
    types = "higgs_audio_v2, higgs_audio, qwen2_mtp, qwen2_mtp_sensevoice, broken"
    with pytest.raises(vl.VoicelabError, match=f"config.json: model_type must be one of {types}, got 'nobody'$"): vl.load(tmp_path)


# Nobody names a family from outside

def strings_and_imports(path):
    "Line, what, of each string that is no docstring, and of each module imported from."
    tree = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs: yield node.lineno, node.value
        if isinstance(node, ast.ImportFrom): yield node.lineno, node.module or ""
        if isinstance(node, ast.Import): yield from ((node.lineno, each.name) for each in node.names)


def test_no_module_outside_a_familys_folder_names_it(root):
    "Old names are the exception, and `voicelab` itself, whose SCENES and VOICES are those of a family."
    modules = [path for path in (root / "voicelab").rglob("*.py") if "families" not in path.relative_to(root).parts]
    families = [folder.name for folder in (root / "voicelab/families").iterdir() if (folder / "model.py").exists()]
    assert len(modules) > 40 and {"higgs", "vita"} <= {*families}
    named = [f"{path.relative_to(root)}:{line}: {text[:60]!r}" for path in modules if path.name not in ("_modidx.py", "old_names.py")
             for line, text in strings_and_imports(path) if any(family in text.lower() for family in families)]
    assert [each for each in named if not each.startswith("voicelab/__init__.py")] == []


def test_a_family_imports_from_no_other(root):
    for folder in (root / "voicelab/families").iterdir():
        others = [each.name for each in folder.parent.iterdir() if (each / "model.py").exists() and each != folder]
        for path in folder.glob("*.py"):
            imported = [text for line, text in strings_and_imports(path)]
            assert not [text for text in imported if text in others or text.startswith(tuple(f"{other}." for other in others))], path
