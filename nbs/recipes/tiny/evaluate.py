"""Measure a tiny model on voices and texts that it was never trained on; write the tables of its card.

    python evaluate.py                                  # all parts, for the model that ships
    python evaluate.py FOLDER --parts main --voices 40 --first-seed 80000000
    python evaluate.py --card ../../../voicelab/checkpoints/tiny/README.md      # put the tables into the card
    python evaluate.py --parts recordings --recordings FOLDER --sounds OUT      # WAVs, some with a TXT transcript; also saves the sounds
    python evaluate.py --parts words --whisper FOLDER --kokoro FOLDER           # folders that hearing.py and kokoro.py unpack

Voices are drawn from the recipe's voice space with seeds that no training step uses; the model speaks through the same
`clone` that users call, with the lab's defaults. Figures are means with 95 % bootstrap intervals over voices.

main        voice, content, nearest voice, endings, length, speed, and what a wrong reference or text costs in loss
arabic      bare against vocalised text, and references in the other language
ablations   the reference right, wrong, reversed, halved, absent, or with a wrong transcript
texts       texts of kinds that are rare in training or absent
turns       long texts whose chunks are shown none, one or two of those before them
words       what Whisper base understands: true speech, through the codec, clones; synthetic and human-like voices apart; in Arabic by letters
space       how different the voices of the recipe are, and how close to people's; needs no model
codec       the same as words without clones; with --recordings also the similarity of people through the codec
recordings  people: the codec's resynthesis and the clone; NAME_1 and NAME_2 are recordings of one person
speed       bytes, time to load, to the first sound, real-time factors, memory
"""
import argparse
import json
import platform
import re
import subprocess
import sys
import time
from copy import copy
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hearing import SENTENCES as HEARD_SENTENCES
from hearing import errors, heard, rate_interval
from measures import cepstral_distance, embed, interval, mean_interval, scale_interval
from speech import RATE, draw_text, draw_voice, say

import voicelab as vl
from voicelab.codec import STREAM_BOS, STREAM_EOS, delay
from voicelab.families.higgs.model import HiggsModel
from voicelab.text import TextError, strip_harakat

FIRST_SEED, TEXTS_A_VOICE = 70_000_000, 3
SENTENCES = Path(__file__).resolve().parents[3] / "data/arabic_sentences.txt"


def sound(voice: dict, text: str, accent: str | None = None) -> vl.Audio:
    "espeak-ng's own rendering of `text`."
    return vl.Audio(say(voice, text, accent)[0].astype(np.float32) / 32768, RATE)


def sentence(rng, fewest: int, most: int, language: str = "en") -> str:
    "Random words, written as a sentence."
    text = draw_text(rng, fewest, most, language)
    return text[0].upper() + text[1:] + "."


def reference_of(voice: dict, rng, name: str, language: str = "en") -> vl.Reference:
    "A reference of 4 to 7 words."
    said = sentence(rng, 4, 7, language)
    return vl.Reference(sound(voice, said, language == "ar" and "ar"), transcript=said, consent="synthetic", name=name)


class Speaker:
    "One held-out voice with its reference; all its draws come from its seed."
    accent = None                           # its own

    def __init__(self, seed: int):
        self.seed, self.rng = seed, np.random.default_rng(seed)
        self.voice = draw_voice(self.rng)
        self.reference = reference_of(self.voice, self.rng, f"voice{seed}")

    def true(self, text: str, accent: str | None = None) -> vl.Audio: return sound(self.voice, text, accent or self.accent)

    def in_arabic(self) -> "Speaker":
        "The same voice, which speaks Arabic from now on, with a reference in Arabic."
        other = copy(self)
        other.accent, other.reference = "ar", reference_of(self.voice, np.random.default_rng([self.seed, 1]), self.reference.name, "ar")
        return other


class Person(Speaker):
    "One held-out human-like voice, made of voices that no training hears, in a quiet room."
    def __init__(self, seed: int, kokoro, held: bool = True):
        from kokoro import draw_person
        self.seed, self.rng, self.kokoro = seed, np.random.default_rng(seed), kokoro
        self.voice = draw_person(self.rng, held) | dict(room=0.0, noise=0.0)
        said = sentence(self.rng, 4, 7)
        self.reference = vl.Reference(self.true(said), transcript=said, consent="synthetic", name=f"person{seed}")

    def true(self, text: str, accent: str | None = None) -> vl.Audio:
        return vl.Audio(self.kokoro.say(self.voice, text, self.seed)[0].astype(np.float32) / 32768, RATE)


