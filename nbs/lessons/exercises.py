"""The checks of the lessons' exercises: each takes an answer, and prints whether it is right or gives a hint

Each check computes its solution from what the lesson has made. The code below gives away the answers.
"""
import math
import unicodedata

import numpy as np
import torch

from voicelab.codec import delay
from voicelab.intervals import share_interval
from voicelab.metrics import similarity
from voicelab.text import strip_harakat, weigh

def reply(answer, right: bool, think: str):
    "Print that the answer is right, or a hint."
    print("Right." if right else f"Not yet. {think}")


def answered(answer, kind=object) -> bool:
    "Whether there is an answer of the right type; if not, prints what is wrong."
    if answer is None or answer is Ellipsis: print("No answer yet: write yours in place of None, and run the cell again.")
    elif not isinstance(answer, kind) or isinstance(answer, bool):
        print(f"That is of type {type(answer).__name__}; the question asks for another type.")
    else: return True
    return False


# ---- first clone

def same_sample(again, clone):
    if not answered(again): return
    if again is clone: return print("Not yet. That is the old sample itself; make a new one.")
    if not hasattr(again, "codes"): return print("Not yet. It should be what `model.clone` returns.")
    thoughts = {"text": again.text == clone.text, "reference": getattr(again.reference, "sha256", None) == clone.reference.sha256,
                "seed": again.sampling.seed == clone.sampling.seed, "sampling or budget": (again.sampling, again.budget) == (clone.sampling, clone.budget)}
    differs = [name for name, same in thoughts.items() if not same]
    reply(again, torch.equal(again.codes, clone.codes), f"It differs in its {differs[0]}." if differs else "It differs in its prompt.")


def gain_of_reference(gain, to_ben):
    if not answered(gain, (int, float)): return
    means = to_ben.mean()
    think = "That is the difference from Ada's reference." if abs(gain - (means["Ben"] - means["Ada"])) <= 0.011 else "Subtract two of the three means."
    reply(gain, abs(gain - (means["Ben"] - means["nobody"])) <= 0.011, think)


def wrong_transcript(mistaken, clone):
    if not answered(mistaken): return
    if getattr(mistaken, "reference", None) is None: return print("Not yet. It should be a clone with a reference.")
    if mistaken.reference.sha256 != clone.reference.sha256: return print("Not yet. Keep Ben's recording, and change only its transcript.")
    if mistaken.reference.transcript == clone.reference.transcript: return print("Not yet. The transcript is still the right one.")
    if mistaken.text != clone.text or mistaken.sampling.seed != clone.sampling.seed: return print("Not yet. Same text and seed, so that one thing differs.")
    values = [similarity(made.audio, clone.reference) for made in (clone, mistaken)]
    shown = ["no value" if measure.value is None else f"{measure.value:.2f}" for measure in values]
    print(f"Right. Similarity to Ben: {shown[0]} with the true transcript, {shown[1]} with the wrong one. One sample is no evidence: how would you find out?")


# ---- budgets

def longest_text(words):
    if not answered(words, int): return
    exact = (512 - 9) / 25 / 60 * 150
    if words == int(512 / 25 / 60 * 150): think = "Nearly: are all 512 columns sound?"
    elif abs(words - exact / 1.5) < 1: think = "That includes the margin of 1.5; leave it out."
    else: think = "Convert columns to frames, frames to seconds, seconds to words; count whole words only."
    reply(words, words == int(exact), think)


def least_margin(margin, taken):
    if not answered(margin, (int, float)): return
    ratio = (taken.seconds / taken.expected).max()
    right = abs(margin - math.ceil(ratio * 10) / 10) < 1e-6
    reply(margin, right, "One of the samples would be cut off." if margin < ratio else "None is cut off, but a smaller margin is enough.")
    if right: print("Four samples are few, and the next may be slower. So choose a larger margin than the largest that you have seen.")


def one_second(control, run):
    if not answered(control): return
    frames = getattr(control, "silence_frames", None)
    if frames is None: return print("Not yet. It must be a vl.Control.")
    made = run()
    think = (f"The sample stopped by {made.stop_reason}." if made.stop_reason != "silence" else
             f"It stopped after {frames} silent frames; how many frames are a second?")
    reply(control, made.stop_reason == "silence" and frames == 25, think)


# ---- the chat prompt

def counted_columns(columns, model):
    if not answered(columns, int): return
    books, frames = model.codec.n_codebooks, round(4 * model.codec.frame_rate)
    think = {frames: "Those are the frames of one copy.", 2 * frames: "Those are the frames; which columns are added to them?",
             frames + 1 + books: "That is one of the two copies."}.get(columns, "There are 25 frames a second, and F + 9 columns for F frames.")
    reply(columns, columns == 2 * (frames + 1 + books), think)


