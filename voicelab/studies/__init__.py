"""Questions about references, each a function that asks it with a sweep and answers in a sentence."""
from voicelab.studies.length import length
from voicelab.studies.window import window

__all__ = ["length", "window"]