class Bench:
    "A model with its held-out speakers, and the anchors that every table needs."
    def __init__(self, model: HiggsModel, speakers: list[Speaker]):
        self.model, self.speakers, self.others = model, speakers, speakers[7:] + speakers[:7]
        self.references = np.stack([embed(speaker.reference.audio) for speaker in speakers])

    def through_codec(self, audio: vl.Audio) -> vl.Audio: return self.model.codec.decode(self.model.codec.encode(audio))

    def clone(self, text, reference, seed): return self.model.clone(text, reference=reference, seed=seed)

    def clones(self, texts: list[str], references: list, seed: int, rows: int = 8, **options) -> list[vl.Generation]:
        "A clone of each text, `rows` at a time."
        return [gen for i in range(0, len(texts), rows)
                for gen in self.model.clone_batch(texts[i:i + rows], references=references[i:i + rows], seeds=seed, **options)]

    def cosines(self, sounds: list[list[vl.Audio]]) -> np.ndarray: # [speakers, texts, references]
        "Similarity of each sound, a row of them for each speaker, to all references."
        return np.stack([[self.references @ embed(audio) for audio in row] for row in sounds])

    def own(self, cosines: np.ndarray) -> np.ndarray: # [speakers, texts]
        return np.stack([row[:, i] for i, row in enumerate(cosines)])

    def apart(self, cosines: np.ndarray) -> np.ndarray: # [speakers, texts], mean over the other voices
        return np.stack([np.delete(row, i, 1).mean(1) for i, row in enumerate(cosines)])

    def nearest(self, cosines: np.ndarray) -> np.ndarray:
        return np.stack([row.argmax(1) == i for i, row in enumerate(cosines)])


def distances(true: list[list[vl.Audio]], sounds: list[list[vl.Audio]]) -> np.ndarray: # [speakers, texts]
    return np.array([[cepstral_distance(a, b) for a, b in zip(*rows)] for rows in zip(true, sounds)])


@torch.inference_mode()
def loss(model: HiggsModel, text: str, reference: vl.Reference, codes: torch.Tensor) -> float:
    "Mean cross entropy of codebook 0 of the true `codes` (and its end) after the prompt."
    prompt, columns = model.prompt(text, reference), delay(codes)
    ids = torch.cat([prompt.network_ids, torch.full((columns.shape[1],), prompt.audio_token_id)])
    audio = torch.cat([prompt.audio_columns, columns], 1).T
    out = model.network(input_ids=ids[None], audio_input_ids=audio[None], audio_input_ids_mask=torch.ones(1, len(audio), dtype=torch.bool))
    logits = out.logits[0, -columns.shape[1]:].view(columns.shape[1], len(columns), -1)[:-1, 0]
    true = columns[0, 1:]
    counted = (true != STREAM_BOS) & ~((true == STREAM_EOS) & (columns[0, :-1] == STREAM_EOS))
    return F.cross_entropy(logits[counted].float(), true[counted]).item()


