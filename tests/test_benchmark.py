"""The benchmark of the engine runs anywhere, and compares like with like."""
import importlib.util
import json

import pytest
import torch

@pytest.fixture(scope="module")
def benchmark(root):
    spec = importlib.util.spec_from_file_location("benchmark_engine", root / "nbs/recipes/benchmark_engine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_engines_say_the_same(benchmark, tmp_path, capsys):
    options = "--shape tiny --batch 1 3 --positions 120 --columns 12 --bandwidth 10 --json".split()
    table = benchmark.main([*options, str(tmp_path / "table.json")])
    assert table["same columns"].tolist() == ["12/12", "36/36"] and (table["ratio"] > 0).all()
    assert (table["limit steps/s"] > table["voicelab steps/s"]).all()
    written = json.loads((tmp_path / "table.json").read_text())
    assert written["shape"] == "tiny" and len(written["rows"]) == 2
    assert "120 cached positions" in capsys.readouterr().out


def test_a_step_of_the_released_shape_reads_what_the_arithmetic_says(benchmark):
    "5.7 GB in bfloat16 for the audio path; keys and values add 114,688 bytes a position."
    network = benchmark.build("3b", "meta", torch.bfloat16)
    assert benchmark.step_bytes(network, 1, 0) == pytest.approx(5.688e9, rel=0.001)
    assert benchmark.step_bytes(network, 4, 1000) - benchmark.step_bytes(network, 4, 0) == 4 * 1000 * 114_688


def test_prompts_have_the_length_that_was_asked_for(benchmark):
    prompts = benchmark.make_prompts(2, 300)
    assert [len(prompt.ids) for prompt in prompts] == [300, 300] and not prompts[0].codes[0].equal(prompts[1].codes[0])
    with pytest.raises(SystemExit, match="^--positions: must be at least"): benchmark.make_prompts(1, 20)
