"""Questions about references, each a function that asks it with a sweep and answers in a sentence."""
from voicelab.studies.attention import attention
from voicelab.studies.caps import caps
from voicelab.studies.carry_over import carry_over
from voicelab.studies.corruption import corruption
from voicelab.studies.gain import gain
from voicelab.studies.generations import generations
from voicelab.studies.length import length
from voicelab.studies.sampling import sampling
from voicelab.studies.transcript import transcript
from voicelab.studies.two_references import two_references
from voicelab.studies.variance import variance
from voicelab.studies.window import window

__all__ = ["attention", "caps", "carry_over", "corruption", "gain", "generations", "length", "sampling",
           "transcript", "two_references", "variance", "window"]
