"""Questions about references, each a function that asks it with a sweep and answers in a sentence."""
from voicelab.studies.corruption import corruption
from voicelab.studies.length import length
from voicelab.studies.transcript import transcript
from voicelab.studies.window import window

__all__ = ["corruption", "length", "transcript", "window"]