def nearest_form(form):
    if answered(form, str): reply(form, form == "system_ref", "Which row of the table has no transcript?")


def two_voices(prompt, ben, ada, model):
    if not answered(prompt): return
    if not hasattr(prompt, "codes"): return print("Not yet. It must be a prompt, as model.prompt(...) returns it.")
    wanted = [model.encode(voice) for voice in (ben, ada)]
    right = len(prompt.codes) == 2 and all(map(torch.equal, prompt.codes, wanted))
    think = "Which form puts them into the system message?" if right else "Give both recordings as a list; the first one is SPEAKER0."
    reply(prompt, right and prompt.form == "system_ref", think)


# ---- sound to tokens

def reference_columns(positions):
    if not answered(positions, int): return
    thoughts = {250: "Those are its frames. What does the delay add?", 257: "What about the columns for begin and end?",
                252: "That includes begin and end. What does the delay add?", 2000: "The eight codes of a column share one position."}
    reply(positions, positions == 259, thoughts.get(positions, "Convert seconds to frames; then add the columns that are not frames."))


def frames_of_a_cut(frames):
    if not answered(frames, int): return
    thoughts = {60: "Is every column a whole frame?", 59: "That leaves out the begin column. What does the delay take?",
                51: "There is no end column here: the sample was cut off before it."}
    reply(frames, frames == 52, thoughts.get(frames, "In which column is the last code of frame 0?"))


def straighten(written, clips):
    for codes in clips:
        made = written(delay(codes))
        if made is None:
            answered(None)
            return
        if not isinstance(made, torch.Tensor): return print("Not yet. It should return a tensor; torch.stack joins rows.")
        if made.shape != codes.shape:
            return print(f"Not yet. The shape should be {list(codes.shape)}, it is {list(made.shape)}. Where does row k begin, and how many frames are there?")
        if not torch.equal(made, codes): return print("Not yet. The shape is right, but the rows are shifted by a wrong number of columns.")
    print("Right.")


# ---- measuring

def supported(letters, table):
    if not answered(letters, (set, list, tuple, str)): return
    given, true = {str(letter).upper() for letter in letters if str(letter).isalpha()}, {"A", "B"} & {letter for letter, left_out in zip("AB", table["leaves out 0"]) if left_out}
    thoughts = {"A": "Look again at the first row of the table.", "B": "Does the interval of the second row include 0?",
                "C": "Which of the measures depends on the words?", "D": "How many voices were cloned here?"}
    wrong = sorted(given ^ true)
    reply(letters, not wrong, thoughts.get(wrong[0] if wrong else "", "The letters are A to D."))


def pairs_for_half(pairs, now):
    if not answered(pairs, (int, float)): return
    think = "The interval of a mean shrinks with the square root of the number of pairs." if pairs == 2 * now else "How does the width of an interval depend on the number of pairs?"
    if pairs == 4: think = "You need that many times as many pairs; how many is this?"
    reply(pairs, abs(pairs - 4 * now) <= 1, think)


def placed(written):
    if written(0.8, 0.7, 0.9) is None:
        answered(None)
        return
    tries = {(0.7, 0.7, 0.9): 0.0, (0.9, 0.7, 0.9): 1.0, (0.8, 0.7, 0.9): 0.5, (0.5, 0.7, 0.9): -1.0, (0.95, 0.7, 0.9): 1.25}
    for given, wanted in tries.items():
        if not np.isclose(written(*given), wanted):
            return print("Not yet. With value {:g}, floor {:g} and ceiling {:g} it gives".format(*given), f"{written(*given):g}.",
                         "Don't clip values outside 0 to 1: it is useful to know that a clone is worse than a stranger." if not 0 <= wanted <= 1 else "")
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
                 "Something that belongs to a letter is missing: perhaps a hamza or madda that is written as a mark of its own?")
        return print(f"Not yet. {text} should become {wanted}. {think}")
    print("Right.")


def longest_word(answer, words):
    if not answered(answer, str): return
    weights = {name: weigh(word) for name, word in words.items()}
    top = [name for name, weight in weights.items() if weight == max(weights.values())]
    wanted = "equal" if len(top) == len(words) else top[0]
    reply(answer, answer.strip().lower() == wanted.lower(), "Does a tatweel have a sound? Does a reader say a vowel that is not written?")


def lost_in_english(lost, means):
    if not answered(lost, (int, float)): return
    true = means.loc["noor", ("noor", "Arabic")] - means.loc["noor", ("noor", "English")]
    right = abs(lost - true) <= 0.011
    think = "Only the sign is wrong: subtract English from Arabic." if abs(lost + true) <= 0.011 else "Take the row of Noor's reference, and the columns that compare with Noor."
    reply(lost, right, think)
    if right: print("One such experiment: compare true recordings of people who speak both languages. A loss of similarity there comes from the measure.")


