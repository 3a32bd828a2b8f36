"""Build the package, install it where a chosen torch is already, and clone a voice with it from another folder.

    python tests/wheel_check.py --python 3.12 --torch 2.6.0

takes some 5 GB and a minute, and leaves nothing behind. A torch that was there before must be there after."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRANSCRIPT = "The old library opens at nine in the morning."
CLONE = f"""
import voicelab
from voicelab.cli import main
print(voicelab.__file__)
main(["clone", "--text", "Good morning.", "--reference", "ada.wav", "--transcript", "{TRANSCRIPT}", "--seed", "1", "--json"])
"""
VERSIONS = """
import json, platform
from importlib.metadata import version
print(json.dumps({"Python": platform.python_version()} | {name: version(name) for name in ("torch", "torchaudio", "transformers")}))
"""


def run(*command, **options):
    "What a command prints; its errors are raised with all that it said."
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(folder: Path) -> Path:
    "Build the wheel in `folder`, from a copy: building leaves files behind, and finds what it left before."
    source = folder / "source"
    shutil.copytree(ROOT / "voicelab", source / "voicelab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"): shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", source)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def clone_with(python: Path, elsewhere: Path) -> tuple[str, dict]:
    "Clone a voice with the package that `python` has, in the new folder `elsewhere`: where the package lies, and the command's JSON."
    elsewhere.mkdir()
    shutil.copy(ROOT / "data/voices/ada.wav", elsewhere)
    printed = run(python, "-I", "-c", CLONE, cwd=elsewhere).splitlines()
    result = json.loads(printed[-1])
    assert result["frames"] > 0 and (elsewhere / result["generated"]).exists() and (elsewhere / result["reference"]).exists()
    return printed[0], result


def check(python: str, wanted: list[str], folder: Path) -> str:
    "Install `wanted` and then the wheel in an environment of its own, clone, and say in a line what did it."
    home = folder / "env"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    install = [*uv, "pip", "install", "--python", home / "bin/python"]
    run(*uv, "venv", "--python", python, home, env=os.environ | {"UV_PYTHON_DOWNLOADS": "never"})
    if wanted: run(*install, *wanted)
    run(*install, build_wheel(folder))
    versions = json.loads(run(home / "bin/python", "-I", "-c", VERSIONS))
    for requirement in wanted:
        name, version = requirement.split("==")
        assert versions[name] == version, f"{name} {version} was there, and the wheel's installation made it {versions[name]}"
    place, result = clone_with(home / "bin/python", folder / "elsewhere")
    assert Path(place).is_relative_to(home), f"{place} is not of the wheel"
    made_of = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{made_of}: {result['frames']} frames, stopped by {result['stop_reason']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="3.11", help="a version that uv finds here, or the path of an interpreter")
    for name in ("torch", "torchaudio", "transformers"):
        parser.add_argument(f"--{name}", help="the version that is there before; none: what the wheel brings")
    options = vars(parser.parse_args())
    python = options.pop("python")
    with tempfile.TemporaryDirectory() as folder:
        print(check(python, [f"{name}=={version}" for name, version in options.items() if version], Path(folder)))


if __name__ == "__main__": main()
