"""The cases of a campaign (campaign.py), kind by kind: a writer that is killed, a sound file that was changed, a text, a set of options, a
checkpoint. A case is made from a random generator alone, works in an empty folder, tells what it does, and gives the outcome in a word or two;
a refusal is an outcome, any other error a fault."""
import io
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import hostile_checkpoints
import numpy as np
import soundfile
import torch
from conftest import random_network
from test_runs import CALLS, check_clean, check_whole, disturb, forked, recovered, sample, status_of, strict_lines
from test_vita_model import KINDS as VITA_KINDS
from test_vita_model import VOICE, Hum

from voicelab.audio import load_audio, read_info
from voicelab.budget import Budget
from voicelab.chat import Message, segment_spans
from voicelab.control import Control, Sampling
from voicelab.errors import VoicelabError
from voicelab.families.higgs.prompt import PROMPT_FORMS
from voicelab.families.higgs.tiny import build_tokenizer
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.families.vita.prompt import Persona
from voicelab.lab import load
from voicelab.reference import Reference, shipped_voices
from voicelab.runs import Run
from voicelab.settings import Settings
from voicelab.text import SPECIAL_TOKENS

class Kind(NamedTuple):
    "What there is to try."
    count: int              # of a whole campaign
    make: Callable          # (folder): what all cases share
    case: Callable          # (what they share, number, random generator, empty folder, tell): the outcome
    seconds: float = 300    # after which a case is late; a busy machine may keep it waiting for minutes


def refused(call):
    "What a call gives; None if it is refused."
    try: return call()
    except VoicelabError as error: check_line(error)


def check_line(error):
    "A refusal is one line of reasonable length, which a terminal can show."
    line = str(error)
    assert line.isprintable() and len(line) < 2_100, f"{type(error).__name__} is no line: {line[:300]!r}"


# ---- writers that are killed

SAMPLES, WRITERS = 3, 2


class Log:
    "What a writer has begun and what was acknowledged to it, on disk before it goes on."
    def __init__(self, path): self.path = path

    def say(self, *words):
        with open(self.path, "a") as file: file.write(json.dumps(words) + "\n")

    def said(self): return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


def write_samples(folder, log, names, looks, measured):
    "Save the samples that were not acknowledged yet; a writer that looks takes one that is there for its own."
    run, known = Run(folder), [words[1] for words in log.said() if words[0] == "done"]
    for name in names:
        if name in known: continue
        if looks:
            run.check_room()                            # publishes what was staged by one that died
            if found := [row["id"] for row in run.rows if row["speaker"] == name]: log.say("done", name, found[0]); continue
        log.say("begun", name)
        log.say("done", name, run.save(measured, speaker=name).row["id"])


def dying(rng, tell):
    "A death: before a system call, inside a write, or (then in seconds) at any moment."
    kind, at, share = rng.choice(("call", "write", "moment")), rng.randint(1, 60), rng.random()
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    def torn(write, fd, data): write(fd, data[:int(len(data) * share)]), die()
    patched = SimpleNamespace(setattr=setattr)
    if kind == "moment":
        seconds = 0.08 * share
        return tell(f"killed after {seconds:.3f} s") or (lambda: None, seconds)
    if kind == "call": return tell(f"killed before system call {at}") or (lambda: disturb(patched, at, die, (*CALLS, "unlink")), None)
    return tell(f"killed inside write {at % 16 + 1}, after {share:.0%}") or (lambda: disturb(patched, at % 16 + 1, torn, ["write"]), None)


def twice(rows, logs):
    """The names of samples that are there more than once; an AssertionError if one is lost, or is there more often than its writer has begun
    it. An acknowledged sample that nobody repeated is so there exactly once: a second one is always that of a save that a kill has cut off."""
    begun = Counter(words[1] for log in logs for words in log if words[0] == "begun")
    there, by_id = Counter(row["speaker"] for row in rows), {row["id"]: row["speaker"] for row in rows}
    for log in logs:
        for name, id in (words[1:] for words in log if words[0] == "done"):
            assert by_id.get(id) == name, f"{name} was acknowledged as {id} and is lost"
    for name, number in there.items(): assert number <= begun[name], f"{name} is there {number} times and was begun {begun[name]} times"
    return [name for name, number in there.items() if number > 1]


