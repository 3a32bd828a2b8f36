"""What does the watermark change, what does it survive, and how often is it found where there is none?

    python nbs/recipes/benchmark_watermark.py                               # the tiny model's clones, the shipped voices, made sounds
    python nbs/recipes/benchmark_watermark.py --recordings DIR --recogniser whisper-base --mos
    python nbs/recipes/benchmark_watermark.py --only-measures --seeds 5 --recogniser whisper-base --mos       # the measures of more clones

`DIR` has recordings of people (WAV), read and never written. Where espeak-ng is installed, all its voices say a sentence, too. Prints the tables of
nbs/10_watermark.ipynb. Each damage is done to sounds with and without the watermark: the confidence without it shows the false alarms.
"""
import argparse
import shutil
import subprocess
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import voicelab as vl
import voicelab.watermark as watermark
from voicelab.audio import Audio, decibels
from voicelab.corrupt import DAMAGES, codec_damage, louder
from voicelab.reference import Reference, shipped_voices
from voicelab.threads import using_threads

TEXTS = ("The garden is open today.", "Eleven bells rang over the quiet town before the market began.")
SENTENCE = "One two three four five. The sun and the moon, radio and music, 1 2 3 4 5 6 7."


def saved(audio: Audio, ending: str) -> Audio:
    "A sound as a file of a format, read back."
    with tempfile.TemporaryDirectory() as folder:
        return vl.load_audio(audio.save(Path(folder, f"sound.{ending}")), limit_seconds=None)


def at_speed(audio: Audio, factor: float) -> Audio:
    "A sound that is played faster, so that its pitch rises, too."
    return replace(replace(audio, rate=round(audio.rate * factor)).resample(audio.rate), rate=audio.rate)


def part(audio: Audio, begin: float, end: float) -> Audio: # shares of its length
    return audio.slice(begin * audio.seconds, end * audio.seconds)


def beside(audio: Audio, others: int) -> Audio: # others: how many times as long as the sound the unmarked one after it is
    "A sound with an unmarked one after it: itself, backwards."
    back = replace(audio, samples=audio.samples[::-1].copy())
    return Audio.join([audio] + [back] * others)


def damages(codec) -> dict:
    "What may happen to a file, by name."
    ways = {"nothing": lambda audio: audio}
    ways |= {f"as {ending.upper()}": lambda audio, ending=ending: saved(audio, ending) for ending in ("wav", "flac", "ogg", "mp3")}
    ways |= {f"at {rate} Hz and back": lambda audio, rate=rate: audio.resample(rate).resample(audio.rate) for rate in (8000, 16000, 44100)}
    parts = {"first half": (0, 0.5), "second half": (0.5, 1), "middle fifth": (0.4, 0.6)}
    ways |= {name: lambda audio, ends=ends: part(audio, *ends) for name, ends in parts.items()}
    ways |= {f"{factor:g} times as fast": lambda audio, factor=factor: at_speed(audio, factor) for factor in (0.9, 1.02, 1.1)}
    ways |= {f"level {gain:+d} dB": lambda audio, gain=gain: louder(audio, gain) for gain in (-40, -20, 6)}
    for damage in (*DAMAGES.values(), codec_damage(codec)):
        for step in damage.steps:
            if damage.name != "level": ways[f"{damage.name} {step:g} {damage.unit}"] = lambda audio, damage=damage, step=step: damage.make(audio, step)
    return ways


def confidence(audio: Audio) -> float:
    found = watermark.confidence_in(audio)
    return 0.0 if found is None else found


def survival(plain: list[Audio], made: list[Audio], ways: dict) -> pd.DataFrame:
    "Confidences with and without the watermark after each damage."
    rows = []
    for name, damage in ways.items():
        found = np.array([[confidence(damage(sound)) for sound in sounds] for sounds in (made, plain)])
        rows.append({"damage": name, "found": f"{(found[0] >= watermark.THRESHOLD).sum()} of {len(made)}", "lowest": found[0].min(),
                     "false alarms": f"{(found[1] >= watermark.THRESHOLD).sum()} of {len(plain)}", "highest without": found[1].max()})
    return pd.DataFrame(rows)


