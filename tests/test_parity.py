"""The parity vectors that ship: their size, the weights drawn anew, and that no parity test can be skipped."""
import os
import subprocess

import pytest
import torch
from vectors import SHIPPED, read_about, read_case

DRAWN = [file.stem for file in sorted(SHIPPED.glob("*.json")) if "drawn" in read_about(file.stem, SHIPPED)]
SKIPPING = """
import pytest

@pytest.mark.parity
@pytest.mark.skip
def test_marked_as_skipped(): pass

@pytest.mark.parity
def test_skips_itself(): pytest.skip("no vectors")

@pytest.mark.parity
@pytest.mark.parametrize("case", [])
def test_without_a_case(case): pass

@pytest.mark.skip
def test_of_another_kind(): pass
"""


def test_the_vectors_are_small_and_plain():
    files = [file for file in SHIPPED.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".txt", ".md"}
    assert sum(file.stat().st_size for file in files) < 3_000_000


@pytest.mark.parity
@pytest.mark.parametrize("name", DRAWN)
def test_torch_draws_the_weights_that_the_reference_drew(name):
    tensors, about = read_case(name, SHIPPED)
    last = torch.stack([tensors[row[1]].flatten()[-1] for row in about["drawn"]])
    torch.testing.assert_close(last, tensors["drawn_last"], atol=1e-6, rtol=1e-6)


def test_a_skipped_parity_test_has_failed(root, tmp_path, python):
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    settings = ["-W", "ignore:Module already imported", "-p", "conftest", "-c", root / "pyproject.toml", "--rootdir", tmp_path]
    command = [*python, "-m", "pytest", *settings, tmp_path]
    paths = os.environ | {"PYTHONPATH": f"{root / 'tests'}{os.pathsep}{root}"}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)
    assert "1 failed, 1 skipped, 2 errors" in done.stdout, done.stdout + done.stderr    # two before they begin
    assert done.returncode == 1
    for name in ("marked_as_skipped", "skips_itself", "without_a_case[NOTSET]"):
        assert f"test_{name}: a parity test was skipped" in done.stdout
