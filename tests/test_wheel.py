"""The built package clones a voice from another folder, with no file of the checkout."""
import os
import subprocess
import sys
import sysconfig
import zipfile

from wheel_check import build_wheel, clone_with

def test_the_wheel_clones_a_voice(tmp_path):
    wheel = build_wheel(tmp_path)
    assert wheel.stat().st_size <= 60_000_000 and wheel.name.startswith("voicelab_workspace-")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.split("/")[0] in ("nbs", "tests", "data")]
    assert "voicelab/py.typed" in names
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
