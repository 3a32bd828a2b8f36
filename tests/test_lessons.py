"""Every lesson runs from top to bottom in a kernel of its own, as a reader would run it, within a time limit."""
import asyncio
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

LESSONS = sorted((Path(__file__).parent.parent / "nbs/lessons").glob("*.ipynb"))
SECONDS = 600


def test_there_are_lessons(): assert LESSONS


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs(lesson):
    notebook = nbformat.read(lesson, as_version=4)
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=dict(metadata=dict(path=str(lesson.parent))))
    asyncio.run(asyncio.wait_for(client.async_execute(), SECONDS))
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip())
