"""The built package clones a voice from another folder, and offers the shipped voices, with no file of the checkout."""
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile

OFFERED = """
import json
from voicelab.widgets.voice import VOICE_FOLDER, VoiceChooser, shipped_voices
voices = {name: voice.transcript for name, voice in shipped_voices().items()}
print(json.dumps(dict(voices=voices, choices=list(VoiceChooser().voice.options), folder=str(VOICE_FOLDER))))
"""


def test_the_wheel_clones_a_voice(root, tmp_path):
    source = tmp_path / "source"                # a copy: building leaves files behind, and finds what it left before
    shutil.copytree(root / "voicelab", source / "voicelab")
    for name in ("pyproject.toml", "README.md", "LICENSE"): shutil.copy(root / name, source)
    built = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source],
                           capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.stat().st_size <= 60_000_000 and wheel.name.startswith("voicelab_workspace-")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.split("/")[0] in ("nbs", "tests", "data")]
    for file in (root / "data/voices").iterdir():       # not the link of the checkout: the files that it leads to
        assert zipfile.ZipFile(wheel).read(f"voicelab/voices/{file.name}") == file.read_bytes()
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
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(root / "data/voices/ada.wav", elsewhere)
    done = subprocess.run([home / "bin/python", "-I", "-c", "import voicelab, sys; print(voicelab.__file__); from voicelab.cli import main; "
                           "main(['clone', '--text', 'Good morning.', '--reference', 'ada.wav', '--transcript', "
                           "'The old library opens at nine in the morning.', '--seed', '1', '--json'])"],
                          cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(site))
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["frames"] > 0 and (elsewhere / result["generated"]).exists() and (elsewhere / result["reference"]).exists()
    offered = subprocess.run([home / "bin/python", "-I", "-c", OFFERED], cwd=elsewhere, capture_output=True, text=True)
    assert offered.returncode == 0, offered.stderr
    said = dict(line.split("\t") for line in (root / "data/voices/transcripts.tsv").read_text(encoding="utf-8").splitlines())
    offered = json.loads(offered.stdout)
    assert offered["voices"] == said and offered["choices"] == [*said, "upload", "no reference"]
    assert offered["folder"].startswith(str(site))
