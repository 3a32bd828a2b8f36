"""Make the run of the listening test that ships, in data/listening: short clones by the tiny model, compressed.

    python make_listening_example.py ../../data/listening       # some seconds; takes the place of what is there
"""
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import voicelab as vl
from voicelab.files import sound_file
from voicelab.listening_example import ROWS
from voicelab.reference import shipped_voices

TEXTS = ["The garden is open today.", "Seven small boats came home."]
TEMPERATURES = 0.3, 1.5


def main(folder: Path):
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.ogg"): old.unlink()
    model, voices, lines = vl.load("tiny"), shipped_voices(), []
    with TemporaryDirectory() as place:
        run = vl.Run(place)
        for name in ("ada", "ben"):
            for text in TEXTS:
                for temperature in TEMPERATURES:
                    sampling = vl.Sampling(temperature=temperature)
                    run.save(model.clone(text, reference=voices[name], sampling=sampling, seed=1))
        for pair in run:
            sound, row = pair.generated, dict(pair.row) | dict(measures={})      # those are of the sound before it was compressed
            (folder / f"{row['id']}.ogg").write_bytes(sound_file(sound.samples, sound.rate, "OGG", sound.mark.info))
            lines.append(json.dumps({name: value for name, value in row.items() if name != "chunks"}, ensure_ascii=False))
    (folder / ROWS).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__": main(Path(sys.argv[1]))
