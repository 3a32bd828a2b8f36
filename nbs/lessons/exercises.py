"""The checks behind the exercises of the lessons: an answer goes in, a word on it comes back

Each check works its answer out from what the lesson has made. Reading on here spoils the exercises.
"""
import math
import unicodedata

import numpy as np
import torch

from voicelab.codec import delay
from voicelab.text import strip_harakat, weigh


def reply(answer, right: bool, think: str):
    "Say right, or what to think about next; an exercise without an answer is left alone."
    print("Right." if right else f"Not yet. {think}")


def answered(answer, kind=object) -> bool:
    "Whether there is an answer to look at; says so if there is none, or none of the right kind."
    if answer is None or answer is Ellipsis: print("No answer yet: put yours in place of None, and run the cell again.")
    elif not isinstance(answer, kind) or isinstance(answer, bool):
        print(f"That is {type(answer).__name__}; the question asks for something else.")
    else: return True
    return False


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
