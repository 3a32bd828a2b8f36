"Checkpoints of every kind as small as they get, and what may be wrong with one, by chance from a seed."
import json
import os
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import torch
from safetensors.torch import load_file
from test_models import SMALL, small_higgs_codec
from test_original import SIZES, back_to_original, original_json, write_shards

from voicelab.audio import Audio
from voicelab.budget import Budget
from voicelab.families.higgs.checkpoint import HiggsParts, load_codec, load_folder
from voicelab.families.higgs.model import HiggsModel
from voicelab.families.higgs.tiny import save_checkpoint
from voicelab.families.vita.checkpoint import load_vita_folder, save_vita, tiny_settings, tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.lab import MODELS, load
from voicelab.models.flow import FlowConfig, FlowNet
from voicelab.models.glm4decoder import load_decoder
from voicelab.models.glm4voice import Glm4Voice, load_glm4voice, save_glm4voice, tiny_glm4voice
from voicelab.models.tinycodec import TinyCodecNet
from voicelab.models.whispervq import WhisperVQ, WhisperVQConfig, load_whispervq
from voicelab.reference import Reference

CODES = 64
KINDS = ("qwen2_mtp", "qwen2_mtp_sensevoice")
LOADERS = {"shipped": load, "shipped/codec": load_codec, "higgs": load_folder, "higgs/codec": load_codec, "original": load_folder,
           "qwen2_mtp": load_vita_folder, "qwen2_mtp_sensevoice": load_vita_folder, "codec": load_glm4voice, "codec/decoder": load_decoder,
           "codec/tokenizer": load_whispervq}

RAW = "\0raw:"                                      # a text that begins so is written into the JSON without quotes
VALUES = (None, True, False, -1, 0, 1, 2, 3, 7, 64, 1000, 2**31, 2**63, -2**63, 0.5, -0.5, 1e-30, 1e30, -1e30, "", "x", "1",
          "../../x", "\ud800", "x\ny", "x" * 100_000, [], [0], [1], [1] * 100_000, [None], [[]], {}, {"a": 1}, {"type": "Sequence"},
          f"{RAW}NaN", f"{RAW}Infinity", f"{RAW}1e999", f"{RAW}{'9' * 400}", f"{RAW}{'9' * 6000}", f"{RAW}{'[' * 5000}{']' * 5000}")
YAML_VALUES = ("-1", "0", "1", "2147483648", "1e30", ".nan", "[]", "{}", "x", "~", "[1, 2]", "*a", "&a 3", "!ref <flow>",
               "!new:a.B {}", "0x" + "f" * 9000, "true", "2001-01-01", "'" + "x" * 9000 + "'")
TEXTS = (".json", ".yaml", ".mvn")


class Late(BaseException): "Loading has not come to an end in time."


@contextmanager
def within(seconds):
    "Raise `Late` inside after so many seconds."
    def late(*_): raise Late
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try: yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def make_bases(top, network, tokenizer): # of the Higgs class
    "Put a folder of each kind, as small as it gets, into the folder `top`."
    os.symlink(MODELS["tiny"]["folder"], top / "shipped")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(top / "original", network, tokenizer, TinyCodecNet(SMALL), dict(name="small", chunk_seconds=6.0))
        voice = tiny_glm4voice()
        voice = Glm4Voice(WhisperVQ(WhisperVQConfig(mel_bands=32, width=32, heads=2, feed_forward=64, layers=2, codebook_size=CODES)),
                          FlowNet(FlowConfig(codebook_size=CODES, code_width=32, width=32, heads=2, feed_forward=64, layers=2, channels=(32, 32),
                                             head_width=16, estimator_heads=2, estimator_layers=1, mid_blocks=2)), voice.hift, "small")
    shutil.copytree(top / "original", top / "higgs")
    shutil.rmtree(top / "higgs/codec")
    small_higgs_codec().save_pretrained(top / "higgs/codec")
    config = network.config
    content = original_json({name: getattr(config, name) for name in SIZES}, config.vocab_size, config.audio_token_id)
    (top / "original/config.json").write_text(json.dumps(content))
    state = load_file(top / "original/model.safetensors")
    (top / "original/model.safetensors").unlink()
    write_shards(top / "original", back_to_original(state), shards=2)
    for kind in KINDS:
        parts = tiny_vita(kind, n_codes=CODES)
        save_vita(top / kind, parts, tiny_settings(kind, parts.tokenizer, 10), dict(name="small", license="Apache-2.0"))
    save_glm4voice(voice, top / "codec")
    return top


def linked(base, folder):
    "A folder like `base` whose files are links into it, as in the hub's cache."
    shutil.copytree(base, folder, copy_function=os.symlink)
    return folder


def places(content, path=()):
    "Every place in a JSON value; of a long list or mapping only some."
    yield path
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for n, (key, value) in enumerate(inner):
        if n < 40: yield from places(value, (*path, key))


def written(content):
    "JSON, with raw parts as they are."
    return json.dumps(content).replace(json.dumps(RAW)[:-1], '"' + RAW).replace(RAW, "\1")


def unquoted(text):
    while (start := text.find('"\1')) >= 0:
        end = text.index('"', start + 1)
        text = text[:start] + text[start + 2:end] + text[end + 1:]
    return text


