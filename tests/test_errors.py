"What a user can put right is one line; a bug looks like a bug."
import ast
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import voicelab
import voicelab as vl
from voicelab import cli
from voicelab.ablation import Ablation
from voicelab.attention import attention_of
from voicelab.errors import ArgumentError, VoicelabError, bug_report, shown, whole
from voicelab.explore import exchange
from voicelab.widgets.worker import Status

PACKAGE = Path(voicelab.__file__).parent
INTERNAL = {"settings.py": 2, "answers.py": 1, "ask.py": 1, "glm4decoder.py": 2, "description.py": 3}          # raised and caught within one module


def test_every_error_of_the_package_is_a_voicelab_error():
    found = {}
    for module in pkgutil.walk_packages(voicelab.__path__, "voicelab."):
        if module.name.startswith("voicelab.studio"): continue          # a program of its own
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, Exception) and value.__module__.startswith("voicelab") and name.endswith("Error"):
                found[name] = value
    assert len(found) >= 18 and {name for name, value in found.items() if not issubclass(value, VoicelabError)} == set()


def test_no_module_raises_an_error_that_looks_like_somebody_elses():
    "A bare ValueError or TypeError is either for the user, and then one of ours, or it never leaves its module."
    for path in PACKAGE.rglob("*.py"):
        raised = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
        named = [getattr(getattr(node.exc, "func", node.exc), "id", "") for node in raised]
        bare = sum(name in ("ValueError", "TypeError", "KeyError", "RuntimeError", "Exception") for name in named)
        assert bare <= INTERNAL.get(path.name, 0), path


@pytest.mark.parametrize("given", [0, 9, np.int64(9), np.uint8(3)])
def test_a_whole_number_is_an_int(given):
    found = whole("n", given, 0, 9)
    assert type(found) is int and found == given


@pytest.mark.parametrize("given", [-1, 10, 10**400, np.int64(10), 1.0, True, np.True_, "3", None, np.zeros(2), [1]])
def test_what_is_no_whole_number_is_refused_in_one_short_line(given):
    with pytest.raises(ArgumentError, match="^n: must be a whole number from 0 to 9, got ") as caught: whole("n", given, 0, 9)
    assert len(str(caught.value)) < 140 and str(caught.value).endswith(shown(given))


def test_a_whole_number_without_a_limit_and_with_a_unit():
    assert whole("n", 10**30, 1) == 10**30
    with pytest.raises(ArgumentError, match="^n: must be a whole number from 1, got 0$"): whole("n", 0, 1)
    with pytest.raises(VoicelabError, match="^n: must be a whole number from 1 to 2 Hz, got 0$"): whole("n", 0, 1, 2, VoicelabError, "Hz")
    with pytest.raises(ArgumentError, match="got a number of thousands of digits$"): whole("n", -10**5000, 1)


@pytest.mark.parametrize("call, said", [
    (lambda m, a: vl.load(5), "model: must be a name"), (lambda m, a: vl.load_audio(5), "path: must be a path, got 5"),
    (lambda m, a: vl.load_audio("a.wav", limit_seconds="x"), "limit_seconds: x is not a number above 0"),
    (lambda m, a: vl.read_settings(5), "path: must be a path or None, got 5"), (lambda m, a: vl.TestSet(5), "path: must be a path or None, got 5"),
    (lambda m, a: vl.TestSet(sounds=5), "sounds: must be a path or None, got 5"), (lambda m, a: a.save(5), "path: must be a path, got 5"),
    (lambda m, a: vl.Audio.join(5), "pieces: must be clips, got 5"), (lambda m, a: vl.Audio.join(["a.wav"]), "pieces: must be clips, got 'a.wav'"),
    (lambda m, a: a.slice("a", 1), "start_seconds: must be a number of seconds, got 'a'"),
    (lambda m, a: vl.Run(5), "folder: must be a path, got 5"), (lambda m, a: vl.Sweep(5), "folder: must be a path, got 5"),
    (lambda m, a: vl.Recogniser(5), "recogniser: must be a folder"), (lambda m, a: vl.Reference(5), "audio: int given"),
    (lambda m, a: m.clone(5), "text: must be a string, got int"), (lambda m, a: m.clone("Hi.", control=5), "control: must be a Control, got 5"),
    (lambda m, a: Ablation("tiny", "Hi.", None), "model: must be a loaded model, as vl.load gives it, got 'tiny'"),
    (lambda m, a: Ablation(m, 5, vl.Reference(a)), "texts: must be a text or a list of texts, got 5"),
    (lambda m, a: Ablation(m, "Hi.", vl.Reference(a), seeds=None), "seeds: must be a whole number or a list of them, got None"),
    (lambda m, a: Ablation(m, "Hi.", vl.Reference(a), arms="right"), "arms: must be a list of names or None, got 'right'"),
    (lambda m, a: attention_of("tiny", None), "model: must be a loaded model"), (lambda m, a: attention_of(m, 5), "generation: must be a Generation"),
    (lambda m, a: m.codec.encode(5), "audio: must be an Audio, got 5"), (lambda m, a: m.codec.decode(5), "codes: must be a tensor, got 5"),
    (lambda m, a: m.encode("a.wav"), "reference: must be a Reference, got 'a.wav'"),
    (lambda m, a: exchange(m.codec, a, a, [0]), "a: must be a Reference, got Audio(")])
