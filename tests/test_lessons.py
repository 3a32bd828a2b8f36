"""Every lesson runs from top to bottom in a kernel of its own, as a reader would run it, within a time limit."""
import asyncio
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from voicelab.runs import Run

FOLDER = Path(__file__).parent.parent / "nbs/lessons"
HOSTED = FOLDER / "09_hosted_gpu.ipynb"         # not from top to bottom as it is: it installs, and loads 12 GB
LESSONS = sorted({*FOLDER.glob("*.ipynb")} - {HOSTED})
SECONDS = 600


def test_there_are_lessons(): assert LESSONS


def test_each_lesson_leads_to_the_next_and_the_first_page_to_all():
    names = sorted(path.name for path in FOLDER.glob("*.ipynb"))
    last = {name: nbformat.read(FOLDER / name, as_version=4).cells[-1].source for name in names}
    assert not [(here, after) for here, after in zip(names, names[1:]) if not last[here].startswith("**Next lesson:**") or f"]({after})" not in last[here]]
    first = nbformat.read(FOLDER.parent / "index.ipynb", as_version=4).cells[-1].source
    assert not [name for name in names if f"](lessons/{name})" not in first]


def test_no_exercise_gives_its_answer_away():
    "A check takes the answer; what is right stays in exercises.py."
    names = re.compile(r"\b(reply|answered)\(")
    assert not [path.name for path in FOLDER.glob("*.ipynb") if any(names.search(cell.source) for cell in nbformat.read(path, as_version=4).cells)]


@pytest.fixture
def run(python):
    "Runs a notebook in a kernel of its own, in a folder; gives the cells that were not run, which are tagged skip-execution."
    class Kernel(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments=None): return [*python, *super().format_kernel_cmd(extra_arguments)[1:]]
    environment = os.environ | dict(MPLBACKEND="module://matplotlib_inline.backend_inline")     # a kernel sets it, before matplotlib is imported
    def run(notebook, folder):
        client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=dict(metadata=dict(path=str(folder))),
                                kernel_manager_class=Kernel)
        asyncio.run(asyncio.wait_for(client.async_execute(env=environment), SECONDS))
        return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip() and not cell.execution_count]
    return run


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs(lesson, run): assert not run(nbformat.read(lesson, as_version=4), lesson.parent)


def test_the_hosted_gpu_runs_with_the_tiny_model(root, tmp_path, run):
    notebook = nbformat.read(HOSTED, as_version=4)
    (choice,) = (cell for cell in notebook.cells if 'NAME = "higgs-v2"' in cell.source)
    choice.source = choice.source.replace('"higgs-v2"', '"tiny"')
    shutil.copy(root / "data/voices/ada.wav", tmp_path)
    (installs,) = run(notebook, tmp_path)
    assert "%pip install" in installs.source and (tmp_path / "hosted-run.zip").stat().st_size > 10_000
    assert len(Run(tmp_path / "hosted-run")) == 1