def kill_case(measured, number, rng, place, tell):
    "Two writers, of which one or both are killed up to three times and go on; every second pair looks before it repeats."
    folder, looks = place / "run", number % 2 == 1
    names = [[f"w{writer}s{n}" for n in range(SAMPLES)] for writer in range(WRITERS)]
    logs = [Log(place / f"{writer}.log") for writer in range(WRITERS)]
    Run(folder)
    for turn in range(rng.randint(1, 3)):
        deaths = [dying(rng, tell) if turn == 0 and writer == 0 or rng.random() < 0.4 else None for writer in range(WRITERS)]
        begin = lambda death, log, own: ((death or [lambda: None])[0](), write_samples(folder, log, own, looks, measured))
        pids = [forked(partial(begin, *each)) for each in zip(deaths, logs, names)]
        for pid, death in zip(pids, deaths):
            if death and death[1] is not None: time.sleep(death[1]), os.kill(pid, signal.SIGKILL)
        ends = [status_of(pid) for pid in pids]
        assert all(end == 0 or death and end == -signal.SIGKILL for end, death in zip(ends, deaths)), f"the writers ended with {ends}"
        check_whole(Run(folder))
    for log, own in zip(logs, names): write_samples(folder, log, own, looks, measured)
    rows = check_clean(recovered(folder))
    assert {row["speaker"] for row in rows} == {name for own in names for name in own}, "a sample was lost"
    again = twice(rows, [log.said() for log in logs])
    assert not (looks and again), f"{again}: there twice, though their writer looked"
    if looks: return "once, as the writer looked"
    return "once" if not again else "twice, as its save was cut off"


def make_measured(folder):
    "A generation with its report, so that writers need no torch."
    made = sample()
    made.report()
    return made


# ---- sound files

def make_sounds(folder):
    "The bytes of a second of speech in each format, with and without what files say about themselves."
    voice = shipped_voices()["ada"].audio.slice(0.5, 1.5)
    made, texts = {}, {"ICMT": "AI-generated (synthetic) speech; run sample 7", "INAM": "ü" * 40}
    for ending in ("wav", "flac", "ogg", "mp3"):
        made[f"{ending}"] = voice.save(folder / f"x.{ending}").read_bytes()
        made[f"{ending} with texts"] = voice.save(folder / f"x.{ending}", info=texts).read_bytes()
    made["wav of floats"] = voice.save(folder / "x.wav", exact=True).read_bytes()
    stereo = np.stack([voice.samples, -0.5 * voice.samples], 1)
    for name, form, kind, rate in (("wav", "WAV", "PCM_24", 44_100), ("wav", "WAV", "MS_ADPCM", 8_000),
                                   ("wav", "WAVEX", "DOUBLE", 48_000), ("wav", "RF64", "PCM_16", 16_000),
                                   ("flac", "FLAC", "PCM_24", 96_000), ("ogg", "OGG", "OPUS", 48_000), ("aiff", "AIFF", "PCM_16", 22_050)):
        file = io.BytesIO()
        soundfile.write(file, stereo, rate, format=form, subtype=kind)
        made[f"{name}: {form} {kind}"] = file.getvalue()
    return made


