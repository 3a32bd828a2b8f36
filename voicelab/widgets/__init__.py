"""What people touch in JupyterLab."""
from voicelab.widgets.tuner import Tuner

__all__ = ["Tuner"]