def part_main(bench: Bench, args) -> dict:
    "The figures that the model was made for."
    texts = [[sentence(speaker.rng, *args.words) for _ in range(TEXTS_A_VOICE)] for speaker in bench.speakers]
    made = [[bench.clone(text, speaker.reference, i) for i, text in enumerate(row)] for speaker, row in zip(bench.speakers, texts)]
    true = [[speaker.true(text) for text in row] for speaker, row in zip(bench.speakers, texts)]
    ideal = [[bench.through_codec(audio) for audio in row] for row in true]
    other_sentence = [row[1:] + row[:1] for row in ideal]
    output, truth, best = (bench.cosines(sounds) for sounds in ([[gen.audio for gen in row] for row in made], true, ideal))
    away, far, near = (distances(true, sounds) for sounds in ([[gen.audio for gen in row] for row in made], other_sentence, ideal))
    frames = np.array([[gen.codes.shape[1] / (len(audio.samples) // bench.model.codec.hop) for gen, audio in zip(*rows)]
                       for rows in zip(made, true)])
    work, seconds = (np.array([[part(gen) for gen in row] for row in made])
                     for part in (lambda gen: gen.timings["total"], lambda gen: gen.audio.seconds))
    codes = [bench.model.codec.encode(row[0]) for row in true]
    right = np.array([loss(bench.model, text[0], s.reference, c) for s, text, c in zip(bench.speakers, texts, codes)])
    wrong_reference = [loss(bench.model, text[0], o.reference, c) for o, text, c in zip(bench.others, texts, codes)]
    wrong_text = [loss(bench.model, text[0], s.reference, c) for s, text, c in zip(bench.speakers, texts[7:] + texts[:7], codes)]
    resynthesis = bench.cosines([[bench.through_codec(speaker.reference.audio)] for speaker in bench.speakers])
    return {
        "**voice**, 0 another voice, 1 the codec": scale_interval(bench.own(output), bench.apart(output), bench.own(best)),
        "**nearest** voice is the reference's": mean_interval(bench.nearest(output)),
        "nearest, true utterance through the codec": mean_interval(bench.nearest(best)),
        "nearest, true utterance": mean_interval(bench.nearest(truth)),
        "**content**, 0 another sentence, 1 the codec": scale_interval(away, far, near),
        "**ended by itself**": mean_interval([[gen.stop_reason == "eos" for gen in row] for row in made]),
        "**real-time factor**": interval(lambda rows: work[rows].sum() / seconds[rows].sum(), len(work)),
        "length over the true one": mean_interval(frames),
        "similarity to the reference": mean_interval(bench.own(output)),
        "similarity to another voice (0 of voice)": mean_interval(bench.apart(output)),
        "similarity of the true utterance through the codec (1 of voice)": mean_interval(bench.own(best)),
        "similarity of the true utterance": mean_interval(bench.own(truth)),
        "similarity of the reference through the codec": mean_interval(bench.own(resynthesis)),
        "mel-cepstral distance / dB": mean_interval(away),
        "distance of another sentence through the codec (0 of content) / dB": mean_interval(far),
        "distance of the true utterance through the codec (1 of content) / dB": mean_interval(near),
        "loss of codebook 0 on the true utterance / nats": mean_interval(right),
        "rise with a wrong reference": mean_interval(wrong_reference - right),
        "rise with a wrong text": mean_interval(wrong_text - right),
    }


def content_scale(true: list[vl.Audio], other: list[vl.Audio], ideal: list[vl.Audio]):
    "A function from the sounds of one or two arms to content, or to what the second lost."
    column = lambda sounds: [[sound] for sound in sounds]
    away = lambda sounds: distances(column(true), column(sounds))
    far, near = away(other), away(ideal)
    def score(arm, less=None): return scale_interval(away(arm) if less is None else far + away(arm) - away(less), far, near)
    return score


def part_arabic(bench: Bench, args) -> dict:
    "Arabic with and without vowel marks, and references in the other language than the text."
    speakers, latin = bench.speakers, [speaker.reference for speaker in bench.speakers]
    arabic = [reference_of(speaker.voice, speaker.rng, speaker.reference.name, "ar") for speaker in speakers]
    said, other, english = ([sentence(speaker.rng, 3, 8, language) for speaker in speakers] for language in ("ar", "ar", "en"))
    written = (SENTENCES.read_text(encoding="utf-8").splitlines() * len(speakers))[:len(speakers)]
    speak = lambda texts, accent=None: [speaker.true(text, accent) for speaker, text in zip(speakers, texts)]
    codec = lambda sounds: [bench.through_codec(audio) for audio in sounds]
    clones = lambda texts, references, seed, **options: [gen.audio for gen in bench.clones(texts, references, seed, **options)]

    table, bare = {}, lambda texts: list(map(strip_harakat, texts))
    for name, texts, others in (("words of the training", said, other), ("sentences", written, written[1:] + written[:1])):
        true = speak(texts, "ar")
        score = content_scale(true, codec(speak(others, "ar")), codec(true))
        vocalised, marked, unmarked = (clones(given, arabic, 1, vowels=vowels) for given, vowels in
                                       ((texts, True), (bare(texts), True), (bare(texts), False)))
        table |= {
            f"{name}: content, vocalised": score(vocalised),
            f"{name}: content, bare": score(marked),
            f"{name}: content, vocalised less bare": score(vocalised, less=marked),
            f"{name}: content, bare, without the front end": score(unmarked),
            f"{name}: content, vocalised less bare, without the front end": score(vocalised, less=unmarked),
        }
        if texts is said: to_arabic, ideal = vocalised, codec(true)

    arabic_bench = copy(bench)
    arabic_bench.references = np.stack([embed(reference.audio) for reference in arabic])

    def voice(bench, sounds, best):
        output, best = (bench.cosines([[sound] for sound in each]) for each in (sounds, best))
        return scale_interval(bench.own(output), bench.apart(output), bench.own(best)), mean_interval(bench.nearest(output))

    from_latin, from_arabic = clones(said, latin, 2), clones(english, arabic, 2)
    for name, figures in (("Arabic reference, Arabic text", voice(arabic_bench, to_arabic, ideal)),
                          ("Arabic reference, English text", voice(arabic_bench, from_arabic, codec(speak(english)))),
                          ("English reference, Arabic text", voice(bench, from_latin, ideal))):
        table[f"voice, {name}"], table[f"nearest, {name}"] = figures
    return table


def halved(reference: vl.Reference) -> vl.Reference:
    "The first half of a reference, with the first half of its words."
    words, audio = reference.transcript.split(), reference.audio
    return replace(reference, audio=vl.Audio(audio.samples[:len(audio.samples) // 2], audio.rate),
                   transcript=" ".join(words[:max(1, len(words) // 2)]))


def part_ablations(bench: Bench, args) -> dict:
    "What the reference and its transcript do: the same texts and seeds in every arm."
    backwards = lambda reference: replace(reference, audio=vl.Audio(reference.audio.samples[::-1].copy(), reference.audio.rate))
    arms = {
        "right reference": lambda speaker, other: speaker.reference,
        "half of it": lambda speaker, other: halved(speaker.reference),
        "played backwards": lambda speaker, other: backwards(speaker.reference),
        "with a wrong transcript": lambda speaker, other: replace(speaker.reference, transcript=other.reference.transcript),
        "another speaker's": lambda speaker, other: other.reference,
        "none": lambda speaker, other: None,
    }
    texts = [sentence(speaker.rng, *args.words) for speaker in bench.speakers]
    true = [[speaker.true(text)] for speaker, text in zip(bench.speakers, texts)]
    ideal = [[bench.through_codec(row[0])] for row in true]
    other_text = [[bench.through_codec(speaker.true(sentence(speaker.rng, *args.words)))] for speaker in bench.speakers]
    best, far, near = bench.own(bench.cosines(ideal)), distances(true, other_text), distances(true, ideal)
    table, voices, contents = {}, {}, {}
    for arm, choose in arms.items():
        references = [choose(speaker, other) for speaker, other in zip(bench.speakers, bench.others)]
        made = [[gen.audio] for gen in bench.clones(texts, references, 5)]
        cosines = bench.cosines(made)
        voices[arm], contents[arm] = bench.own(cosines), distances(true, made)
        if arm == "right reference": apart = bench.apart(cosines)
        table[f"voice, {arm}"] = scale_interval(voices[arm], apart, best)
        table[f"content, {arm}"] = scale_interval(contents[arm], far, near)
    for arm in list(arms)[1:]:
        table[f"voice lost: {arm}"] = scale_interval(apart + voices["right reference"] - voices[arm], apart, best)
        table[f"content lost: {arm}"] = scale_interval(far + contents["right reference"] - contents[arm], far, near)
    return table


KINDS = {
    "digits": ["Room 25 is closed.", "She has 3 cats and 12 dogs.", "Call 5 people at 9.", "It costs 140 dollars."],
    "dates": ["It began on 4 May 1998.", "We met in 1975.", "The party is on June 21.", "He was born on 12/03/2001."],
    "abbreviations": ["Dr. Smith met Mr. Jones.", "It weighs 5 kg.", "See you at 8 a.m. on St. John Street.", "The USA and the UK agreed."],
    "one word": ["Yes.", "Garden.", "Tomorrow.", "Please."],
    "much punctuation": ["Wait... what?! No, really?", "(Well) - one, two; three: four!", "\"Stop,\" she said, \"now!\"", "Yes!!! Yes, yes... no?"],
}


def part_texts(bench: Bench, args) -> dict:
    "Texts of kinds that training barely had: whether they end, how long they are, how much content is left."
    few, table = bench.speakers[:10], {}
    kinds = KINDS | {"60 words": [" ".join(sentence(few[0].rng, 10, 10) for _ in range(6))]}
    for kind, texts in kinds.items():
        made = [bench.clones(texts, [speaker.reference] * len(texts), 3) for speaker in few]
        true = [[speaker.true(text) for text in texts] for speaker in few]
        ideal = [[bench.through_codec(audio) for audio in row] for row in true]
        other = [[bench.through_codec(speaker.true(sentence(speaker.rng, n := len(text.split()), n))) for text in texts] for speaker in few]
        sounds = [[gen.audio for gen in row] for row in made]
        table[f"{kind}: ended by itself"] = mean_interval([[gen.stop_reason == "eos" for gen in row] for row in made])
        table[f"{kind}: length over the true one"] = mean_interval(
            [[gen.audio.seconds / audio.seconds for gen, audio in zip(*rows)] for rows in zip(made, true)])
        table[f"{kind}: content"] = scale_interval(distances(true, sounds), distances(true, other), distances(true, ideal))
    try: bench.clone("?!... --- !!!", few[0].reference, 3)
    except TextError as error: table["punctuation only"] = f"refused: {error}"
    return table


def part_turns(bench: Bench, args) -> dict:
    "Six sentences of eight words, said in chunks of about six seconds: what showing earlier chunks again does to the later ones."
    few, table = bench.speakers[:10], {}
    texts, others = ([" ".join(sentence(speaker.rng, 8, 8) for _ in range(6)) for speaker in few] for _ in range(2))
    true = [[speaker.true(text)] for speaker, text in zip(few, texts)]
    ideal, other = ([[bench.through_codec(row[0])] for row in rows] for rows in (true, [[s.true(text)] for s, text in zip(few, others)]))
    best, far, near = bench.own(bench.cosines(ideal)), distances(true, other), distances(true, ideal)
    for turns in (0, 1, 2):
        made = bench.clones(texts, [speaker.reference for speaker in few], 3, turns=turns)
        cosines = bench.cosines([[gen.audio] for gen in made])
        ends = [bench.own(bench.cosines([[bench.model.codec.decode(gen.chunks[which].codes)] for gen in made])) for which in (-1, 0)]
        table |= {
            f"turns={turns}: chunks that ended by themselves": mean_interval([np.mean([c.stop_reason == "eos" for c in gen.chunks]) for gen in made]),
            f"turns={turns}: length over the true one": mean_interval([gen.audio.seconds / row[0].seconds for gen, row in zip(made, true)]),
            f"turns={turns}: voice": scale_interval(bench.own(cosines), bench.apart(cosines), best),
            f"turns={turns}: similarity of the last chunk less the first's": mean_interval(ends[0] - ends[1]),
            f"turns={turns}: content": scale_interval(distances(true, [[gen.audio] for gen in made]), far, near),
        }
    return table


def word_errors(bench: Bench, args, clones: bool) -> dict:
    "Word errors (in Arabic, errors of letters) and similarity, each with its ceiling: two sentences a voice, the same sentences in several voices."
    table, synthetic = {}, bench.speakers[:args.word_voices]
    kinds = {"synthetic": (synthetic, HEARD_SENTENCES, "en")}
    if args.kokoro:
        from kokoro import Kokoro
        kokoro = Kokoro(args.kokoro)
        kinds["human-like"] = [Person(args.first_seed + 5_000_000 + i, kokoro) for i in range(args.word_voices)], HEARD_SENTENCES, "en"
    kinds["Arabic"] = [speaker.in_arabic() for speaker in synthetic], SENTENCES.read_text(encoding="utf-8").splitlines(), "ar"
    for kind, (speakers, sentences, language) in kinds.items():
        written, rate = (letters, "character error rate") if language == "ar" else (str, "word error rate")
        pairs = [(i, (i + shift) % len(sentences)) for i in range(len(speakers)) for shift in (0, 5)]
        voices, texts = zip(*pairs)
        true = [speakers[i].true(sentences[j]) for i, j in pairs]
        arms = {"true speech": true, "through the codec": [bench.through_codec(audio) for audio in true]}
        if clones:
            made = [bench.clone(sentences[j], speakers[i].reference, 0) for i, j in pairs]
            arms["clone"] = [gen.audio for gen in made]
            table[f"{kind}: ended by itself"] = mean_interval([gen.stop_reason == "eos" for gen in made])
        counts = {arm: np.array([errors(written(sentences[j]), written(heard(args.whisper, audio, language))) for (_, j), audio in zip(pairs, sounds)])
                  for arm, sounds in arms.items()}
        for arm, before in zip(arms, [None, *arms]):
            table[f"{kind}: {rate}, {arm}"] = rate_interval(counts[arm], voices, texts)
            if before: table[f"{kind}: {rate}, {arm} less {before}"] = rate_interval(counts[arm], voices, texts, less=counts[before])
            table[f"{kind}: more than half wrong, {arm}"] = mean_interval(counts[arm][:, 0] > counts[arm][:, 1] / 2)
            near = [[embed(arms[arm][2 * i + n]) @ embed(speaker.reference.audio) for n in (0, 1)] for i, speaker in enumerate(speakers)]
            table[f"{kind}: similarity to the reference, {arm}"] = mean_interval(near)
    return table


def letters(text: str) -> str:
    "The letters one by one, without vowel marks, so that `errors` counts letters."
    return " ".join(re.sub(r"[\W\d_]", "", text))


def part_words(bench: Bench, args) -> dict:
    "What a recogniser understands of clones."
    return word_errors(bench, args, clones=True)


def part_codec(bench: Bench, args) -> dict:
    "What the codec does to words and voices, without the language model."
    table = word_errors(bench, args, clones=False)
    if args.recordings:
        people = {path.stem: vl.Reference(path, consent="test only").audio for path in sorted(Path(args.recordings).glob("*.wav"))}
        near = {name: float(embed(bench.through_codec(audio)) @ embed(audio)) for name, audio in people.items()}
        table |= {f"people: similarity of {name} through the codec": (value,) * 3 for name, value in near.items()}
        people = {person_of(name): [near[other] for other in near if person_of(other) == person_of(name)] for name in near}
        table[f"people: similarity through the codec, {len(near)} recordings of {len(people)}"] = mean_interval([np.mean(of) for of in people.values()])
    return table


def part_space(bench: Bench, args) -> dict:
    "How many voices each voice space holds, and how close to people it comes; needs no model."
    table, kinds = {}, {"synthetic": bench.speakers[:args.word_voices]}
    people = [embed(vl.Reference(path, consent="test only").audio) for path in sorted(Path(args.recordings).glob("*.wav"))] if args.recordings else []
    if args.kokoro:
        from kokoro import Kokoro
        kokoro = Kokoro(args.kokoro)
        kinds["human-like"] = [Person(args.first_seed + 5_000_000 + i, kokoro, held=False) for i in range(args.word_voices)]
    for kind, speakers in kinds.items():
        first, second = (np.stack([embed(audio) for audio in sounds]) for sounds in
                         ([s.reference.audio for s in speakers], [s.true(sentence(s.rng, 4, 7)) for s in speakers]))
        cosines = second @ first.T
        apart = np.array([np.delete(row, i) for i, row in enumerate(cosines)])
        table |= {f"{kind}: similarity of two utterances of one voice": mean_interval(np.diag(cosines)),
                  f"{kind}: similarity to another voice": mean_interval(apart.mean(1)),
                  f"{kind}: similarity to the likest of {len(speakers) - 1} others": mean_interval(apart.max(1)),
                  f"{kind}: the nearest of {len(speakers)} is the same voice": mean_interval(cosines.argmax(1) == np.arange(len(speakers)))}
        if people: table[f"{kind}: likest voice to each of {len(people)} recordings of people"] = mean_interval((np.stack(people) @ first.T).max(1))
    return table


def person_of(name: str) -> str:
    "The person in a recording: NAME_1 and NAME_2 are NAME's."
    return re.sub(r"_\d$", "", name)


def part_recordings(bench: Bench, args) -> dict:
    "Recordings of people that the model never heard."
    table, people = {}, {}
    for path in sorted(Path(args.recordings).glob("*.wav")):
        words = path.with_suffix(".txt")
        people[path.stem] = vl.Reference(path, transcript=words.read_text().strip() if words.exists() else None, consent="test only")
    voices = {name: embed(reference.audio) for name, reference in people.items()}
    person, found = {name: person_of(name) for name in people}, {}
    for name, reference in people.items():
        away = [voices[other] for other in voices if person[other] != person[name]]
        score = lambda audio: float(embed(audio) @ voices[name])
        table[f"{name}: another person's recording"] = mean_interval([voice @ voices[name] for voice in away])
        table[f"{name}: resynthesis by the codec"] = (score(bench.through_codec(reference.audio)),) * 3
        form = "assistant_ref" if reference.transcript else "system_ref"        # which needs no transcript
        made = [bench.model.clone("The garden is open today, bring two cups of coffee.", reference=reference, seed=seed,
                                  prompt_form=form).audio for seed in range(args.seeds)]
        table[f"{name}: clone ({args.seeds} seeds, {form})"] = mean_interval([score(audio) for audio in made])
        to = {other: [float(embed(audio) @ voices[other]) for audio in made] for other in voices}
        found[name] = [(max(to, key=lambda other: to[other][i]) == name, person[max(to, key=lambda other: to[other][i])] == person[name],
                        to[name][i] - max(to[other][i] for other in to if person[other] != person[name])) for i in range(len(made))]
        if args.sounds:
            for kind, audio in (("codec", bench.through_codec(reference.audio)), ("clone", made[0])):
                audio.save(Path(args.sounds) / f"{name}_{kind}.wav", {"ICMT": f"AI-generated (synthetic) speech: {kind} of the tiny model, after {name}"})
    by_person = {}
    for name, rows in found.items(): by_person.setdefault(person[name], []).extend(rows)
    means = np.array([np.mean(rows, 0) for rows in by_person.values()])                 # a person counts once
    for column, what in enumerate(("**nearest** recording is the reference", "nearest recording is of the same person",
                                   "similarity to the reference less that to the likest other person")):
        table[f"all {len(people)} recordings of {len(by_person)} people: {what}"] = mean_interval(means[:, column])
    return table


def part_speed(bench: Bench, args) -> dict:
    "Size and speed, in a process of its own."
    script = Path(__file__).with_name("speed.py")
    out = subprocess.run([sys.executable, script, args.folder], capture_output=True, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


PARTS = {name.removeprefix("part_"): part for name, part in list(globals().items()) if name.startswith("part_")}


def shown(value) -> str:
    "A table cell of a figure with its interval."
    if not isinstance(value, (tuple, list)): return f"{value} |"
    mean, low, high = value
    return f"{mean:.3f} | " + ("" if low == high == mean else f"{low:.3f} to {high:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="tiny")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[part for part in PARTS if part not in ("recordings", "words", "codec", "space")])
    parser.add_argument("--voices", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--words", type=int, nargs=2, default=(2, 12), metavar=("FEWEST", "MOST"))
    parser.add_argument("--recordings", help="folder of WAV files, with a TXT transcript beside those that have one")
    parser.add_argument("--seeds", type=int, default=5, help="clones of each recording")
    parser.add_argument("--whisper", help="folder of Whisper's weights, for the parts words and codec")
    parser.add_argument("--kokoro", help="folder of Kokoro's weights: human-like voices in those parts")
    parser.add_argument("--word-voices", type=int, default=24, help="voices of each kind in those parts")
    parser.add_argument("--sounds", help="folder for what the part recordings makes")
    parser.add_argument("--out", help="write the figures as JSON")
    parser.add_argument("--card", help="model card to put the tables into")
    args = parser.parse_args()
    if "recordings" in args.parts and not args.recordings: parser.error("--recordings: the part recordings needs a folder")
    for part in {"words", "codec"} & set(args.parts):
        if not args.whisper: parser.error(f"--whisper: the part {part} needs a folder")
    model = vl.load(args.folder)
    figures = {}
    for part in args.parts:                 # fresh speakers for each part: a part gives the same figures alone or with others
        began = time.time()
        bench = Bench(model, [Speaker(seed) for seed in range(args.first_seed, args.first_seed + args.voices)])
        figures[part] = PARTS[part](bench, args)
        voices = "" if part in ("recordings", "speed") else f" {args.voices} voices from seed {args.first_seed},"
        head = f"Version {model.info.version},{voices} {date.today()}, {platform.machine()} with " \
               f"{torch.get_num_threads()} threads, {time.time() - began:.0f} s: `python evaluate.py --parts {part}`"
        table = "\n".join([f"| {part} | " + ("median | least to greatest |" if part == "speed" else "figure | 95 % interval |"), "|---|---|---|",
                           *(f"| {name} | {shown(value)} |" for name, value in figures[part].items())])
        print(f"\n{head}\n\n{table}", flush=True)
        if args.card:
            card = Path(args.card).read_text()
            pattern = rf"(?<=<!-- {part} -->\n).*?(?=<!-- end -->)"
            if not re.search(pattern, card, re.S): raise SystemExit(f"--card: no place <!-- {part} --> ... <!-- end --> in {args.card}")
            Path(args.card).write_text(re.sub(pattern, lambda _: f"{head}\n\n{table}\n", card, count=1, flags=re.S))
    if args.out: Path(args.out).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__": main()
