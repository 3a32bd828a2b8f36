"""A workspace for zero-shot voice cloning with speech language models: generate, hear, measure, repeat."""
__version__ = "0.1.0"

from voicelab.audio import Audio, Reference, load_audio
from voicelab.budget import Budget
from voicelab.control import Control, Sampling
from voicelab.lab import VoiceModel, load
from voicelab.runs import Run
from voicelab.session import Generation
from voicelab.settings import read_settings
from voicelab.speakers import SCENES, VOICES

__all__ = ["SCENES", "VOICES", "Audio", "Budget", "Control", "Generation", "Reference", "Run", "Sampling", "VoiceModel", "load",
           "load_audio", "read_settings"]


def __getattr__(name):
    "`widgets` is loaded when it is first used: a command line needs none."
    if name != "widgets": raise AttributeError(f"module 'voicelab' has no attribute {name!r}")
    import importlib
    return importlib.import_module("voicelab.widgets")
