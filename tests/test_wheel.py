"""The built package clones a voice from another folder, and offers the shipped voices, with no file of the checkout."""
import json
import os
import subprocess
import sys
import sysconfig
import zipfile

from wheel_check import build_wheel, clone_with

OFFERED = """
import json
from pathlib import Path
import voicelab as vl
from voicelab.reference import VOICE_FOLDER, shipped_voices
from voicelab.widgets.voice import VoiceChooser
voices = {name: voice.transcript for name, voice in shipped_voices().items()}
from voicelab.cli_pages import copy_lessons
copied, changed = copy_lessons(Path("mine"))
bench = vl.widgets.Ablation(vl.load("tiny"), "Hi.")
for arm, tick in bench.ticks.items(): tick.value = arm in ("right", "other_speaker")
bench.seeds.value = 1
bench.run()
bench.worker.wait()
tried = dict(copied=copied, changed=changed, samples=len(bench.result.attempts), failed=str(bench.worker.error))
print(json.dumps(tried | dict(voices=voices, choices=list(VoiceChooser().voice.options), folder=str(VOICE_FOLDER), rows=len(vl.TestSet()))))
"""


def test_the_wheel_clones_a_voice(root, tmp_path):
    wheel = build_wheel(tmp_path)
    assert wheel.stat().st_size <= 60_000_000 and wheel.name.startswith("voicelab_workspace-")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.split("/")[0] in ("nbs", "tests", "data")]
    assert "voicelab/py.typed" in names
    for folder, data in (("voices", "voices"), ("testset", "testset"), ("example", "listening")):       # not links: what they lead to
        for file in (root / "data" / data).iterdir():
            assert zipfile.ZipFile(wheel).read(f"voicelab/{folder}/{file.name}") == file.read_bytes()
    lessons = {f"voicelab/lessons/{file.relative_to(root / 'nbs/lessons')}" for file in (root / "nbs/lessons").rglob("*")
               if file.is_file() and not any(part.startswith((".", "__")) for part in file.parts)}
    assert len(lessons) > 20 and lessons | {"voicelab/index.ipynb", "voicelab/images/tuner.png"} <= {*names}
    assert {f"voicelab/web/{file.name}" for file in (root / "voicelab/web").iterdir()} <= {*names}
    # A clean environment of its own: only the wheel, and the dependencies of this one without the editable checkout.
    home = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    site = next((home / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    for entry in os.scandir(sysconfig.get_path("purelib")):
        if "voicelab" not in entry.name and not entry.name.endswith(".pth"): os.symlink(entry.path, dependencies / entry.name)
    (site / "dependencies.pth").write_text(str(dependencies))
    place, _ = clone_with(home / "bin/python", tmp_path / "elsewhere")
    assert place.startswith(str(site))
    offered = subprocess.run([home / "bin/python", "-I", "-c", OFFERED], cwd=tmp_path / "elsewhere", capture_output=True, text=True)
    assert offered.returncode == 0, offered.stderr
    said = dict(line.split("\t") for line in (root / "data/voices/transcripts.tsv").read_text(encoding="utf-8").splitlines())
    offered = json.loads(offered.stdout)
    assert offered["voices"] == said and offered["choices"] == [*said, "upload", "microphone", "a folder of mine", "no reference"]
    assert offered["folder"].startswith(str(site)) and offered["rows"] == 120
    assert (offered["copied"], offered["changed"]) == (len(lessons) + 2, [])
    assert (offered["samples"], offered["failed"]) == (2, "None")
