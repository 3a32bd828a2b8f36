"""Recordings of people to measure with: eleven prompts of four speakers, from Debian's packages (CC BY-SA; digium.com).

    apt-get download asterisk-core-sounds-en-g722 asterisk-core-sounds-es-g722 asterisk-core-sounds-fr-g722 \\
        asterisk-core-sounds-it-g722 asterisk-core-sounds-ru-g722
    python people.py FOLDER             # NAME_1.wav and so on, 16 kHz, from the packages in this folder

They have no transcripts. Nothing is trained on them: they are for `evaluate.py --recordings FOLDER`.
"""
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

from voicelab.audio import Audio

RATE, BYTES_A_SECOND = 16_000, 8_000            # of G.722
MOST_SECONDS = 8
TAKEN = dict(en=3, es=2, fr=2, it=2, ru=2)      # the longest of each package that last at most MOST_SECONDS


def decode(path: Path) -> Audio:
    with av.open(str(path), format="g722") as file: samples = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
    return Audio(np.concatenate(samples).astype(np.float32) / 32768, RATE)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"): raise SystemExit(__doc__)
    if not shutil.which("dpkg-deb"): raise SystemExit("people: needs the command dpkg-deb")
    packages = {}
    for language in TAKEN:
        packages[language] = next(Path().glob(f"asterisk-core-sounds-{language}-g722_*.deb"), None)
        if not packages[language]:
            raise SystemExit(f"people: needs the package asterisk-core-sounds-{language}-g722 in this folder; see the head of the script")
    folder, counts = Path(sys.argv[1]), {}
    folder.mkdir(parents=True, exist_ok=True)
    for language, most in TAKEN.items():
        with tempfile.TemporaryDirectory() as unpacked:
            done = subprocess.run(["dpkg-deb", "-x", packages[language], unpacked], capture_output=True, text=True)
            if done.returncode: raise SystemExit(f"people: {packages[language]}: {done.stderr.strip()}")
            files = [path for path in Path(unpacked).rglob("*.g722")
                     if path.stat().st_size <= MOST_SECONDS * BYTES_A_SECOND and path.parent.name != "silence"]
            for path in sorted(files, key=lambda path: (-path.stat().st_size, path.name))[:most]:
                name = path.relative_to(unpacked).parts[4].split("_")[-1].lower()      # usr/share/asterisk/sounds/en_US_f_Allison
                counts[name] = counts.get(name, 0) + 1
                decode(path).save(folder / f"{name}_{counts[name]}.wav")
    print(f"{folder}: {sum(counts.values())} recordings of {len(counts)} people")


if __name__ == "__main__": main()