NUMBERS = (0, 1, 2, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def change_sound(rng, content, others):
    "One thing wrong with the bytes of a file, most often near its beginning; what was done, and the bytes."
    content = bytearray(content)
    at = rng.randrange(min(len(content), rng.choice((16, 64, 256, 4096, 1 << 30))) or 1)
    kind, length = rng.choice(("flip", "bits", "cut", "insert", "double", "number", "zero", "swap", "other", "tail")), rng.choice((1, 2, 4, 16, 300, 5000))
    if kind == "flip": content[at:at + length] = rng.randbytes(length)
    if kind == "bits" and at < len(content): content[at] ^= 1 << rng.randrange(8)
    if kind == "cut": del content[at:at + length if rng.random() < 0.5 else None]
    if kind == "insert": content[at:at] = rng.choice((rng.randbytes(length), bytes(length), b"RIFF", b"data", b"LIST", b"fLaC", b"OggS", b"ID3", b"\xff\xfb"))
    if kind == "double": content[at:at] = content[at:at + length]
    if kind == "number":
        size = rng.choice((2, 4, 8))
        content[at:at + size] = min(rng.choice(NUMBERS), 256**size - 1).to_bytes(size, rng.choice(("little", "big")))
    if kind == "zero": content[at:at + length] = bytes(length)
    if kind == "swap": content[at:at + length], content[:length] = content[:length], content[at:at + length]
    if kind == "other": content[at:] = rng.choice(others)[at:]
    if kind == "tail": content += rng.choice((bytes(length), rng.randbytes(length), rng.choice(others)))
    return f"{kind} {length} at {at}", bytes(content)


def file_case(sounds, number, rng, place, tell):
    "A sound file with one to three things wrong is read in every way, or refused in one line."
    name, content = rng.choice([*sounds.items()])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        done, content = change_sound(rng, content, [*sounds.values()])
        tell(done)
    ending = name[:4].strip(" :") if rng.random() < 0.9 else rng.choice(("wav", "mp3", "txt", "ogg"))
    path = place / f"x.{ending}"
    path.write_bytes(content)
    tell(f"{name} as .{ending}")
    info = refused(lambda: read_info(path))
    assert info is None or all(isinstance(word, str) for pair in info.items() for word in pair)
    audio = refused(lambda: load_audio(path, limit_seconds=rng.choice((0.3, 30.0, None))))
    reference = refused(lambda: Reference(path, transcript="What is said.", consent="synthetic"))
    if audio is None: return "refused"
    assert audio.samples.dtype == np.float32 and np.isfinite(audio.samples).all() and 8_000 <= audio.rate <= 192_000 and audio.seconds <= 7_200
    if audio.seconds < 60:
        assert load_audio(audio.save(place / "again.wav"), limit_seconds=None).rate == audio.rate
        if number % 10 == 0: assert "<" in audio._repr_html_()
    if reference is None: return "read, no reference"
    assert 0.5 <= reference.audio.seconds <= 30 and len(reference.sha256) == 64 and (number % 10 or reference._repr_html_())
    return "read"


# ---- texts

class Speakers(NamedTuple):
    "A tiny model of each family."
    higgs: object
    vita: object


def make_speakers(folder): return Speakers(load("tiny", device="cpu"), VitaModel(tiny_vita(VITA_KINDS[0], n_codes=2048), Hum()))


VITA_TOKENS = ("<|im_start|>", "<|im_end|>", "<|audio|>", "<|audio_0|>", "<|begin_of_audio|>", "<|end_of_audio|>",
               "<|context_of_audio|>", "<tool_call>", "</tool_call>")
PARTS = (slice(None), slice(2), slice(-1), slice(1, None), slice(-2, None))
SCRIPTS = ((0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x400, 0x500), (0x590, 0x600), (0x600, 0x700), (0x900, 0x980),
           (0xE00, 0xE80), (0x200B, 0x2070),
           (0x3040, 0x3100), (0x4E00, 0x9FA0), (0xAC00, 0xAD00), (0xFE00, 0xFE10), (0xFF00, 0xFFF0), (0x1F300, 0x1F700),
           (0xE0000, 0xE0080), (0, 0x20), (0x80, 0xA0))
MARKS = ("SPEAKER0", "[SPEAKER0]", "[SPEAKER1] ", "[SPEAKER99]", "[speaker 0]", "<SE>[Laughter]</SE>", "(cough)", "[music start]",
         "<|scene_desc_start|>", "assistant", "system\n\n",
         "<script>alert(1)</script>", "</td>", "&lt;", "**", "*", "_", "`", "# ", "[a](b)", "http://x.y/z?a=b", "a@b.c",
         "\\u003c", "%s", "{0}", "{}", "\x1b[2J", "\r\n", "\n\n\n",
         "1.5", "1,000,000", "3/4", "$5", "10 km/h", "-7 °C", "Dr. No", "e.g.", "U.S.", "...", "?!", "12:30", "1999-12-31",
         "ذَهَبْنَا", "﷽", "你好。", "हिन्दी", "🙂", "👩\u200d👩\u200d👧", "\u202e", "\ufeff")
SOUND_EVENTS = ("<SE>", "</SE>", "<SE_s>", "</SE_s>", "<SE_e>", "</SE_e>")
WORDS = "The garden is open today and my sister bought a small red boat when seven grey geese flew over".split()


def hostile_text(rng):
    "Words, control tokens whole and in parts, signs of every script, marks of all kinds; now and then very long, or empty."
    def piece():
        kind = rng.random()
        if kind < 0.3: return " ".join(rng.choices(WORDS, k=rng.randint(1, 8)))
        if kind < 0.6: return "".join(rng.choice(SPECIAL_TOKENS + VITA_TOKENS)[rng.choice(PARTS)] for _ in range(rng.randint(1, 3)))
        if kind < 0.8: return rng.choice(MARKS)
        if kind < 0.95: return "".join(chr(rng.randrange(*rng.choice(SCRIPTS))) for _ in range(rng.randint(1, 12)))
        return rng.choice((" ", "\n", ".", "a", "<|", "|>", "ا", "好", "\u0301", "🙂")) * rng.choice((3, 50, 500))
    if rng.random() < 0.02: return rng.choice(("", " ", "\n", chr(rng.randrange(0xD800, 0xE000)), piece() * 3_000))
    return "".join(piece() + rng.choice(("", " ", " ", ". ")) for _ in range(rng.randint(1, 10)))


def controls_of(prompt, tokenizer):
    "The control tokens of a prompt, counted; none may stand in what a user has written."
    known = set(tokenizer.get_added_vocab().values())
    for role, kind, span in segment_spans(prompt):
        found = known.intersection(prompt.ids[span].tolist()) if kind == "text" else ()
        assert not found, f"control tokens in the text of the {role}: {tokenizer.convert_ids_to_tokens([*found])}"
    return Counter(token for token in prompt.ids.tolist() if token in known)


def text_case(speakers, number, rng, place, tell):
    "Words from anywhere, in all places that take words: what steers the model is what harmless words give, and a page shows them as words."
    family = rng.choice(Speakers._fields)
    model, given = getattr(speakers, family), {}
    text, fields = hostile_text(rng), dict(transcript=("transcript", "consent", "name"), higgs=("scene", "system", "voice"), vita=("persona", "history"))
    for name in (*fields["transcript"], *fields[family]):
        if rng.random() < 0.4: given[name] = hostile_text(rng)
    options, spoken = dict(prompt_form=rng.choice(PROMPT_FORMS)) if family == "higgs" else {}, rng.random() < 0.5
    if spoken: given.pop("persona", None)               # which goes without a reference
    tell(f"{family}: text={text[:60]!r}, {', '.join(f'{name}={word[:40]!r}' for name, word in given.items())}")
    def prompted(text, given):
        about = {name: given[name] for name in fields["transcript"] if name in given}
        more = {name: given[name] for name in fields[family] if name in given} | options
        if "persona" in more: more["persona"] = Persona(more["persona"], "female")
        if "history" in more: more["history"] = [Message(role, more["history"]) for role in ("user", "assistant")]
        reference = Reference(VOICE.audio, **{"transcript": "What is said.", "consent": "synthetic"} | about) if spoken else None
        if family == "higgs": return model.prompt(text, reference=reference, **more)
        return model.prompt("clone" if spoken else "tts", text=text, reference=reference, **more)
    prompt = prompted(text, given)
    harmless = prompted("Hello there.", dict.fromkeys(given, "Hello there."))
    more = model.tokenizer.convert_ids_to_tokens([*(controls_of(prompt, model.tokenizer) - controls_of(harmless, model.tokenizer))])
    more = [token for token in more if token not in SOUND_EVENTS]       # which `(cough)` asks for
    assert not more, f"control tokens that harmless words do not have: {more}"
    assert "<script" not in prompt._repr_html_()
    plan = model.plan(text, **{name: given[name] for name in ("scene", "system") if name in given})
    for chunk in plan.chunks: controls_of(chunk.prompt, model.tokenizer)
    assert Run(place / "run").save_failure(text, text).row["text"] == text and strict_lines(Run(place / "run"))[0]["text"] == text
    return "taken"


# ---- options

HALF = "A quiet \ud83d room."                           # a lone surrogate
ALIENS = [None, "", " ", "word", HALF, "<|AUDIO|>", b"bytes", 0, 1, -1, True, False, 2**70, 10**400, 0.5, -0.0, float("nan"), float("inf"), 1j, [], {}, (),
          [[]], ["a", "b"], [None], {"a": 1}, {1, 2}, range(3), object, print, np.zeros(3), np.zeros((2, 3)), np.array(4), np.float32(0.5), np.array(["a"]),
          torch.zeros(2, 2), torch.tensor(1), torch.tensor(True), Path("no/such/file.wav"), Path("/"), "\0", Sampling(), Control(), iter(()), np.str_("greedy"),
          (np.zeros(30_000), 16_000), (np.zeros(30_000, np.float32), float("nan")), ("a", "b", "c"), Settings(), "x" * 60_000, VOICE, [VOICE, VOICE]]
BUDGET = dict(rule="mine", seconds=2.0, frames=50, columns=59, margin=None, clamped="", detail="by hand")
SHARED = ("reference", "seed", "budget", "sampling", "control", "settings")


def made_of(kind, rng):
    "A Sampling, Control or Budget with two alien fields, as a user would make it."
    alien = {name: rng.choice(ALIENS) for name in rng.sample([*kind.__dataclass_fields__], 2)}
    return kind(**(BUDGET if kind is Budget else {}) | alien)


def option_case(speakers, number, rng, place, tell):
    "A set of options, most of them of alien types: it is taken, or refused in one line."
    family = rng.choice(Speakers._fields)
    model = getattr(speakers, family)
    own = [name for name in type(model).session.options if name not in ("text", "task", "audio", *SHARED)]
    options = {name: rng.choice(ALIENS) for name in rng.sample([*SHARED, *own], rng.choice([1, 1, 1, 1, 2, 3]))}
    text, way = rng.choice([*["Hello there."] * 9, *ALIENS]), rng.choice(("plan", "plan", "plan", "made", "batch", "prompt", "budgets"))
    tell(f"{family}, {way}: {text!r:.50} {str(options):.300}")
    if way == "made":
        name, kind = rng.choice([("sampling", Sampling), ("control", Control), ("budget", Budget)])
        options[name] = made_of(kind, rng)
    if way == "prompt": model.clone_prompt(text, options.get("reference"), rng.choice(ALIENS))
    elif way == "budgets": model.budgets(text, None, rng.choice(ALIENS), rng.choice(ALIENS))
    elif way == "batch":
        model.clone_batch(rng.choice([text, [text], (text, "Ho.")]), references=options.pop("reference", None), seeds=options.pop("seed", None),
                          on_error=rng.choice(("raise", "row")), **options | dict(budget="none, so that nothing is made"))
    else: model.plan(text, **options)
    return "taken"


# ---- checkpoints

def make_checkpoints(folder):
    tokenizer = build_tokenizer()
    return hostile_checkpoints.make_bases(folder, random_network(tokenizer), tokenizer)


def checkpoint_case(bases, number, rng, place, tell):
    "A checkpoint with one thing wrong loads and speaks, or is refused."
    name, loader = [*hostile_checkpoints.LOADERS.items()][number % len(hostile_checkpoints.LOADERS)]
    folder = hostile_checkpoints.linked((bases / name).resolve(), place / "checkpoint")
    tell(f"{name}: {hostile_checkpoints.change_something(rng, folder)}")
    hostile_checkpoints.use(loader(folder))
    return "loads"


KINDS = {"kills": Kind(1_000, make_measured, kill_case), "files": Kind(10_000, make_sounds, file_case), "texts": Kind(3_000, make_speakers, text_case),
         "options": Kind(1_000, make_speakers, option_case), "checkpoints": Kind(1_000, make_checkpoints, checkpoint_case)}