# ---- the reference in VITA-Audio

def places_of_four_seconds(places):
    if not answered(places, int): return
    think = "That is Plus: features every 60 ms, and four more positions." if places == 71 else "12.5 codes a second."
    reply(places, places == 50, think)


def swapped_prompt(prompt):
    if not answered(prompt): return
    heard = [part.name for part in getattr(prompt, "heard", [])]
    reply(prompt, heard == ["input audio", "reference"], "Two recordings are needed, and a mistake to reproduce: which name of MISTAKES?")


def what_a_new_reference_changes(answer):
    if answered(answer, str): reply(answer, answer == "nothing", "What are the vocoder's inputs?")


# ---- the released checkpoints

def original_name(name):
    if not answered(name, str): return
    think = "That one is in transformers' format." if name == "higgs-v2" else "Look at the table of known models, and at the revision in its column `source`."
    reply(name, name == "higgs-v2-original", think)


def memory_needed(given, exact):
    if not answered(given, (int, float)): return
    right = abs(given - exact) <= 0.051 + 1e-9
    think = "A weight in bfloat16 has two bytes, not four." if abs(given - 2 * exact) < 1 else "Add weights, keys and values; `gigabytes` of section 2 does both."
    reply(given, right, think)
    if right: print("The codec and torch itself need memory, too: 12 GB is barely enough, if at all.")


def eight_bits(times, step_bytes):
    if not answered(times, (int, float)): return
    exact = 1.0e12 / (step_bytes / 2) / 25
    if abs(times - exact / 2) < 1: think = "That is the bound for 16 bits."
    elif abs(times - exact * 25) < 25: think = "Those are columns a second; how many columns make a second of sound?"
    else: think = "How many bytes does a step read, and how many steps make a second of sound?"
    reply(times, abs(times - exact) <= 0.05 * exact, think)


# ---- ask a question

def cells_of_grid(cells):
    if not answered(cells, int): return
    thoughts = {120: "That is the grid as it was.", 200: "And the third temperature?", 180: "And the two voices?"}
    reply(cells, cells == 5 * 4 * 5 * 3, thoughts.get(cells, "Multiply voices, texts, seeds and temperatures."))


def verdict_of(word):
    if answered(word, str): reply(word, word == "can't tell", "Does the interval leave out 0?")


def column_for_failures(column):
    if not answered(column, str): return
    think = "That counts the failures. Which column shows their possible effect?" if column == "missing" else "Look at the list in section 3."
    reply(column, column in ("worst_low", "worst_high"), think)


# ---- how sure is it

def ten_times(more_of, error):
    if not answered(more_of, str): return
    errors = {"voices": error(30, 4, 5), "texts": error(3, 40, 5), "seeds": error(3, 4, 50)}
    if more_of not in errors: return print(f"Not yet. Choose one of {', '.join(errors)}.")
    reply(more_of, errors[more_of] == min(errors.values()), f"That gives {errors[more_of]:.4f}; try `error` with the others.")


def interval_of_coverage(low_high):
    if not answered(low_high, (tuple, list)): return
    found = share_interval(372, 400)
    right = len(low_high) == 2 and all(abs(given - true) <= 0.0051 for given, true in zip(low_high, found[1:3]))
    reply(low_high, right, "share_interval(wins, count) gives mean, low, high and count.")
    if right: print("0.95 is only just inside the interval, so 400 experiments can't tell. That is why 00_crossed takes 2,000.")


def without_tail(written):
    if written([0.1, 0.3]) is None:
        answered(None)
        return
    tries = {(0.1, 0.3, 9.0): 0.2, (0.5, 0.6): 0.5, (0.0,): 0.0}
    for rates, wanted in tries.items():
        made = written(list(rates))
        if not np.isclose(made, wanted): return print(f"Not yet. For {list(rates)} it should give {wanted:g}, but it gives {made}.")
    reply(written, math.isnan(written([2.0])), "What does it give if all rates are above 0.5?")


# ---- how long must a reference be

def pairs_of_length(pairs, made):
    if not answered(pairs, int): return
    row = made.table[made.table.level == 1.0].iloc[0]
    think = "Those are the samples. What is done with the three stretches before anything is compared?" if pairs == 144 else \
        "Voices, texts and seeds make a pair; the stretches of a recording are averaged."
    reply(pairs, pairs == row.pairs, think)


