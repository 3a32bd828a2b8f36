"""The benchmarks run anywhere; that of the engine compares like with like."""
import importlib
import json
import subprocess
import sys

import pytest
import torch

from voicelab.families.vita.decode import MODES

def recipe(root, name):
    "The module of a recipe, which finds what it shares with others beside it, as it does when it is run."
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "nbs/recipes")
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def benchmark(root): return recipe(root, "benchmark_engine")


def test_both_engines_say_the_same(benchmark, tmp_path, capsys):
    options = "--shape tiny --batch 1 3 --positions 120 --columns 12 --bandwidth 1000 --json".split()
    table = benchmark.main([*options, str(tmp_path / "table.json")])
    assert table["same columns"].tolist() == ["12/12", "36/36"] and table["ratio"].notna().all()
    assert (table["limit steps/s"] > table["voicelab steps/s"]).all()
    written = json.loads((tmp_path / "table.json").read_text())
    assert written["shape"] == "tiny" and len(written["rows"]) == 2
    assert "120 cached positions" in capsys.readouterr().out


def test_all_ways_on_a_gpu_are_one_command(root, tmp_path, capsys):
    "Here on a CPU: the same calls, without capture and compilation."
    gpu = recipe(root, "benchmark_gpu")
    options = "--shape tiny --device cpu --dtype float32 --batch 1 3 --positions 120 --columns 12 --json".split()
    table = gpu.main([*options, str(tmp_path / "table.json")])
    assert len(table) == 10 and table["columns/s"].notna().all() and (table["note"] == "").all()
    assert table["same columns"].dropna().tolist() == ["12/12"] * 4 + ["36/36"] * 4 and table["share of limit"].notna().all()
    said = capsys.readouterr().out
    assert "GB/s by a copy" in said and "batch 3: at most" in said and len(json.loads((tmp_path / "table.json").read_text())["rows"]) == 10
    with pytest.raises(SystemExit): gpu.main(["--columns", "8"])


def test_a_way_that_fails_is_a_row_that_says_why(root, monkeypatch):
    gpu = recipe(root, "benchmark_gpu")
    def broken(*args): raise RuntimeError("no compiler\nmore lines")
    monkeypatch.setattr(gpu, "time_generate", broken)
    table = gpu.main("--shape tiny --device cpu --dtype float32 --batch 1 --positions 120 --columns 9".split()).set_index("way")
    assert "no compiler" in table["note"]["generate"] and table["columns/s"]["voicelab, graphs"] > 0


def test_a_step_of_the_released_shape_reads_what_the_arithmetic_says(benchmark):
    "5.7 GB in bfloat16 for the audio path; keys and values add 114,688 bytes a position."
    network = benchmark.build("3b", "meta", torch.bfloat16)
    assert benchmark.step_bytes(network, 1, 0) == pytest.approx(5.688e9, rel=0.001)
    assert benchmark.step_bytes(network, 4, 1000) - benchmark.step_bytes(network, 4, 0) == 4 * 1000 * 114_688


def test_prompts_have_the_length_that_was_asked_for(benchmark):
    prompts = benchmark.make_prompts(2, 300)
    assert [len(prompt.ids) for prompt in prompts] == [300, 300] and not prompts[0].codes[0].equal(prompts[1].codes[0])
    with pytest.raises(SystemExit, match="^--positions: must be at least"): benchmark.make_prompts(1, 20)


def test_steps_of_the_decoder_cost_what_they_should(root, tmp_path, capsys):
    decoder, threads = recipe(root, "benchmark_decoder"), torch.get_num_threads()
    table = decoder.main(["--codes", "20", "--steps", "1", "12", "--repeats", "3", "--json", str(tmp_path / "table.json")])
    assert table["sound (s)"].tolist() == pytest.approx([137 * 256 / 22_050] * 2)
    assert table["mel (s)"][1] > 2 * table["mel (s)"][0] > 0 and (table["all (s)"] > 0).all() and (table["first (s)"] > 0).all()
    assert len(json.loads((tmp_path / "table.json").read_text())["rows"]) == 2 and "flow 4.4 M" in capsys.readouterr().out
    assert torch.get_num_threads() == threads
    with pytest.raises(SystemExit): decoder.main(["--codes", "7"])


def test_all_modes_of_vita_audio_are_timed(root, tmp_path, capsys):
    vita = recipe(root, "benchmark_vita")
    options = "--shape tiny --seconds 1 --tokens 28 --repeats 1 --json".split()
    table = vita.main([*options, str(tmp_path / "table.json")])
    assert table["mode"].tolist() == [*MODES] and (table["tokens/s"] > 0).all() and table["times vanilla"][0] == 1
    shares = table.set_index("mode")["main model's share"]
    assert shares["vanilla"] == 1 and (shares[1:] < 1).all()
    written = json.loads((tmp_path / "table.json").read_text())
    assert written["tokens"] == 28 and len(written["rows"]) == len(MODES)
    assert "positions of prompt, cpu, threads: " in capsys.readouterr().out
    with pytest.raises(SystemExit): vita.main(["--tokens", "13"])


def test_clones_at_once_are_measured(root, tmp_path):
    "The table's form only: how long it takes is measured on a quiet machine."
    command = [sys.executable, root / "nbs/recipes/benchmark_load.py", "--seconds", "0", "--clones", "1", "--busy", "1",
               "--json", tmp_path / "t.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    rows = json.loads((tmp_path / "t.json").read_text())
    assert done.returncode == 0 and [row["busy"] for row in rows] == [1] and rows[0]["ratio"] == 1 and rows[0]["real_time_factor"] > 0, done.stderr


def test_sound_in_a_second_thread_is_timed_both_ways(root, capsys):
    overlap, threads = recipe(root, "benchmark_overlap"), torch.get_num_threads()
    table = overlap.main("--columns 30 --repeats 1 --threads 1".split())
    assert (table["ratio"] > 0).all() and "second thread" in capsys.readouterr().out and torch.get_num_threads() == threads
    with pytest.raises(SystemExit): overlap.main(["--repeats", "0"])
