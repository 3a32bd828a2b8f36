"""The command line as a user runs it: exit codes, one-line errors, the JSON line, the saved pair."""
import contextlib
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from voicelab.audio import load_audio, read_info
from voicelab.cli import main
from voicelab.lab import load
from voicelab.runs import Run

@pytest.fixture(scope="module")
def voicelab(root, tmp_path_factory):
    "The command in this process, with its exit code, standard output and standard error, run in a folder of its own."
    folder = tmp_path_factory.mktemp("cli")
    def call(*words):
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)       # as in a terminal
            warnings.simplefilter("ignore", DeprecationWarning)         # as outside of tests
            try: main([str(word) for word in words])
            except SystemExit as stop: code = stop.code or 0
        return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
    call.folder = folder
    return call


def test_the_command_is_installed(tmp_path):
    command = Path(sys.executable).with_name("voicelab")
    done = subprocess.run([command, "clone", "--text", ""], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("voicelab clone: text") and not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def cloned(voicelab, root):
    return voicelab("clone", "--text", "Good morning.", "--reference", root / "data/voices/ada.wav", "--transcript",
                    "The old library opens at nine in the morning.", "--seed", 1, "--out", "made", "--speaker", "../a/b", "--json")


def test_clone(voicelab, cloned):
    assert cloned.returncode == 0, cloned.stderr
    result = json.loads(cloned.stdout.splitlines()[-1])
    assert {"generated", "reference", "stop_reason", "seconds", "frames", "rtf", "model", "seed", "budget"} <= set(result)
    sound = load_audio(voicelab.folder / result["generated"])
    assert abs(sound.seconds - result["seconds"]) < 0.001 and result["frames"] * 960 == len(sound.samples)
    assert (voicelab.folder / result["generated"]).parent == voicelab.folder / "made"
    assert "synthetic" in read_info(voicelab.folder / result["generated"])["ICMT"]
    (line,) = (voicelab.folder / "made/manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["consent"] == "not stated" and "No consent is stated" in cloned.stderr
    assert len(cloned.stderr.splitlines()) == 1


def test_a_setting_that_requires_consent(voicelab, root):
    settings = voicelab.folder / "settings.ini"
    settings.write_text("[REFERENCE_POLICY]\nrequire_consent = true\n")
    try:
        done = voicelab("clone", "--text", "Hi.", "--reference", root / "data/voices/ada.wav", "--out", "refused")
        again = voicelab("evaluate", "made", "--json")
    finally: settings.unlink()
    assert done.returncode == 2 and not (voicelab.folder / "refused").exists()
    assert done.stderr.startswith("voicelab clone: consent: none is stated for the voice 'ada'") and len(done.stderr.splitlines()) == 1
    assert "--consent" in done.stderr and again.returncode == 0 and again.stderr == ""      # measuring what is there clones nobody


def test_two_speakers_in_a_scene(voicelab, root):
    voice = lambda name, said: ("--reference", root / f"data/voices/{name}.wav", "--transcript", said)
    done = voicelab("clone", "--text", "[SPEAKER0] Good morning.\n[SPEAKER1] Hello.", *voice("ada", "The old library opens at nine in the morning."),
                    *voice("ben", "Bring two cups."), "--scene", "A wide hall.", "--dtype", "float32", "--device", "cpu", "--seed", 2,
                    "--out", "two", "--consent", "synthetic", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert "ada" in result["reference"] and "--scene 'A wide hall.'" in result["repeat"]


def test_voices_in_words_for_two_speakers(voicelab):
    done = voicelab("clone", "--text", "[SPEAKER0] Hi. [SPEAKER1] Ho.", "--voice", "male_en", "--voice", "An elf.", "--prompt-form", "system_ref",
                    "--turns", 1, "--seed", 3, "--out", "elves", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["repeat"].endswith("--prompt-form system_ref --voice male_en --voice 'An elf.' --turns 1")


def test_a_voice_in_words(voicelab):
    done = voicelab("clone", "--text", "Good morning.", "--voice", "male_en", "--seed", 3, "--out", "words", "--json")
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["reference"] is None, done.stderr


def test_evaluate(voicelab, cloned):
    done = voicelab("evaluate", "made", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout.splitlines()[-1])["rows"]
    (saved,) = map(json.loads, (voicelab.folder / "made/manifest.jsonl").read_text().splitlines())
    assert row["measures"]["similarity"]["value"] == pytest.approx(saved["measures"]["similarity"]["value"], abs=0.01)


def test_evaluate_has_a_row_for_what_failed(voicelab, cloned):
    run = Run(voicelab.folder / "made")
    run.save_failure("Good night.", ValueError("no such voice"))
    broken = run.save(load("tiny").clone("Good night.", seed=0))
    broken.path("generated").unlink()
    result = json.loads(voicelab("evaluate", "made", "--json").stdout.splitlines()[-1])
    assert [row["status"] for row in result["rows"]] == ["ok", "failed", "failed"] and result["failed"] == 2
    assert "no such voice" in result["rows"][1]["detail"] and broken.row["generated"] in result["rows"][2]["detail"]


def test_models(voicelab):
    done = voicelab("models", "--json")
    assert done.returncode == 0 and {"tiny", "higgs-v2"} <= {m["name"] for m in json.loads(done.stdout.splitlines()[-1])["models"]}


@pytest.mark.parametrize("words", [["--help"], ["clone", "--help"], ["models", "--help"], ["evaluate", "--help"],
                                   ["lab", "--help"], ["studio", "--help"]])
def test_help(voicelab, words): assert voicelab(*words).returncode == 0


@pytest.mark.parametrize("words, says", [
    ([], "COMMAND"), (["clone"], "--text"), (["clone", "--text", ""], "text"), (["clone", "--text", "Hi.", "--model", "giant"], "giant"),
    (["clone", "--text", "Hi.", "--reference", "none.wav"], "none.wav"), (["clone", "--text", "Hi.", "--seed", "x"], "--seed"),
    (["clone", "--text", "Hi.", "--out", "/dev/null"], "/dev/null"), (["clone", "--text", "Hi.", "--transcript", "x"], "--reference"),
    (["clone", "--text", "Hi.", "--dtype", "int3"], "int3"), (["clone", "--text", "Hi.", "--device", "abacus"], "abacus"),
    (["clone", "--text", "Hi.", "--voice", "deep", "--reference", "VOICE", "--transcript",
      "The old library opens at nine in the morning."], "voice"),
    (["clone", "--text", "Hi.", "--reference", "VOICE", "--reference", "VOICE", "--transcript", "x"], "2 references, got 1"),
    (["clone", "--text", "Hi.", "--budget", "guess"], "guess"), (["clone", "--text", "Hi.", "--turns", "-1"], "turns: must be"), (["evaluate", "nowhere"], "nowhere"),
])
def test_bad_input_exits_2_with_one_line(voicelab, root, words, says):
    done = voicelab(*(root / "data/voices/ada.wav" if word == "VOICE" else word for word in words))
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    if words and says != "--text" and says != "--seed": assert len(done.stderr.strip().splitlines()) == 1


# ---- lab and studio

@pytest.fixture
def became(monkeypatch):
    "The words of the program that the command became."
    words = []
    def gone(program, given):
        words.extend(given)
        raise SystemExit(0)                             # nothing of the command is left
    monkeypatch.setattr("os.execv", gone)
    return words


def test_lab_becomes_jupyterlab_on_this_machine(voicelab, became, root):
    voicelab("lab", "--", "--no-browser", "--port=9000")
    assert became[0] == sys.executable and became[became.index("-m") + 1] == "jupyterlab"
    assert {f"--ServerApp.root_dir={root / 'nbs'}", "--ServerApp.ip=127.0.0.1", "--LabApp.default_url=/lab/tree/lessons"} <= {*became}
    assert became[-2:] == ["--no-browser", "--port=9000"]


def test_lab_needs_a_checkout(voicelab, became, monkeypatch, tmp_path):
    monkeypatch.setattr("voicelab.cli.__file__", str(tmp_path / "site-packages/voicelab/cli.py"))
    done = voicelab("lab")
    assert done.returncode == 2 and "checkout" in done.stderr and done.stderr.count("\n") == 1 and not became


def test_studio_becomes_its_server_with_the_tuner_alone(voicelab, became, monkeypatch):
    for name in ("VOICELAB_MODEL", "VOICELAB_FOLDER"): monkeypatch.setenv(name, "")
    voicelab("studio", "--model", "tiny", "--pages", 2, "--", "--port=9000")
    server, notebook, *options = became[-4:]
    assert Path(server).name == "studio.py" and Path(server).is_file() and options == ["--Kernels.pages=2", "--port=9000"]
    assert len(json.loads(Path(notebook).read_text())["cells"]) == 1
    assert os.environ["VOICELAB_MODEL"] == "tiny" and os.environ["VOICELAB_FOLDER"] == str(voicelab.folder)


@pytest.mark.parametrize("command", ["lab", "studio"])
def test_a_server_imports_nothing_from_the_folder_it_is_started_in(voicelab, became, monkeypatch, command):
    for name in ("VOICELAB_MODEL", "VOICELAB_FOLDER"): monkeypatch.setenv(name, "")
    voicelab(command)
    assert became[:2] == [sys.executable, "-P"]


def test_studio_says_what_is_wrong(voicelab, became, monkeypatch):
    done = voicelab("studio", "--model", "no-such-model")
    assert done.returncode == 2 and "no-such-model" in done.stderr
    done = voicelab("studio", "--pages", 0)
    assert (done.returncode, done.stderr) == (2, "voicelab studio: --pages: must be 1 or more, got 0\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = voicelab("studio")
    assert done.returncode == 2 and "pip install voila" in done.stderr and not became
