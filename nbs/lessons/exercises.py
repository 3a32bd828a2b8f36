"""The checks behind the exercises of the lessons: an answer goes in, a word on it comes back

Each check works its answer out from what the lesson has made. Reading on here spoils the exercises.
"""
import math
import unicodedata

import numpy as np
import torch

from voicelab.codec import delay
from voicelab.metrics import similarity
from voicelab.text import strip_harakat, weigh

def reply(answer, right: bool, think: str):
    "Say right, or what to think about next."
    print("Right." if right else f"Not yet. {think}")


def answered(answer, kind=object) -> bool:
    "Whether there is an answer to look at; says so if there is none, or none of the right kind."
    if answer is None or answer is Ellipsis: print("No answer yet: put yours in place of None, and run the cell again.")
    elif not isinstance(answer, kind) or isinstance(answer, bool):
        print(f"That is {type(answer).__name__}; the question asks for something else.")
    else: return True
    return False


# ---- first clone

def same_sample(again, clone):
    if not answered(again): return
    if again is clone: return print("Not yet. That is the old sample itself; make it anew.")
    if not hasattr(again, "codes"): return print("Not yet. It should be what `model.clone` gives.")
    thoughts = {"text": again.text == clone.text, "reference": getattr(again.reference, "sha256", None) == clone.reference.sha256,
                "seed": again.sampling.seed == clone.sampling.seed, "sampling or budget": (again.sampling, again.budget) == (clone.sampling, clone.budget)}
    differs = [name for name, same in thoughts.items() if not same]
    reply(again, torch.equal(again.codes, clone.codes), f"It differs in its {differs[0]}." if differs else "It differs in its prompt.")


def gain_of_reference(gain, to_ben):
    if not answered(gain, (int, float)): return
    means = to_ben.mean()
    think = "That is against Ada's." if abs(gain - (means["Ben"] - means["Ada"])) <= 0.011 else "Subtract two of the three means."
    reply(gain, abs(gain - (means["Ben"] - means["nobody"])) <= 0.011, think)


def wrong_transcript(mistaken, clone):
    if not answered(mistaken): return
    if getattr(mistaken, "reference", None) is None: return print("Not yet. It should be a clone with a reference.")
    if mistaken.reference.sha256 != clone.reference.sha256: return print("Not yet. Keep Ben's recording, and change only what is said to be said in it.")
    if mistaken.reference.transcript == clone.reference.transcript: return print("Not yet. The transcript is still the right one.")
    if mistaken.text != clone.text or mistaken.sampling.seed != clone.sampling.seed: return print("Not yet. Same text and seed, so that one thing differs.")
    values = [similarity(made.audio, clone.reference) for made in (clone, mistaken)]
    shown = ["not to be had" if measure.value is None else f"{measure.value:.2f}" for measure in values]
    print(f"Right. Similarity to Ben: {shown[0]} with the true transcript, {shown[1]} with the wrong one. One sample is no evidence: how would you find out?")


# ---- budgets

def longest_text(words):
    if not answered(words, int): return
    exact = (512 - 9) / 25 / 60 * 150
    if words == int(512 / 25 / 60 * 150): think = "Nearly: are all 512 columns sound?"
    elif abs(words - exact / 1.5) < 1: think = "That is with the margin of 1.5; leave it out."
    else: think = "Columns to frames, frames to seconds, seconds to words; only whole words count."
    reply(words, words == int(exact), think)


def least_margin(margin, taken):
    if not answered(margin, (int, float)): return
    ratio = (taken.seconds / taken.expected).max()
    right = abs(margin - math.ceil(ratio * 10) / 10) < 1e-6
    reply(margin, right, "One of the samples would be cut off." if margin < ratio else "None is cut off, but a smaller one would do.")
    if right: print("Four samples are few: the next may be slower, so a lab takes more than the largest it has seen.")


def one_second(control, run):
    if not answered(control): return
    frames = getattr(control, "silence_frames", None)
    if frames is None: return print("Not yet. It must be a vl.Control.")
    made = run()
    think = (f"The sample stopped by {made.stop_reason}." if made.stop_reason != "silence" else
             f"It struck after {frames} silent frames; how many are a second?")
    reply(control, made.stop_reason == "silence" and frames == 25, think)


# ---- the chat prompt

def counted_columns(columns, model):
    if not answered(columns, int): return
    books, frames = model.codec.n_codebooks, round(4 * model.codec.frame_rate)
    think = {frames: "Those are the frames of one of them.", 2 * frames: "Those are the frames; what does each codebook add at its ends?",
             frames + 1 + books: "That is one of them."}.get(columns, "25 frames a second, and F + 9 columns for F frames.")
    reply(columns, columns == 2 * (frames + 1 + books), think)


def nearest_form(form):
    if answered(form, str): reply(form, form == "system_ref", "Which row of the table names no transcript?")


def two_voices(prompt, ben, ada, model):
    if not answered(prompt): return
    if not hasattr(prompt, "codes"): return print("Not yet. It must be a prompt, as model.prompt(...) gives it.")
    wanted = [model.encode(voice) for voice in (ben, ada)]
    right = len(prompt.codes) == 2 and all(map(torch.equal, prompt.codes, wanted))
    think = "In the system message, please: which form is that?" if right else "Both recordings, as a list, the first one is SPEAKER0."
    reply(prompt, right and prompt.form == "system_ref", think)


# ---- sound to tokens

def reference_columns(positions):
    if not answered(positions, int): return
    thoughts = {250: "Those are its frames. What does the delay add?", 257: "And the columns of begin and end?",
                252: "Begin and end are there; and the staircase?", 2000: "The eight codes of a column share one position."}
    reply(positions, positions == 259, thoughts.get(positions, "Seconds to frames; then the columns that are no frames."))


