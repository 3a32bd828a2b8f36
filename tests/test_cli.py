"""The command line as a user runs it: exit codes, one-line errors, the JSON line, the saved pair."""
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from voicelab import watermark
from voicelab.audio import load_audio, read_info
from voicelab.cli import main
from voicelab.cli_common import show_text
from voicelab.lab import load
from voicelab.profile import PARTS
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


def test_a_profile_shows_each_part_once(voicelab, cloned):
    shown = voicelab("clone", "--text", "Hi.", "--seed", 1, "--out", "timed", "--profile")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.split("time of each part, without loading and saving\n")[1].splitlines()
    rows = {line.split()[0]: float(line.split()[1]) for line in lines}
    assert [*rows] == [*PARTS, "all"] and min(rows["decode"], rows["codec"], rows["report"]) > 0 == rows["encode"]
    assert rows["all"] == pytest.approx(sum(rows[name] for name in PARTS), abs=1) and "#" in lines[5]
    assert "profile" not in json.loads(cloned.stdout.splitlines()[-1])


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


def test_a_setting_that_requires_consent(voicelab, cloned, root):
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
    done = voicelab("clone", "--text", "[SPEAKER0] Hi. [SPEAKER1] Ho.", "--voice", "male_en", "--voice", "An elf.", "--turns", 1, "--seed", 3,
                    "--out", "elves", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["repeat"].endswith("--voice male_en --voice 'An elf.' --turns 1")


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
    run = Run(shutil.copytree(voicelab.folder / "made", voicelab.folder / "more"))
    run.save_failure("Good night.", ValueError("no such voice"))
    broken = run.save(load("tiny").clone("Good night.", seed=0))
    broken.path("generated").unlink()
    result = json.loads(voicelab("evaluate", "more", "--json").stdout.splitlines()[-1])
    assert [row["status"] for row in result["rows"]] == ["ok", "failed", "failed"] and result["failed"] == 2
    assert "no such voice" in result["rows"][1]["detail"] and broken.row["generated"] in result["rows"][2]["detail"]


def test_a_sample_without_a_watermark_says_so(cloned):
    assert "watermark    none: not asked for\n" in cloned.stdout and json.loads(cloned.stdout.splitlines()[-1])["watermark"] == "none"


def test_marks_of_files(voicelab, cloned, root):
    told = json.loads(cloned.stdout.splitlines()[-1])
    done = voicelab("marks", told["generated"], root / "data/voices/ada.wav", "--json")
    first, second = (result := json.loads(done.stdout.splitlines()[-1]))["files"]
    assert (done.returncode, first["synthetic"], second["synthetic"]) == (0, True, None) and "model tiny" in first["tags"]
    assert {first["watermark"], second["watermark"]} <= {"not found", "unknown"} and result["note"] in done.stdout.splitlines()
    done = voicelab("marks", "no.wav")
    assert done.returncode == 2 and done.stderr.startswith("voicelab marks: ") and len(done.stderr.splitlines()) == 1
    done = voicelab("marks", "no.wav", root / "data/voices/ada.wav")
    assert done.returncode == 2 and "  can't be read: " in done.stdout and done.stdout.count("  watermark  ") == 1


def test_a_watermark_that_cannot_be_made_is_refused_before_anything_is_made(voicelab, monkeypatch):
    for name in ("perth", "perth.perth_net.perth_net_implicit.config"): monkeypatch.setitem(sys.modules, name, None)
    watermark.network.cache_clear()
    done = voicelab("clone", "--text", "Hi.", "--out", "unmarked", "--watermark")
    assert done.returncode == 2 and done.stderr.startswith("voicelab clone: --watermark: Perth can't be imported") and "pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (voicelab.folder / "unmarked").exists()


def test_models(voicelab):
    done = voicelab("models", "--json")
    assert done.returncode == 0 and {"tiny", "higgs-v2"} <= {m["name"] for m in json.loads(done.stdout.splitlines()[-1])["models"]}


@pytest.mark.parametrize("words", [["--help"], ["clone", "--help"], ["models", "--help"], ["evaluate", "--help"],
                                   ["lab", "--help"], ["studio", "--help"],
                                   ["respond", "--help"], ["compare", "--help"], ["study", "--help"], ["--version"]])
def test_help(voicelab, words): assert voicelab(*words).returncode == 0


@pytest.mark.parametrize("words, says", [
    ([], "COMMAND"), (["clone"], "--text"), (["clone", "--text", ""], "text"), (["clone", "--text", "Hi.", "--model", "giant"], "giant"),
    (["clone", "--text", "Hi.", "--reference", "none.wav"], "none.wav"), (["clone", "--text", "Hi.", "--seed", "x"], "--seed"),
    (["clone", "--text", "Hi.", "--out", "/dev/null"], "/dev/null"), (["clone", "--text", "Hi.", "--transcript", "x"], "--reference"),
    (["clone", "--text", "Hi.", "--dtype", "int3"], "int3"), (["clone", "--text", "Hi.", "--device", "abacus"], "abacus"),
    (["clone", "--text", "Hi.", "--voice", "deep", "--reference", "VOICE", "--transcript",
      "The old library opens at nine in the morning."], "voice"),
    (["clone", "--text", "Hi.", "--reference", "VOICE", "--reference", "VOICE", "--transcript", "x"], "2 references, got 1"),
    (["clone", "--text", "Hi.", "--budget", "guess"], "--budget: must be one of words_per_minute, reference_rate, fixed, got 'guess'"),
    (["clone", "--text", "Hi.", "--turns", "-1"], "turns: must be"), (["evaluate", "nowhere"], "nowhere"),
    (["clone", "--text", "Hi.", "--seed", "x"], "invalid int value: 'x'; see voicelab clone --help"), (["sing"], "see voicelab --help"),
    (["clone", "--text", "Hi.", "--text-file", "x"], "not allowed with argument --text; see"),
    (["clone", "--text-file", "none.txt"], "--text-file: 'none.txt': No such file or directory"),
    (["clone", "--text-file", "/dev/zero"], "--text-file: '/dev/zero' has more than 1000000 bytes"),
    (["clone", "--text", "Hi.", "--temperature", "-1"], "temperature: must be 0 to 10, got -1.0"),
    (["clone", "--text", "Hi.", "--top-k", "0"], "--top-k: must be a whole number from 1"),
    (["clone", "--text", "Hi.", "--max-tokens", "5"], "--max-tokens: must be 10 to 100000, got 5"),
    (["clone", "--text", "Hi.", "--max-tokens", "90", "--budget", "guess"], "--budget: must be one of"),
    (["clone", "--text", "Hi.", "--max-tokens", "90", "--budget", "reference_rate"],
     "--max-tokens: is a limit of --budget words_per_minute or fixed, got --budget reference_rate"),
    (["respond", "tts", "--text", "Hi."], "--model: tiny has no tasks, it only speaks: use voicelab clone"),
    # the line names the command, and options as they are typed
    (["clone", "--text", "Hi.", "--foo"], "voicelab clone: unrecognized arguments: --foo; see voicelab clone --help"),
    (["clone", "--text", "Hi.", "more"], "voicelab clone: unrecognized arguments: more; see voicelab clone --help"),
    (["evaluate", "made", "--seed", "1"], "voicelab evaluate: unrecognized arguments: --seed 1; see voicelab evaluate --help"),
    (["--foo", "models"], "voicelab: unrecognized arguments: --foo; see voicelab --help"),
    (["lab", "--json"], "voicelab lab: unrecognized arguments: --json"), (["lab", "--port=9"], "voicelab lab: unrecognized arguments: --port=9"),
    (["lab", "foo"], "voicelab lab: unrecognized arguments: foo; options of jupyter lab come after --"),
    (["studio", "foo", "bar"], "voicelab studio: unrecognized arguments: foo bar; options of voila come after --"),
    (["studio", "--", "foo.ipynb"], "voicelab studio: unrecognized arguments: foo.ipynb; options of voila come after --"),
    (["clone", "--text", "Hi.", "--seed", "-1"], "--seed: must be a whole number from 0"),
    (["clone", "--text", "Hi.", "--turns", "-1"], "--turns: must be a whole number from 0, got -1"),
    (["clone", "--text", "Hi.", "--chunk-method", "pages"], "--chunk-method: must be seconds above 0 or one of none, words, speaker, got 'pages'"),
    (["clone", "--text", "Hi.", "--chunk-method", "words", "--chunk-words", "0"], "--chunk-words: must be a whole number from 1, got 0"),
    (["clone", "--text", "Hi.", "--sampling", "wild"], "--sampling: must be one of upstream"),
    (["clone", "--text", "Hi.", "--max-tokens", "100000"], "positions and 100000 columns exceed the context of 4096"),
    (["clone", "--text", "Hi.", "--max-tokens", "99999"], "voicelab clone: --max-tokens: "),
    (["clone", "--text", "Hi.", "--max-tokens", "100001"], "--max-tokens: must be 10 to 100000, got 100001"),
    # what would do nothing
    (["clone", "--text", "Hi.", "--chunk-words", "3"], "--chunk-words: does nothing without --chunk-method words"),
    (["clone", "--text", "Hi.", "--chunk-words", "3", "--chunk-method", "6"], "--chunk-words: does nothing without --chunk-method words"),
    (["clone", "--text", "Hi.", "--chunk-turns", "3"], "--chunk-turns: does nothing without --chunk-method speaker"),
    (["clone", "--text", "Hi.", "--turns", "1", "--chunk-method", "none"], "--turns: does nothing with --chunk-method none"),
    (["clone", "--text", "Hi.", "--ras-repeats", "3", "--ras-window", "0"], "--ras-repeats: does nothing with a RAS window of 0"),
    (["clone", "--text", "Hi.", "--ras-repeats", "3", "--sampling", "greedy"], "--ras-repeats: does nothing with a RAS window of 0"),
    (["clone", "--text", "Hi.", "--top-k", "3", "--temperature", "0"], "--top-k: does nothing at temperature 0"),
    (["clone", "--text", "Hi.", "--top-p", "0.9", "--sampling", "greedy"], "--top-p: does nothing at temperature 0"),
    (["clone", "--text", "Hi.", "--consent", "mine"], "--consent: does nothing without --reference"),
    (["clone", "--text", "Hi.", "--prompt-form", "system_ref"], "--prompt-form: does nothing without --reference"),
    (["sweep", "grid.toml", "--trial", "--workers", "2"], "--workers: does nothing with --trial"),
    (["sweep", "grid.toml", "--trial", "--backend", "process"], "--backend: does nothing with --trial"),
    (["sweep", "grid.toml", "--trial", "--retry"], "--retry: does nothing with --trial"),
])
def test_bad_input_exits_2_with_one_line(voicelab, root, words, says):
    done = voicelab(*(root / "data/voices/ada.wav" if word == "VOICE" else word for word in words))
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# ---- the text from a file, the knobs of sampling

def last(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_text_from_a_file_or_from_standard_input_says_the_same(voicelab, monkeypatch):
    (voicelab.folder / "text.txt").write_bytes("\ufeffGood morning, naïve Zoë.\n".encode())
    say = lambda *words: last(voicelab("clone", *words, "--seed", 4, "--out", "files", "--json"))["generated"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO("Good morning, naïve Zoë.\n".encode())))
    paths = say("--text", "Good morning, naïve Zoë."), say("--text-file", "text.txt"), say("--text-file", "-")
    sounds = [load_audio(voicelab.folder / path).samples for path in paths]
    assert all((sounds[0] == other).all() for other in sounds[1:])
    assert {row["text"] for row in Run(voicelab.folder / "files").rows} == {"Good morning, naïve Zoë."}
    (voicelab.folder / "latin.txt").write_bytes("Zoë".encode("latin-1"))
    done = voicelab("clone", "--text-file", "latin.txt")
    assert (done.returncode, done.stderr) == (2, "voicelab clone: --text-file: 'latin.txt' is not UTF-8 at byte 2\n")


def test_knobs_of_sampling_and_the_most_tokens(voicelab):
    knobs = ("--temperature", 0.5, "--top-k", 7, "--top-p", 0.8, "--ras-window", 5, "--ras-repeats", 3, "--max-tokens", 30, "--no-vowels")
    result = last(voicelab("clone", "--text", "Hello.", "--seed", 4, "--out", "knobs", "--json", *knobs))
    (row,) = Run(voicelab.folder / "knobs").rows
    made = row["settings"]["sampling"]
    assert [made[name] for name in ("temperature", "top_k", "top_p", "ras_window", "ras_repeats", "seed")] == [0.5, 7, 0.8, 5, 3, 4]
    assert result["budget"]["columns"] == 30 and result["frames"] <= 21
    assert result["repeat"] == ("--model tiny --seed 4 --turns 0" if "--turns" in result["repeat"] else "--model tiny --seed 4"
                                ) + " --max-tokens 30 --temperature 0.5 --top-k 7 --top-p 0.8 --ras-window 5 --ras-repeats 3 --no-vowels"
    again = last(voicelab("clone", "--text", "Hello.", "--sampling", "greedy", "--temperature", 1, "--top-k", 1, "--seed", 0, "--out", "knobs", "--json"))
    assert Run(voicelab.folder / "knobs")[1].row["settings"]["sampling"]["ras_window"] == 0 and again["seed"] == 0


# ---- as another process

def run(*words, **options): return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=120, **options)


