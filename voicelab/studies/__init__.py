"""Questions about references, each a function that asks it with a sweep and answers in a sentence."""
from voicelab.studies.attention import attention
from voicelab.studies.gain import gain
from voicelab.studies.length import length

__all__ = ["attention", "gain", "length"]
