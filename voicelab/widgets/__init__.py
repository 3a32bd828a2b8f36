"""What people touch in JupyterLab."""
from voicelab.widgets.delay import DelayPattern
from voicelab.widgets.prompt import PromptAnatomy
from voicelab.widgets.tuner import Tuner

__all__ = ["DelayPattern", "PromptAnatomy", "Tuner"]