def good_enough(shortest, made, margin):
    if not answered(shortest, (int, float, str)): return
    rows = made.table.iloc[1:].sort_values("level")
    bad = rows.level[rows.low <= -margin]
    wanted = next((level for level in rows.level if bad.empty or level > bad.max()), "whole")
    think = "Look at `low` of this length and of all longer ones: is each above minus the margin?"
    if isinstance(shortest, str) and shortest != "whole": think = "Give a number of seconds, such as 1.5, or \"whole\"."
    reply(shortest, shortest == wanted, think)


def to_halve(more_of):
    if not answered(more_of, str): return
    thoughts = {"stretches": "They are averaged, because they have the speaker in common.", "seeds": "They have speaker and text in common."}
    reply(more_of, more_of == "voices", thoughts.get(more_of, 'Choose one of "voices", "stretches" and "seeds".'))


# ---- what is copied

def slope_needed(slope):
    if answered(slope, str): reply(slope, slope == "within", "What else may differ between a slow and a fast speaker?")


def times_as_long(times, slope):
    if not answered(times, (int, float)): return
    thoughts = {round(1.5 * slope, 2): "The slope belongs to logarithms: a ratio is raised to a power.",
                round(1 + 0.5 * slope, 2): "Close, but that treats ratios as if they could be added."}
    reply(times, abs(times - 1.5**slope) <= 0.011, thoughts.get(round(times, 2), "A slope of s between logarithms turns a ratio r into r ** s."))


def lost_by_the_model(lost):
    if not answered(lost, (list, tuple, set)): return
    given, wanted = {*lost}, {"rate"}
    thoughts = {"level": "Where does the level end?", "tilt": "Do the two intervals of the tilt lie apart?",
                "rate": "Compare the two intervals of the rate.", "noise": "Do the two intervals of the noise lie apart?"}
    wrong = sorted(map(str, given ^ wanted))
    reply(lost, not wrong, thoughts.get(wrong[0] if wrong else "", "The names are rate, tilt, noise and level."))


# ---- likelihood gain

def bits_in_all(bits):
    if not answered(bits, (int, float)): return
    think = "That is for one codebook; a frame has eight codes." if abs(bits - 10) < 1e-6 else "Multiply bits a code, codes a frame, and frames."
    reply(bits, abs(bits - 80) < 1e-6, think)


def arm_without_speech(arm):
    if not answered(arm, str): return
    think = "That one has words in their order, in another voice." if arm == "wrong voice" else "That one is the zero of the scale." if arm == "none" else "Which arms are there?"
    reply(arm, arm == "reversed", think)


def codebook_of_gain(codebook, by_book):
    if not answered(codebook, int): return
    reply(codebook, codebook == int(by_book.loc["right"].idxmax()), "Look at the row of the right reference; codebooks count from 0.")


# ---- two voices

def is_monotone(word):
    if answered(word, str): reply(word, word == "yes", "What is the mean of many such samples at weight 0.25, and at 0.75?")


def pooled(share):
    if not answered(share, (int, float)): return
    logs = 0.5 * np.log([0.5, 0.4, 0.1]) + 0.5 * np.log([0.1, 0.4, 0.5])
    exact = (np.exp(logs) / np.exp(logs).sum())[1]
    think = "That is the mean of the two probabilities; the mixture is made of logarithms." if abs(share - 0.4) < 1e-6 else "Multiply the two probabilities of each code, take square roots, and make them add up to 1."
    reply(share, abs(share - exact) <= 0.0051, think)


def least_locked(way, shares):
    if not answered(way, str): return
    wanted = min(shares, key=lambda each: shares[each][0].mean)
    clear = all(shares[wanted][0].high < found.low for each, (found, _) in shares.items() if each != wanted)
    reply(way, way == wanted, "Look at the means of the locked shares.")
    if way == wanted and not clear: print("But its interval overlaps with another one: for other texts, the order may be different.")


# ---- where it listens

def layer_that_needs_it(layer, means):
    if not answered(layer, int): return
    think = "That layer gives it most attention. Which one loses most without it?" if str(layer) == means.share.idxmax() else "Look at the column lost; layers count from 0."
    reply(layer, str(layer) == means.lost.idxmax(), think)


def why_from_the_text(reason):
    if answered(reason, str): reply(reason, reason == "relay", "Positions stay where they are, hidden or not. What has the text seen, and who sees the text?")


def most_idle(written, heads):
    if written(heads) is None:
        answered(None)
        return
    wanted = heads[heads.lost < 0.005].share.idxmax()
    made = written(heads.copy())
    think = "That one loses more than 0.005 bits." if made in heads.index and heads.lost[made] >= 0.005 else "Choose the rows first, then take the index of the largest share."
    reply(made, made == wanted, think)
