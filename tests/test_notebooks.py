"""Every notebook runs from top to bottom; what it stores stays small, and is made small without losing what it says."""
import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voicelab import widgets
from voicelab.audio import GENERATED, Audio, Mark, load_audio

FOLDER = Path(__file__).parent.parent / "nbs"          # its lessons run in tests/test_lessons.py
LIMIT = 400_000     # bytes
MOST_LINES, MOST_WIDTH = 50, 120        # of an exported cell; of a line of code


def notebooks(root): return [path for path in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]


def code_cells(root):
    "Notebook, id and lines of each code cell."
    for path in notebooks(root):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code": yield path.name, cell["id"], "".join(cell["source"]).split("\n")


@pytest.mark.parametrize("notebook", sorted({*notebooks(FOLDER.parent)} - {*FOLDER.glob("lessons/**/*")}), ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, python):
    "As `nbdev-test` runs it for whoever changes it, in a process of its own."
    command = [*python, Path(sys.executable).with_name("nbdev-test"), notebook, "--n-workers", "0"]
    done = subprocess.run(command, cwd=FOLDER, env=os.environ | dict(OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "Success.", done.stdout[-2000:] + done.stderr[-6000:]


@pytest.fixture(scope="module")
def recipe(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "nbs/recipes")
        import shrink_outputs
        yield shrink_outputs
    del sys.modules["shrink_outputs"]


def test_no_file_has_the_marks_of_a_merge_that_was_not_finished(root):
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True).stdout.split("\n")
    texts = {name: (root / name).read_bytes() for name in files if name and (root / name).is_file()}
    assert len(texts) > 100 or not (root / ".git").exists()
    marked = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    assert not [name for name, content in texts.items() if marked.search(content)]


def test_no_notebook_is_large(root):
    sizes = {path.relative_to(root): path.stat().st_size for path in notebooks(root)}
    assert sizes
    large = {str(path): size for path, size in sizes.items() if size > LIMIT}
    assert not large, f"over {LIMIT // 1000} KB; `make export` makes what they store small: {large}"


def test_the_map_leads_to_every_notebook(root):
    links = {page: re.findall(r"\]\((?!https:)([^)#]+)", (root / page).read_text("utf-8")) for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}
    broken = [(page, link) for page, found in links.items() for link in found if not (root / link).exists()]
    assert not broken and not {str(path.relative_to(root)) for path in notebooks(root)} - set(links["README.md"])


def test_no_exported_cell_is_long(root):
    exported = [(name, cell, len(lines)) for name, cell, lines in code_cells(root) if lines[0].startswith("#| export")]
    assert len(exported) > 300
    long = [each for each in exported if each[2] > MOST_LINES]
    assert not long, f"over {MOST_LINES} lines; break it with @patch, with an example after each part: {long}"


def test_a_measure_is_added_in_one_way(root):
    "A cell that adds one can be run again."
    added = [line for _, _, lines in code_cells(root) for line in lines if "METRICS.add(" in line]
    added += [line for line in (root / "CONTRIBUTING.md").read_text("utf-8").splitlines() if "METRICS.add(" in line]
    assert len(added) > 15 and not [line for line in added if "METRICS.add(replace=True, record=Metric(" not in line]


def test_the_documents_say_what_is(root):
    "The limit of a cell, the number of widgets and their names, the file that a new family starts from."
    readme, guide = ((root / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    assert f"never over {MOST_LINES}, of at most {MOST_WIDTH} characters" in guide
    count = {12: "Twelve", 13: "Thirteen", 14: "Fourteen", 15: "Fifteen"}[len(widgets.__all__)]
    assert f"\n{count} widgets for JupyterLab." in readme
    assert not [name for name in widgets.__all__ if f"\nvl.widgets.{name}(" not in readme]
    family, = re.findall(r"`(tests/[a-z_]+[.]py)` is a family in sixty lines", guide)
    assert "register(Family(" in (root / family).read_text("utf-8")


def test_no_line_of_code_is_wide(root):
    "An import may be wider in a notebook than in its module, where it is relative."
    wide = [(name, cell, line) for name, cell, lines in code_cells(root) for line in lines
            if len(line) > MOST_WIDTH and not line.startswith("from voicelab.")]
    modules = [path for path in (root / "voicelab").rglob("*.py") if path.name != "_modidx.py"]
    written = lambda text: text.partition("\n# %% ../")[2] or text    # what is before that, nbdev has written
    wide += [(path.name, line) for path in modules for line in written(path.read_text("utf-8")).split("\n")
             if len(line) > MOST_WIDTH]
    own = [path for path in (root / "voicelab/web").iterdir() if not path.name.startswith("wavesurfer-")]       # as its makers ship it
    wide += [(path.name, line) for path in own for line in path.read_text("utf-8").split("\n")
             if len(line) > MOST_WIDTH]
    assert not wide, f"over {MOST_WIDTH} characters: {wide}"


def stored(path, *outputs):
    "A notebook with these outputs."
    cell = dict(cell_type="code", id="a", metadata={}, execution_count=None, source=[],
                outputs=[dict(output_type="display_data", metadata={}, data=data) for data in outputs])
    path.write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    return path


def data_of(path): return [output["data"] for output in json.loads(path.read_text())["cells"][0]["outputs"]]


def test_sounds_become_small_and_keep_their_mark(recipe, tmp_path):
    mark = Mark(GENERATED, "AI-generated by tiny; consent: mine", "voicelab")
    sound = Audio(0.3 * np.sin(np.arange(16_000) / 5), 16_000, mark)
    notebook = stored(tmp_path / "a.ipynb", {"text/html": f"<p>ä</p>\n{sound.player()}<b>after</b>", "text/plain": "a sound"})
    before = notebook.stat().st_size
    assert recipe.shrink(notebook) and notebook.stat().st_size < before / 4
    (data,) = data_of(notebook)
    html = "".join(data["text/html"])
    assert html.startswith("<p>ä</p>\n") and html.endswith("</audio><b>after</b>") and data["text/plain"] == "a sound"
    (tmp_path / "a.mp3").write_bytes(base64.b64decode(html.split("data:audio/mpeg;base64,")[1].split('"')[0]))
    heard = load_audio(tmp_path / "a.mp3")
    assert heard.mark == mark and heard.rate == 16_000 and heard.seconds == pytest.approx(1, abs=0.1)
    whole = notebook.read_bytes()
    assert not recipe.shrink(notebook) and notebook.read_bytes() == whole


def test_pictures_keep_their_size_and_nearly_their_colours(recipe, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300))
    shown = np.stack([noise, noise // 2, 255 - noise], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG")
    png = base64.b64encode(file.getvalue()).decode()
    notebook = stored(tmp_path / "a.ipynb", {"image/png": png}, {"text/html": [f'<img src="data:image/png;base64,{png}">']})
    assert recipe.shrink(notebook)
    bare, inside = data_of(notebook)
    small = base64.b64decode(bare["image/png"])
    assert len(small) < len(file.getvalue()) * 0.7 and base64.b64encode(small).decode() in "".join(inside["text/html"])
    difference = np.abs(np.asarray(Image.open(io.BytesIO(small)).convert("RGBA").convert("RGB"), int) - shown)
    assert difference.shape == shown.shape and difference.mean() < 8
    assert not recipe.shrink(notebook)


def test_small_things_are_left_alone(recipe, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (3, 3)).save(file, "PNG")
    outputs = {"image/png": base64.b64encode(file.getvalue()).decode()}, {"text/html": ["<b>no sound</b>"]}, {"text/plain": "3"}
    notebook = stored(tmp_path / "a.ipynb", *outputs)
    whole = notebook.read_bytes()
    assert not recipe.shrink(notebook) and notebook.read_bytes() == whole and data_of(notebook) == list(outputs)