def frames_of_a_cut(frames):
    if not answered(frames, int): return
    thoughts = {60: "Is every column a whole frame?", 59: "The begin column is off; and the staircase?",
                51: "There is no end column here: it was cut off before."}
    reply(frames, frames == 52, thoughts.get(frames, "In which column does the last code of frame 0 stand?"))


def straighten(written, clips):
    for codes in clips:
        made = written(delay(codes))
        if made is None:
            answered(None)
            return
        if not isinstance(made, torch.Tensor): return print("Not yet. It should give a tensor; torch.stack joins rows.")
        if made.shape != codes.shape:
            return print(f"Not yet. The shape should be {list(codes.shape)}, it is {list(made.shape)}. Where does row k begin, and how many frames are there?")
        if not torch.equal(made, codes): return print("Not yet. The shape is right, but the rows do not stand where they should.")
    print("Right.")


# ---- measuring

def supported(letters, table):
    if not answered(letters, (set, list, tuple, str)): return
    given, true = {str(letter).upper() for letter in letters if str(letter).isalpha()}, {"A", "B"} & {letter for letter, left_out in zip("AB", table["leaves out 0"]) if left_out}
    thoughts = {"A": "Look again at the first row of the table.", "B": "Does the interval of the second row hold 0?",
                "C": "Which of the measures has listened to words?", "D": "How many voices were cloned here?"}
    wrong = sorted(given ^ true)
    reply(letters, not wrong, thoughts.get(wrong[0] if wrong else "", "The letters are A to D."))


def pairs_for_half(pairs, now):
    if not answered(pairs, (int, float)): return
    think = "A mean gets steadier with the square root of their number." if pairs == 2 * now else "How does the width of an interval depend on the number of pairs?"
    if pairs == 4: think = "That is how many times as many; how many are that?"
    reply(pairs, abs(pairs - 4 * now) <= 1, think)


def placed(written):
    if written(0.8, 0.7, 0.9) is None:
        answered(None)
        return
    tries = {(0.7, 0.7, 0.9): 0.0, (0.9, 0.7, 0.9): 1.0, (0.8, 0.7, 0.9): 0.5, (0.5, 0.7, 0.9): -1.0, (0.95, 0.7, 0.9): 1.25}
    for given, wanted in tries.items():
        if not np.isclose(written(*given), wanted):
            return print("Not yet. With value {:g}, floor {:g} and ceiling {:g} it gives".format(*given), f"{written(*given):g}.",
                         "Don't hide what lies outside: a clone worse than a stranger is worth knowing." if not 0 <= wanted <= 1 else "")
    print("Right.")


# ---- Arabic

def unmarked(written):
    for text in ("كَتَبَ", "أُخْتِي تُغَنِّي فِي الصَّبَاحِ.", "الْقُرْآنُ، سَأَلَ إِنْسَانٌ؟", unicodedata.normalize("NFD", "أَكَلَ الْآنَ"), "plain text, 42"):
        made, wanted = written(text), strip_harakat(text)
        if made is None:
            answered(None)
            return
        if made == wanted: continue
        kept = [char for char in str(made) if char not in wanted]
        think = (f"{len(kept)} marks are still there, the first is U+{ord(kept[0]):04X}." if kept else
                 "Something is gone that belongs to a letter: perhaps a hamza or madda written as a mark of its own?")
        return print(f"Not yet. {text} should become {wanted}. {think}")
    print("Right.")


def longest_word(answer, words):
    if not answered(answer, str): return
    weights = {name: weigh(word) for name, word in words.items()}
    top = [name for name, weight in weights.items() if weight == max(weights.values())]
    wanted = "equal" if len(top) == len(words) else top[0]
    reply(answer, answer.strip().lower() == wanted.lower(), "What is heard of a tatweel, and of a vowel that every reader adds anyway?")


def lost_in_english(lost, means):
    if not answered(lost, (int, float)): return
    true = means.loc["noor", ("noor", "Arabic")] - means.loc["noor", ("noor", "English")]
    right = abs(lost - true) <= 0.011
    think = "Only the sign is off: lost is Arabic less English." if abs(lost + true) <= 0.011 else "Take the row of Noor's reference, and the columns that compare with Noor."
    reply(lost, right, think)
    if right: print("One experiment: true recordings of people who speak both languages, compared across them. What they lose, the measure loses.")


# ---- the released checkpoints

def original_name(name):
    if not answered(name, str): return
    think = "That one is in transformers' format." if name == "higgs-v2" else "Look at the table of known models, and at the revision in its column `source`."
    reply(name, name == "higgs-v2-original", think)


def memory_needed(given, exact):
    if not answered(given, (int, float)): return
    right = abs(given - exact) <= 0.051 + 1e-9
    think = "Not four bytes a weight: bfloat16 has two." if abs(given - 2 * exact) < 1 else "Weights times bytes, and the keys and values; `gigabytes` of section 2 does both."
    reply(given, right, think)
    if right: print("The codec and torch itself come on top: with 12 GB it would be tight at best.")


def eight_bits(times, step_bytes):
    if not answered(times, (int, float)): return
    exact = 1.0e12 / (step_bytes / 2) / 25
    if abs(times - exact / 2) < 1: think = "That is the bound for 16 bits."
    elif abs(times - exact * 25) < 25: think = "Those are columns a second; how many make a second of sound?"
    else: think = "What does a step read, and how many steps are a second?"
    reply(times, abs(times - exact) <= 0.05 * exact, think)