def spoken_by_espeak() -> list[Audio]:
    "A sentence by each voice of espeak-ng; none if it is not installed."
    if shutil.which("espeak-ng") is None: return []
    lines = subprocess.run(["espeak-ng", "--voices"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for voice in [line.split()[1] for line in lines]:
            path = Path(folder, "said.wav")
            done = subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), SENTENCE], capture_output=True)
            if not done.returncode and path.stat().st_size > 20_000: made.append(vl.load_audio(path, limit_seconds=None))
    return made


def made_sounds() -> dict[str, list[Audio]]:
    "Sounds that nobody speaks, by kind."
    seconds, rate, random = 3, 24_000, np.random.default_rng(0)
    time_of = np.arange(seconds * rate) / rate
    sound = lambda samples, level=-20.0: louder(Audio(np.float32(samples / np.abs(samples).max()), rate), level)
    def noise(slope):
        spectrum = np.fft.rfft(random.normal(size=len(time_of)))
        return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** slope)
    tones, roots = (50, 100, 200, 400, 800, 1600, 3200, 6400), (110, 147, 196, 262, 330, 440)
    wave = lambda hertz: np.sin(2 * np.pi * hertz * time_of)
    return {"noise (white, pink, brown)": [sound(noise(slope), level) for slope in (0, 0.5, 1) for level in (-40, -20, -6) for _ in range(4)],
            "one steady tone": [sound(wave(hertz), level) for hertz in tones for level in (-40, -20, -6)],
            "chords of steady tones": [sound(sum(wave(root * ratio) for ratio in (1, 1.26, 1.5, 2))) for root in roots],
            "rising tones": [sound(np.sin(2 * np.pi * (100 * time_of + top * time_of**2))) for top in (50, 200, 1000)],
            "clicks": [sound((np.arange(len(time_of)) % (rate // each) == 0) * 1.0) for each in (2, 10, 50, 100)]}


def false_alarms(kinds: dict[str, list[Audio]]) -> pd.DataFrame:
    "How sure the detector is of sounds without a watermark."
    rows = []
    for kind, sounds in kinds.items():
        found = np.array([confidence(sound) for sound in sounds])
        row = {"sounds without a watermark": kind, "number": len(sounds), "seconds": sum(each.seconds for each in sounds)}
        row |= {f"from {level:g}": int((found >= level).sum()) for level in (0.5, watermark.THRESHOLD)}
        rows.append(row | {"highest": found.max(initial=0)})
    return pd.DataFrame(rows)


def stretches(sounds: list[Audio], seconds: float) -> list[Audio]:
    "The sounds in stretches of one length, silent ones left out."
    cut = [sound.slice(start, start + seconds) for sound in sounds for start in np.arange(0, sound.seconds - seconds, seconds)]
    return [each for each in cut if each.loudest_db > watermark.QUIETEST_DB]


def limits(sounds: list[Audio], marked: list[Audio]) -> tuple[pd.DataFrame, pd.DataFrame]:
    "How short, and how quiet, a sound may be."
    rows = []
    for seconds in (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5):
        starts = [0.5 * (sound.seconds - seconds) for sound in sounds]
        cut = [[sound.slice(start, start + seconds) for sound, start in zip(those, starts)] for those in (sounds, marked)]
        own = [confidence(replace(each, samples=each.samples + watermark.added_to(each))) for each in cut[0]]
        later, none = ([confidence(each) for each in those] for those in (cut[1], cut[0]))
        count = lambda found: f"{sum(each >= watermark.THRESHOLD for each in found)} of {len(found)}"
        rows.append({"seconds": seconds, "put into the cut": count(own), "cut afterwards": count(later), "false alarms": count(none)})
    quiet = []
    for level in (-80, -70, -60, -50, -40, -30):
        soft = [louder(sound, level - sound.loudest_db) for sound in sounds]
        found = [confidence(saved(replace(each, samples=each.samples + watermark.added_to(each)), "wav")) for each in soft]
        quiet.append({"loudest 20 ms (dBFS)": level, "found after 16 bits": count(found), "lowest": min(found)})
    return pd.DataFrame(rows), pd.DataFrame(quiet)


def effects(cases: list[tuple], recogniser: str | None, mos: bool) -> pd.DataFrame: # cases: sound, marked, text, reference
    "Measures with and without the watermark."
    from voicelab.metrics import measure
    names = ["similarity"] + ["wer"] * bool(recogniser) + ["mos"] * mos
    more = dict(recogniser=recogniser) if recogniser else {}
    rows = []
    for sound, marked, text, reference in cases:
        found = [measure(each, text=text, reference=reference, metrics=names, **more) for each in (sound, marked)]
        rows.append({name: [each[name].value for each in found] for name in names})
    table = []
    for name in names:
        pairs = np.array([row[name] for row in rows if None not in row[name]], dtype=float)
        change = pairs[:, 1] - pairs[:, 0]
        table.append({"measure": name, "samples": len(pairs), "without": pairs[:, 0].mean(), "with": pairs[:, 1].mean(), "mean change": change.mean(),
                      "lowest": change.min(), "highest": change.max()})
    return pd.DataFrame(table)


def cost(sounds: list[Audio]) -> pd.DataFrame:
    "Seconds of one core for a second of sound."
    seconds, taken = sum(each.seconds for each in sounds), {}
    for name, does in (("putting it in", watermark.added_to), ("looking for it", watermark.confidence_in)):
        begun = time.process_time()
        for each in sounds: does(each)
        taken[name] = (time.process_time() - begun) / seconds
    return pd.DataFrame([taken])


def show(title: str, table: pd.DataFrame): print(f"\n{title}\n{table.to_string(index=False, float_format='{:.3f}'.format)}", flush=True)


def show_sounds(plain: list[Audio], marked: list[Audio], people: list[Audio], clones: list[tuple], voices: dict, model):
    "What the watermark costs and survives, and where it is found though it is not there."
    show("cost (s)", cost(plain))
    short, quiet = limits([each for each in plain if each.seconds > 1.6], [each for each in marked if each.seconds > 1.6])
    show("how short", short)
    show("how quiet", quiet)
    show("without a watermark", false_alarms({
        "shipped voices": [voice.audio for voice in voices.values()], "clones": [sound for sound, *_ in clones],
        "espeak-ng, its voices": spoken_by_espeak(), "recordings of people": people, "the same, stretches of 3 s": stretches(people, 3.0),
        "the same, stretches of 1 s": stretches(people, 1.0), "the same, stretches of 0.5 s": stretches(people, 0.5)} | made_sounds()))
    ways = damages(model.codec) | {"beside as much unmarked": lambda audio: beside(audio, 1), "beside three times as much": lambda audio: beside(audio, 3)}
    show("damages", survival(plain, marked, ways))


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", metavar="DIR", help="recordings of people, NAME.wav and NAME.txt with its transcript")
    parser.add_argument("--recogniser", metavar="NAME", help="count wrong words with this one")
    parser.add_argument("--mos", action="store_true", help="predict opinion scores, too")
    parser.add_argument("--seeds", type=int, default=1, help="of the clones, for each voice and text (default: 1)")
    parser.add_argument("--only-measures", action="store_true", help="only what the watermark changes in measures")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    model, voices = vl.load("tiny"), shipped_voices()
    clones = [(model.clone(text, reference=voice, seed=seed).audio, text, voice) for voice in voices.values() for text in TEXTS for seed in range(args.seeds)
              if voice.name != "noor"]
    paths = sorted(Path(args.recordings).glob("*.wav")) if args.recordings else []
    people = [vl.load_audio(path, limit_seconds=None) for path in paths]
    plain = [sound for sound, *_ in clones] + [voice.audio for voice in voices.values()] + people
    with using_threads(1):
        marked = [replace(sound, samples=sound.samples + watermark.added_to(sound)) for sound in plain]
        print(f"{watermark.watermark_maker()}, threshold {watermark.THRESHOLD}: {len(clones)} clones, {len(voices)} shipped voices, {len(people)} recordings")
        change = [sound.rms_db - decibels(float(np.sqrt(np.mean(np.square(made.samples - sound.samples))))) for sound, made in zip(plain, marked)]
        print(f"the change lies {np.mean(change):.1f} dB below the speech ({min(change):.1f} to {max(change):.1f})")
        if not args.only_measures: show_sounds(plain, marked, people, clones, voices, model)
    known = [(sound, text, Reference(path, transcript=text, consent="for a measurement", remarks=())) for path, sound in zip(paths, people)
             if path.with_suffix(".txt").exists() and (text := path.with_suffix(".txt").read_text("utf-8").strip())]
    for title, cases in (("clones", clones), ("people, beside their own recording", known)):
        if not cases: continue
        pairs = [(sound, marked[next(n for n, each in enumerate(plain) if each is sound)], text, reference) for sound, text, reference in cases]
        show(f"measures: {title}", effects(pairs, args.recogniser, args.mos))


if __name__ == "__main__": main()
