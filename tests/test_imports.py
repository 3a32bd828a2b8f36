"What a program finds does not depend on what it imported first, and the map says what may import what."
import ast
import json
import re
import subprocess

import pytest

ALL = {"similarity", "ended", "wer", "cer", "cepstral_distance", "likelihood_gain", "mos", "pauses", "speaking_rate", "f0_median"}
METHODS = {"compare", "variance", "anchors", "calibrate", "export", "measure"}


FIRST = """
import os, sys
for first, code in CASES:
    sys.stdout.flush()
    if os.fork() == 0:
        exec(first)
        exec(code)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, first
"""


MEASURES, PARTS = "from voicelab.metrics import METRICS; print(*METRICS)", "from voicelab.sweep import Sweep; print(*dir(Sweep))"
NAMES = {MEASURES: ["from voicelab import Generation", "import voicelab.manifest", "import voicelab.ablation"],
         PARTS: ["import voicelab.sweep", "import voicelab.compare", "import voicelab.page"]}


@pytest.fixture(scope="module")
def printed(tmp_path_factory, python):
    "For each code of NAMES the words that it prints after each of its imports, each time in a process that has none of voicelab."
    cases = [(first, code) for code, firsts in NAMES.items() for first in firsts]
    done = subprocess.run([*python, "-c", f"CASES = {cases!r}" + FIRST], capture_output=True, text=True, cwd=tmp_path_factory.mktemp("imports"))
    assert done.returncode == 0, done.stderr
    lines = [{*line.split()} for line in done.stdout.splitlines()]
    assert len(lines) == len(cases)
    return {code: [lines.pop(0) for _ in firsts] for code, firsts in NAMES.items()}


def test_all_measures_are_there_whatever_is_imported(printed):
    found = printed[MEASURES]
    assert len(found) == 3 and all(names >= ALL for names in found)


def test_a_sweep_has_all_its_methods_whatever_is_imported(printed):
    found = printed[PARTS]
    assert len(found) == 3 and all(names >= METHODS for names in found)


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
