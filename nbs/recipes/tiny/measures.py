"""What the tiny model is measured by: voice and content on scales with two anchors, and their intervals.

Both scales have 0 at a sound that lacks what is asked for and 1 at the true utterance through the codec, which is the
best that any language model on this codec can do:

- voice: resemblyzer's cosine with the reference; 0 is the mean of the other voices
- content: mel-cepstral distance to espeak-ng's own rendering of the text in that voice, frames aligned by dynamic time
  warping; 0 is another sentence of the same voice. It also depends on the voice: the right words in a wrong voice score low.
"""
import librosa
import numpy as np

from voicelab.audio import Audio
from voicelab.embedding import embed_voice, voiced

CEPSTRA = range(1, 14)              # coefficient 0 is the level
DECIBELS = 10 * np.sqrt(2) / np.log(10)


def cepstra(audio: Audio) -> np.ndarray: # [13, frames]
    "Mel cepstra 1 to 13 of 24 kHz sound, a column each 10 ms: cosine transform of the log magnitudes of 80 mel bands."
    assert audio.rate == 24_000, audio.rate
    power = librosa.feature.melspectrogram(y=audio.samples, sr=audio.rate, n_fft=1024, hop_length=240, n_mels=80)
    log_magnitude = 0.5 * np.log(np.maximum(power, 1e-6))
    bands = len(log_magnitude)
    return np.cos(np.pi / bands * np.outer(CEPSTRA, np.arange(bands) + 0.5)) @ log_magnitude / bands


def cepstral_distance(a: Audio, b: Audio) -> float:
    "Mel-cepstral distance in dB (Kubichek 1993), mean over the path of dynamic time warping."
    cost, path = librosa.sequence.dtw(cepstra(a), cepstra(b))
    return float(DECIBELS * cost[-1, -1] / len(path))


def embed(audio: Audio) -> np.ndarray: # [256]
    "The voice of `audio`; zeros, similar to nothing, where there is no speech in it."
    wave = voiced(audio)
    return embed_voice(wave) if len(wave) else np.zeros(256, np.float32)


def scaled(value, zero, one):
    "Place the mean of `value` on the scale where the mean of `zero` is 0 and that of `one` is 1."
    zero = np.mean(zero)
    return (np.mean(value) - zero) / (np.mean(one) - zero)


def interval(statistic, count: int, draws: int = 2000) -> tuple[float, float, float]:
    "`statistic(rows)` over all of `count` rows, and its 95 % bootstrap interval over draws of rows (one row is one voice)."
    rows = np.random.default_rng(0).integers(count, size=(draws, count))
    drawn = [statistic(drawn_rows) for drawn_rows in rows]
    return float(statistic(np.arange(count))), *map(float, np.quantile(drawn, [0.025, 0.975]))


def mean_interval(values) -> tuple[float, float, float]:
    "Mean of `values` [voices, ...] and its interval over voices."
    values = np.asarray(values, float)
    return interval(lambda rows: values[rows].mean(), len(values))


def scale_interval(value, zero, one) -> tuple[float, float, float]:
    "`scaled` and its interval; all three are [voices, ...]."
    value, zero, one = (np.asarray(part, float) for part in (value, zero, one))
    return interval(lambda rows: scaled(value[rows], zero[rows], one[rows]), len(value))
