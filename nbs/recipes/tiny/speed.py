"""Time and memory of a tiny model in a fresh process; the last line is JSON. `evaluate.py --parts speed` calls it."""
import json
import platform
import resource
import sys
import time
from pathlib import Path

import numpy as np

import voicelab as vl

TEXT, RUNS = "The old library opens at nine in the morning, and the garden is open today.", 5


def timed(work, runs: int = RUNS) -> tuple[float, float, float]:
    "Median, least and greatest seconds of `work`, once unmeasured before."
    work()
    spent = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return float(np.median(spent)), min(spent), max(spent)


def main(name):
    open_model = vl.load                # now torch is imported, which is not the model's time
    began = time.perf_counter()
    model = open_model(name)
    load = time.perf_counter() - began
    noise = vl.Audio((np.random.default_rng(0).standard_normal(10 * 24_000) * 0.05).astype(np.float32), 24_000)
    reference = model.clone(TEXT, seed=0).audio
    reference = vl.Reference(reference, transcript=TEXT, consent="synthetic")
    codes = model.codec.encode(noise)
    made = [model.clone(TEXT, reference=reference, seed=seed) for seed in range(RUNS)]
    spread = lambda values: (float(np.median(values)), min(values), max(values))
    over = lambda seconds, spans: tuple(seconds / span for span in (spans[0], spans[2], spans[1]))
    folder = Path(name) if Path(name).is_dir() else vl.lab.MODELS[name]["folder"]
    figures = {
        "weights / MB": sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6,
        "time to load / s": load,
        "time to first sound / s": spread([gen.timings["first_audio"] for gen in made]),
        "real-time factor": spread([gen.timings["rtf"] for gen in made]),
        "codec decodes, times real time": over(noise.seconds, timed(lambda: model.codec.decode(codes))),
        "codec encodes, times real time": over(noise.seconds, timed(lambda: model.codec.encode(noise))),
        "peak memory of the process / MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
        "machine": f"{platform.machine()}, {platform.python_version()}",
    }
    print(json.dumps({name: value if isinstance(value, (tuple, str)) else (value,) * 3 for name, value in figures.items()}))


if __name__ == "__main__": main(sys.argv[1])
