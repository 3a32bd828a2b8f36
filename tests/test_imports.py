"What a program finds does not depend on what it imported first, and the map says what may import what."
import subprocess
import sys

import pytest

ALL = {"similarity", "ended", "wer", "cer", "cepstral_distance", "likelihood_gain", "mos", "pauses", "speaking_rate", "f0_median"}
METHODS = {"compare", "variance", "anchors", "calibrate", "export", "measure"}


def printed(code, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return {*done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("first", ["from voicelab import Generation", "import voicelab.manifest", "import voicelab.ablation"])
def test_all_measures_are_there_whatever_is_imported(first, tmp_path):
    assert printed(f"{first}\nfrom voicelab.metrics import METRICS\nprint(*METRICS)", tmp_path) >= ALL


@pytest.mark.parametrize("first", ["sweep", "compare", "page"])
def test_a_sweep_has_all_its_methods_whatever_is_imported(first, tmp_path):
    assert printed(f"import voicelab.{first}\nfrom voicelab.sweep import Sweep\nprint(*dir(Sweep))", tmp_path) >= METHODS