def test_both_modules_are_the_command(tmp_path):
    for module in ("voicelab", "voicelab.cli"): assert run(module, "--version", cwd=tmp_path).stdout.startswith("voicelab 0.")
    failed = run("voicelab.cli", "evaluate", "nowhere", cwd=tmp_path)
    assert failed.returncode == 2 and failed.stderr == "voicelab evaluate: folder: 'nowhere' holds no manifest.jsonl\n"


@pytest.mark.parametrize("command", ["", "clone", "respond", "models", "marks", "evaluate", "compare", "study", "lab", "studio"])
def test_help_imports_neither_torch_nor_pandas(command, tmp_path):
    code = ("import sys\nfrom voicelab.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
            "print(sorted({'torch', 'pandas', 'transformers', 'numpy'} & {*sys.modules}))")
    done = subprocess.run([sys.executable, "-c", code, *filter(None, [command]), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.endswith("\n[]\n") and not done.stderr


@pytest.mark.parametrize("words", ["models", "--help", "--version"])
def test_a_reader_that_has_gone_and_a_full_disk(words, tmp_path, python):
    command = shlex.join([*(python if words == "models" else [sys.executable]), "-m", "voicelab", words])
    done = subprocess.run(["sh", "-c", f"{command} > /dev/full"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "voicelab: standard output: No space left on device\n")
    done = subprocess.run(["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (0, 141) and done.stderr == ""


@pytest.mark.parametrize("seconds", [0.05, 0.4, 1.0])
def test_ctrl_c_in_the_first_seconds(seconds, tmp_path):
    code = ('import voicelab.cli as cli\nreal = cli.parser\ncli.parser = lambda: (print("begun", flush=True), real())[1]\n'
            'cli.main(["clone", "--text", "Good morning. " * 100])')
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert started.stdout.readline() == "begun\n"         # before that nobody is there to note a signal
    time.sleep(seconds)
    started.send_signal(signal.SIGINT)
    out, said = started.communicate(timeout=120)
    assert started.returncode == 130 and "Traceback" not in said
    assert "interrupted" in said and said.count("\n") == 1 or "interrupted" in out


@pytest.mark.parametrize("start", ["-m voicelab", "-c 'from voicelab.__main__ import main; main()'"])
@pytest.mark.parametrize("module", ["argparse", "voicelab.cli_clone", "voicelab.cli_sweep", "json"])
def test_ctrl_c_while_modules_are_imported(start, module, tmp_path):
    "It comes in a callback that loses exceptions, as those of imports do: in a finder that any import asks, after a signal."
    (tmp_path / "sitecustomize.py").write_text(f"""import os, signal, sys, weakref
class Late:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r} or "voicelab.__main__" not in sys.modules and not hasattr(sys.modules["__main__"], "INTERRUPTED"): return
        thing = type("Thing", (), {{}})()
        here = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
        del thing
sys.meta_path.insert(0, Late())
""")
    there = os.environ | dict(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(["sh", "-c", f"exec {sys.executable} {start} models"], capture_output=True, text=True, cwd=tmp_path, env=there)
    assert (done.returncode, done.stderr) == (130, "voicelab: interrupted\n") and not done.stdout


def test_an_interrupt_that_the_shell_ignores_stays_ignored(tmp_path):
    code = "import os, signal; from voicelab.__main__ import main; main()"
    done = subprocess.run(["sh", "-c", f"trap '' INT; exec {sys.executable} -c '{code}' --version"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("voicelab ") and not done.stderr


def test_ctrl_c_while_a_result_is_shown_is_one_line(tmp_path, python):
    code = ("import os, signal, voicelab.cli as cli; from voicelab.__main__ import main\n"
            "cli.show_models = lambda result: os.kill(os.getpid(), signal.SIGINT)\nmain()")
    done = subprocess.run([*python, "-c", code, "models"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "voicelab: interrupted\n")


def test_an_exception_that_a_library_made_of_ctrl_c(voicelab, monkeypatch):
    def broken(*args, **options):
        try: signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt: raise ImportError("numpy: partially initialized") from None
    monkeypatch.setattr("voicelab.lab.load", broken)
    monkeypatch.setattr("voicelab.load", broken)
    done = voicelab("clone", "--text", "Hi.")
    assert (done.returncode, done.stderr) == (130, "voicelab clone: interrupted before anything was made\n")


def test_a_locale_without_utf_8_keeps_a_letter_whole(tmp_path):
    posix = os.environ | dict(LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = run("voicelab", "clone", "--text", "naïve", "--seed", "1", "--speaker", "Zoë", "--json", cwd=tmp_path, env=posix)
    assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "voicelab-out").rows[0]["text"] == "naïve"


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


def test_lab_becomes_jupyterlab_in_a_copy_of_the_lessons(voicelab, became, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    voicelab("lab", "--", "--no-browser", "--port=9000")
    folder = voicelab.folder / "voicelab-lessons"
    assert became[0] == sys.executable and became[became.index("-m") + 1] == "jupyterlab"
    assert {f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1", "--LabApp.default_url=/lab/tree/index.ipynb"} <= {*became}
    assert became[-2:] == ["--no-browser", "--port=9000"]
    pages = {path.relative_to(folder).as_posix(): json.loads(path.read_text("utf-8")) for path in folder.rglob("*.ipynb")}
    assert len(pages) > 15 and {"index.ipynb", "lessons/01_first_clone.ipynb"} <= {*pages}
    links = [(place, link) for place, page in pages.items() for cell in page["cells"] if cell["cell_type"] == "markdown"
             for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", "".join(cell["source"]))]
    assert len(links) > 30 and not [link for place, link in links if not (folder / place).parent.joinpath(link).exists()]


def test_lab_asks_once_for_a_folder_and_keeps_what_is_changed_in_it(voicelab, became, monkeypatch):
    asked = []
    shutil.rmtree(voicelab.folder / "voicelab-lessons", ignore_errors=True)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda words: asked.append(words) or "mine")
    done = voicelab("lab", "--folder", "named")
    assert not asked and f"The lessons are in {voicelab.folder / 'named'}" in done.stdout
    voicelab("lab")
    assert len(asked) == 1 and (lesson := voicelab.folder / "mine/lessons/04_budgets.ipynb").exists()
    lesson.write_text("mine")
    done = voicelab("lab", "--folder", "mine")
    assert lesson.read_text() == "mine" and "Left as you changed them: lessons/04_budgets.ipynb" in done.stdout


@pytest.mark.parametrize("name, says", [("file", "voicelab lab: --folder: 'file': "), ("nul\0", "voicelab lab: --folder: embedded null byte")])
def test_a_folder_that_cannot_hold_the_lessons(voicelab, became, name, says):
    (voicelab.folder / "file").write_text("")
    done = voicelab("lab", "--folder", name)
    assert done.returncode == 2 and done.stderr.startswith(says) and done.stderr.count("\n") == 1 and not became


def test_studio_becomes_its_server_with_the_tuner_alone(voicelab, became, monkeypatch):
    for name in ("VOICELAB_MODEL", "VOICELAB_FOLDER", "VOICELAB_VOICES"): monkeypatch.setenv(name, "")
    (voicelab.folder / "mine").mkdir(exist_ok=True)
    voicelab("studio", "--model", "tiny", "--pages", 2, "--voices", "mine", "--", "--port=9000")
    server, notebook, *options = became[-4:]
    assert Path(server).name == "studio.py" and Path(server).is_file() and options == ["--Kernels.pages=2", "--port=9000"]
    assert len(json.loads(Path(notebook).read_text())["cells"]) == 1
    assert os.environ["VOICELAB_MODEL"] == "tiny" and os.environ["VOICELAB_FOLDER"] == str(voicelab.folder)
    assert os.environ["VOICELAB_VOICES"] == str(voicelab.folder / "mine")


@pytest.mark.parametrize("command", ["lab", "studio"])
def test_a_server_imports_nothing_from_the_folder_it_is_started_in(voicelab, became, monkeypatch, command):
    for name in ("VOICELAB_MODEL", "VOICELAB_FOLDER", "VOICELAB_VOICES"): monkeypatch.setenv(name, "")
    voicelab(command)
    assert became[:2] == [sys.executable, "-P"]


def test_studio_says_what_is_wrong(voicelab, became, monkeypatch):
    done = voicelab("studio", "--model", "no-such-model")
    assert done.returncode == 2 and "no-such-model" in done.stderr
    done = voicelab("studio", "--pages", 0)
    assert (done.returncode, done.stderr) == (2, "voicelab studio: --pages: must be 1 or more, got 0\n")
    done = voicelab("studio", "--voices", "nowhere")
    assert (done.returncode, done.stderr) == (2, "voicelab studio: --voices: no folder, got 'nowhere'\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = voicelab("studio")
    assert done.returncode == 2 and "pip install voila" in done.stderr and not became


def test_a_written_piece_that_nobody_reads_ends_nothing(monkeypatch):
    class Gone(io.StringIO):
        def write(self, words): raise BrokenPipeError(32, "Broken pipe")
    monkeypatch.setattr(sys, "stdout", Gone())
    assert show_text("some words") is None


def test_a_closed_standard_output_is_no_bug():
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m voicelab --version >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_standard_input_is_one_line(tmp_path):
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m voicelab clone --text-file - <&-"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "voicelab clone: --text-file: standard input is closed\n")


def test_warnings_that_cannot_be_written_lose_no_sample(tmp_path, root, python):
    said = ["--text", "Hi there.", "--reference", root / "data/voices/ada.wav", "--transcript", "The old library opens at nine in the morning."]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*python, "-m", "voicelab", "clone", *said, "--out", "made", "--json"], stdout=subprocess.PIPE, stderr=full,
                              text=True, cwd=tmp_path)
        refused = subprocess.run([sys.executable, "-m", "voicelab", "models", "--all"], stderr=full, cwd=tmp_path)
    assert done.returncode == 0 and refused.returncode == 2
    assert (tmp_path / json.loads(done.stdout.splitlines()[-1])["generated"]).is_file()


def test_a_bug_in_showing_a_result_is_one_line_and_the_sample_is_saved(voicelab, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("voicelab.cli.show_clone", lambda result: result["no such key"])
    done = voicelab("clone", "--text", "Hi.", "--out", "unshown")
    assert done.returncode == 1 and done.stderr.startswith("voicelab clone: a bug in voicelab (KeyError: 'no such key')")
    assert done.stderr.count("\n") == 1 and "Traceback" in next(tmp_path.iterdir()).read_text()
    assert len(Run(voicelab.folder / "unshown").rows) == 1
    monkeypatch.setattr("voicelab.cli.show_models", lambda result: result.update(worst=float("inf")))
    monkeypatch.setattr("voicelab.manifest.plain", lambda result: result)
    assert "a bug in voicelab (ValueError: Out of range float" in voicelab("models", "--json").stderr
