"""Shrink the stored outputs of notebooks: the sounds of players become MP3, pictures get at most 256 colours. `make export` runs it.

    python nbs/recipes/shrink_outputs.py nbs          # from the top of the checkout; or the notebooks that you ran

A running notebook plays exact sound (WAV); the stored copy is for readers. Marks of generated speech stay.
Shrunk outputs stay as they are, so a second call changes nothing."""
import base64
import io
import json
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image

from voicelab.audio import data_url
from voicelab.files import TEXTS, sound_file
from voicelab.recordings import read_info, read_sound

WAV_URL = re.compile(r"data:audio/wav;base64,([A-Za-z0-9+/=]+)")
PNG_URL = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")
SMALL_PICTURE = 30_000      # bytes: below, colours are left alone


def mp3_of(wav: bytes) -> bytes:
    "The same sound and texts as an MP3."
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(wav)
        file.flush()
        samples, rate, _ = read_sound(file.name, None)
        texts = {tag: text for tag, text in read_info(file.name).items() if tag in TEXTS}
    return sound_file(samples, rate, "MP3", texts)


def few_colours(png: bytes) -> bytes:
    "The same picture with at most 256 colours, where that is smaller."
    picture = Image.open(io.BytesIO(png))
    if picture.mode == "P" or len(png) < SMALL_PICTURE: return png
    file = io.BytesIO()
    picture.convert("RGBA").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return min(png, file.getvalue(), key=len)


def small_html(html: str) -> str:
    "The same page with small sounds and pictures."
    html = WAV_URL.sub(lambda found: data_url("audio/mpeg", mp3_of(base64.b64decode(found[1]))), html)
    return PNG_URL.sub(lambda found: data_url("image/png", few_colours(base64.b64decode(found[1]))), html)


def small_output(data: dict) -> dict:
    "The same output, by MIME types, with small sounds and pictures."
    made = dict(data)
    if "text/html" in data:
        html = "".join(data["text/html"])
        if (small := small_html(html)) != html: made["text/html"] = small.splitlines(keepends=True)
    if "image/png" in data:
        png = base64.b64decode("".join(data["image/png"]))
        if (small := few_colours(png)) != png: made["image/png"] = base64.b64encode(small).decode()
    return made


def shrink(path: Path) -> bool:
    "Shrink the stored outputs of the notebook at `path`; return whether that changed it."
    notebook = json.loads(path.read_text("utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", []) if "data" in output]
    before = [output["data"] for output in outputs]
    for output in outputs: output["data"] = small_output(output["data"])
    if changed := before != [output["data"] for output in outputs]:
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")     # as nbdev-clean writes it
    return changed


def main(paths):
    for path in map(Path, paths):
        for notebook in sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]:
            if shrink(notebook): print(f"{notebook}: {notebook.stat().st_size // 1000} KB")


if __name__ == "__main__": main(sys.argv[1:])
