"What a program finds does not depend on what it imported first, and the map says what may import what."
import ast
import json
import re
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


# ---- the README's map

def rows_of(root):
    "The row of each module in the README's map."
    rows = [line for line in (root / "README.md").read_text("utf-8").splitlines() if line.startswith("| ") and "(nbs/" in line]
    found = {}
    for number, row in enumerate(rows):
        for notebook in re.findall(r"\((nbs/[^)]*\.ipynb)\)", row):
            cells = json.loads((root / notebook).read_text("utf-8"))["cells"]
            names = (re.match(r"#\| default_exp (\S+)", "".join(cell["source"])) for cell in cells)
            found |= {name[1]: number for name in names if name}
    return found


def imported(root, module):
    "The names that a module imports anywhere, in functions too, each with its line."
    parts = ["voicelab", *module.split(".")]
    for node in ast.walk(ast.parse((root / "voicelab" / f"{'/'.join(parts[1:])}.py").read_text("utf-8"))):
        if isinstance(node, ast.Import): yield from ((each.name, node.lineno) for each in node.names)
        if isinstance(node, ast.ImportFrom):
            home = ".".join([*(parts[:-node.level] if node.level else []), *filter(None, [node.module])])
            yield from ((name, node.lineno) for name in (home, *(f"{home}.{each.name}" for each in node.names)))


def test_a_module_imports_only_from_its_row_of_the_map_and_from_those_above(root):
    rows = rows_of(root)
    assert len(rows) > 100 and rows["errors"] < rows["session"] < rows["sweep"]
    below = [f"{module}.py:{line} imports {name}" for module, row in rows.items() for name, line in imported(root, module)
             if rows.get(name.removeprefix("voicelab."), -1) > row and name.startswith("voicelab.")]
    assert not below