def change_value(rng, content):
    "One value of a JSON or YAML content is another, or is gone, or is there twice."
    path = rng.choice([path for path in places(content) if path])
    inner = content
    for key in path[:-1]: inner = inner[key]
    if rng.random() < 0.1:
        del inner[path[-1]]
        return f"{path} deleted"
    there = inner[path[-1]]
    near = (there + 1, there - 1, there * 2, there // 2, -there) if type(there) in (int, float) else ()
    value = inner[path[-1]] = rng.choice(near if near and rng.random() < 0.3 else VALUES)
    return f"{path} = {str(value)[:40]!r}"


def change_text(rng, file):
    "A value of a text file, or some bytes of it."
    text = file.read_text()
    if file.suffix == ".json" and rng.random() < 0.8:
        content = json.loads(text)
        done = change_value(rng, content)
        return done, unquoted(written(content)).encode()
    if file.suffix == ".yaml" and rng.random() < 0.8:
        lines = text.splitlines()
        n = rng.choice([n for n, line in enumerate(lines) if ":" in line])
        lines[n] = lines[n].partition(":")[0] + ": " + rng.choice(YAML_VALUES)
        return f"line {n}: {lines[n][:60]}", "\n".join(lines).encode()
    return change_bytes(rng, bytearray(text.encode()))


def change_bytes(rng, content, first=None): # first: change these bytes only
    kind, at = rng.choice(("flip", "cut", "insert", "double")), rng.randrange(first or max(1, len(content)))
    if kind == "flip": content[at:at + 1] = bytes([rng.randrange(256)])
    if kind == "cut": del content[at:]
    if kind == "insert": content[at:at] = rng.choice((b"\0", b"\xff", b"[", b"}", b'"', b"9" * 30, b"\n"))
    if kind == "double": content[at:at] = content[at:at + 64]
    return f"{kind} at {at}", bytes(content)


def change_header(rng, file):
    "A safetensors file whose header lies, or whose first bytes do."
    content = bytearray(file.read_bytes())
    length = int.from_bytes(content[:8], "little")
    if rng.random() < 0.3: return change_bytes(rng, content, length + 8)
    header = json.loads(content[8:8 + length])
    name = rng.choice([name for name in header if name != "__metadata__"])
    about = header[name]
    done = rng.choice(("shape", "dtype", "data_offsets", "name", "value"))
    if done == "shape": about["shape"] = rng.choice(([], [0], [2**40, 2**40], [-1], about["shape"][::-1], [*about["shape"], 1], "x", [1.5]))
    if done == "dtype": about["dtype"] = rng.choice(("F64", "F16", "I64", "BOOL", "F8_E4M3", "C64", "X", 7, None))
    if done == "data_offsets": about["data_offsets"] = rng.choice(([0, 0], [0, 2**62], [-1, 4], [4, 0], about["data_offsets"][::-1]))
    if done == "name": header[rng.choice(("x\ny", "", "n" * 100_000, "__metadata__", "layers.x.y", f"layers.{'9' * 5000}.a"))] = header.pop(name)
    if done == "value": header[name] = rng.choice((None, [], 7, {}))
    made = unquoted(written(header)).encode()
    return f"header: {done} of {name}", len(made).to_bytes(8, "little") + made + content[8 + length:]


def change_kind(rng, file):
    "Something else than a file under its name, or nothing."
    kind = rng.choice(("missing", "empty", "folder", "pipe", "loop", "zero", "large", "kmsg"))
    file.unlink()
    if kind == "empty": file.write_bytes(b"")
    if kind == "folder": file.mkdir()
    if kind == "pipe": os.mkfifo(file)
    if kind == "loop": file.symlink_to(file.name)
    if kind == "zero": file.symlink_to("/dev/zero")
    if kind == "kmsg": file.symlink_to("/proc/kmsg")
    if kind == "large":
        with open(file, "wb") as stream: stream.truncate(1 << 42)
    return kind


def change_something(rng, folder):
    "Change one file of a folder of links; say what was done."
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in (*TEXTS, ".safetensors"))
    file = rng.choice([path for path in files if path.suffix in TEXTS] if rng.random() < 0.8 else files)
    where = file.relative_to(folder).as_posix()
    if rng.random() < 0.1: return f"{where}: {change_kind(rng, file)}"
    done, content = (change_text if file.suffix in TEXTS else change_header)(rng, file)
    file.unlink()
    file.write_bytes(content)
    return f"{where}: {done}"


VOICE = Reference(Audio(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), 16_000), transcript="What is said.", consent="synthetic")


def use(made):
    "A few frames of a model or a codec that loads, so that what loading let through shows."
    if isinstance(made, HiggsParts): made = HiggsModel(made)
    if isinstance(made, HiggsModel | VitaModel):
        few = Budget("fixed", 1.0, 3, 12, None, "", "") if isinstance(made, HiggsModel) else 12
        made.plan("Hello there. " * 60, reference=VOICE)
        repr(made), made.clone("Hello there.", seed=0, reference=VOICE, budget=few)._repr_html_()
    elif hasattr(made, "decode"):
        codes = made.encode(VOICE.audio)
        for some in (codes, codes[:, :1]): made.decode(some, **({"steps": 1} if isinstance(made, Glm4Voice) else {}))
