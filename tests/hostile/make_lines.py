"""Makes lines.jsonl beside this file: lines that a manifest from anywhere may hold, each a JSON text. `python make_lines.py`"""
import json
import random
from pathlib import Path

GOOD = {"id": 1, "status": "ok", "generated": "english_generated_001_Anna.wav", "reference": "english_generated_001_Anna_ref.wav",
        "text": "Seven grey geese fly.", "transcript": "Two owls.", "language": "english", "speaker": "Anna", "consent": "synthetic",
        "notice": "", "prompt_form": "assistant_ref", "settings": {"sampling": {"temperature": 0.3}}, "seed": 0, "stop_reason": "eos",
        "seconds": 0.6, "frames": 15, "rtf": 0.5, "chunks": [], "measures": {"length": {"value": 0.6, "unit": "s"}}, "hashes": {"voice": "ab"},
        "model": {"name": "hand"}, "versions": {}, "synthetic": True, "created": "2026-11-26T09:00:00+00:00"}
PLACES = ("../../../../../../etc/passwd", "/etc/passwd", "/dev/zero", "../outside.wav", "..", ".", "", ".stage", ".stage/line.json", "manifest.jsonl",
          "a\0.wav", "sub/x.wav", "~/.bashrc", "C:\\x.wav", "file:///etc/passwd", "x" * 5000 + ".wav", "\ud800.wav", "link.wav", "pipe.wav", "zero.wav")
VALUES = (None, True, -1, 0.5, 10**240, 1e308, "", "x" * 2_000, [], {}, [[]], {"a": {"b": []}}, "<script>alert(1)</script>",
          "\u202e\ud800", "0", [1, "a", None])
RAW = ("", "null", "[]", "7", '"text"', "{", "}", '{"id": NaN}', '{"id": 1' + "0" * 4400 + "}", "[" * 12_000, '{"a":' * 12_000, "\x00", "\xff\xfe", "{}" * 100,
       '{"id": 1, "id": 2}', "<html>", "id,status\n1,ok")


def lines(seed=0):
    "Bad names in each place, bad values under each key, two changes at once by chance, and what is no object at all."
    chance = random.Random(seed)
    yield from RAW
    for kind in ("generated", "reference"): yield from (json.dumps(GOOD | {kind: place}) for place in PLACES)
    for key in GOOD: yield from (json.dumps(GOOD | {key: value}) for value in chance.sample(VALUES, 6))
    for key in ("id", "seconds", "frames", "rtf", "seed"): yield json.dumps(GOOD | {key: 10**400})
    yield json.dumps(GOOD | {"measures": {"length": {"value": 10**400, "unit": "s"}}})
    for key in GOOD: yield json.dumps({name: value for name, value in GOOD.items() if name != key})
    for _ in range(60): yield json.dumps(GOOD | {key: chance.choice(VALUES) for key in chance.sample(sorted(GOOD), 3)})
    for _ in range(60):
        line = bytearray(json.dumps(GOOD).encode())
        for _ in range(chance.randint(1, 4)): line[chance.randrange(len(line))] = chance.randrange(256)
        yield line.decode("latin-1")


if __name__ == "__main__":
    Path(__file__).with_name("lines.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines()))