def test_a_wrong_type_is_one_line_of_ours(model, reference, call, said):
    with pytest.raises(VoicelabError) as error: call(model, reference.audio)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_what_is_saved_must_be_a_sample(tmp_path):
    with pytest.raises(VoicelabError, match="^generation: must be a Generation or a Failure, got 5$"): vl.Run(tmp_path / "run").save(5)


def broken(*_): return np.zeros(3) + np.zeros(4)


def test_a_bug_on_the_command_line_has_status_1_and_a_traceback_in_a_file(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(cli, "models", broken)
    with pytest.raises(SystemExit) as stop: cli.main(["models"])
    said = capsys.readouterr().err
    assert stop.value.code == 1 and len(said.splitlines()) == 1 and said.startswith("voicelab models: a bug in voicelab (ValueError: operands could not")
    file, = tmp_path.iterdir()
    assert str(file) in said and "please report" in said and "in broken" in file.read_text()


@pytest.mark.parametrize("full", ["/dev/full", "no/such/folder"])
def test_a_bug_while_the_temporary_folder_cannot_be_written_still_looks_like_one(monkeypatch, capsys, tmp_path, full):
    if full == "/dev/full":                                 # the file can be made, but not filled
        monkeypatch.setattr("tempfile.NamedTemporaryFile", lambda *_, **__: open(tmp_path / "full", "w"))
        (tmp_path / "full").symlink_to(full)
    else: monkeypatch.setattr("tempfile.tempdir", full)
    monkeypatch.setattr(cli, "models", broken)
    with pytest.raises(SystemExit) as stop: cli.main(["models"])
    *trace, said = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and said.startswith("voicelab models: a bug in voicelab (ValueError: operands could not")
    assert re.search(r"could not be saved in the temporary folder \(No s.*\)", said) and any("in broken" in line for line in trace)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [VoicelabError("text: must not be\nempty"), FileNotFoundError(2, "No such file", "x.wav")])
def test_a_refusal_on_the_command_line_has_status_2_and_one_line(monkeypatch, capsys, error):
    def refuse(*_): raise error
    monkeypatch.setattr(cli, "models", refuse)
    with pytest.raises(SystemExit) as stop: cli.main(["models"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and len(said.splitlines()) == 1 and "bug" not in said


def test_a_widget_tells_a_refusal_from_a_bug(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status = Status()
    status.fail(VoicelabError("text: must not be empty"))
    assert status.text == "text: must not be empty" and not list(tmp_path.iterdir())
    try: broken()
    except ValueError as error: status.fail(error)
    assert status.text.startswith("a bug in voicelab (ValueError") and "in broken" in next(tmp_path.iterdir()).read_text()


def test_a_report_can_hold_any_letters(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert re.search("traceback is in", bug_report(RuntimeError("\ud800 مرحبا"))) and len(list(tmp_path.iterdir())) == 1


# ---- in a notebook

CELLS = ["from voicelab.errors import whole\ndef deep(): whole('n', '<b>', 6)\ndef deeper(): deep()\ndeeper()", "%tb", "1 / 0", "1"]


def test_in_a_notebook_an_error_is_one_line_above_its_folded_traceback():
    import nbformat
    from nbclient import NotebookClient
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, allow_errors=True, timeout=60, kernel_name="python3").execute()
    first, again, bug, rest = ([dict(output) for output in cell.outputs] for cell in notebook.cells)
    folded, error = first
    line, = error["traceback"]
    assert re.sub(r"\x1b\[[0-9;]*m", "", line) == "ArgumentError: n: must be a whole number from 6, got '<b>'"
    assert error["output_type"] == "error" and error["ename"] == "ArgumentError"            # the cell has failed, for whoever runs it
    html = folded["data"]["text/html"]
    assert html.startswith("<details><summary") and html.count("in deep") == 2 and "&lt;b&gt;" in html and "<b>" not in html and "\x1b" not in html
    assert "deeper" in folded["data"]["text/plain"]                                         # for what shows no HTML
    assert len(again[-1]["traceback"]) > 2 and len(bug[0]["traceback"]) > 2 and len(bug) == 1 and rest[0]["data"]["text/plain"] == "1"


def test_elsewhere_an_error_is_what_it_has_always_been(tmp_path):
    import subprocess
    import sys
    run = lambda *words: subprocess.run([sys.executable, *words, CELLS[0]], capture_output=True, text=True, cwd=tmp_path)
    plain, terminal = run("-c"), run("-m", "IPython", "--no-banner", "--colors=NoColor", "-c")
    assert plain.stderr.startswith("Traceback (most recent call last):") and plain.stderr.count("File ") == 4
    assert terminal.stdout.count("deeper()") >= 2 and "details" not in terminal.stdout + plain.stderr
    try: whole("n", 5, 6)
    except ArgumentError as error: assert any("Traceback" in line for line in error._render_traceback_())
