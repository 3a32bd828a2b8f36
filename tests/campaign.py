"""A campaign of hostile cases: writers that are killed, sound files that were changed, texts, options, checkpoints (hostile_cases.py).

    python tests/campaign.py                    all of it; again after Ctrl-C: what is left, and what failed once more
    python tests/campaign.py files texts        two kinds
    python tests/campaign.py files:123          one case alone, with its traceback
    python tests/campaign.py --seed 3 --count 200 --fresh

A case depends on its kind, its number and the seed, and on nothing else. The cases run in a process of their own, so that a crash, a case that
hangs or one that takes all memory is a fault of that case, too. What was found is in tests/out/campaign-SEED.jsonl, a line for each case."""
import argparse
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from traceback import extract_tb

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
import torch
from tqdm.auto import tqdm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")                     # about the recordings of tests
    from hostile_cases import KINDS, check_line
    from hostile_checkpoints import within

from voicelab.errors import VoicelabError

OUT = Path(__file__).parent / "out"
MOST_BYTES = 1 << 30            # that a case may take more than those before it
MOST_CPU_SECONDS = 20           # of a case
FORK = get_context("fork")


@dataclass(frozen=True)
class Case:
    "What became of a case."
    kind: str
    number: int
    told: str           # what was done, in words
    outcome: str        # of a fault: "fault"
    message: str        # one line: why it was refused, or what the fault was
    seconds: float = 0

    @property
    def name(self): return f"{self.kind}:{self.number}"


def taken_bytes(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def attempt(name, number, seed, ready, place, told): # told: a list that gets what is done, in words
    "The outcome of a case; a fault is raised."
    kind, place = KINDS[name], Path(place) / f"{name}-{number}"
    place.mkdir()
    before, begun = taken_bytes(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with within(kind.seconds): outcome = kind.case(ready, number, random.Random(f"{seed} {name} {number}"), place, told.append)
        except VoicelabError as error: check_line(outcome := error)
        finally: shutil.rmtree(place)
    more, seconds = taken_bytes() - before, time.process_time() - begun
    assert more < MOST_BYTES, f"it took {more / 1e6:.0f} MB of memory"
    assert seconds < MOST_CPU_SECONDS, f"it took {seconds:.0f} s"
    return outcome


def tried(name, number, seed, ready, place):
    "A case, whatever becomes of it."
    told, begun = [], time.perf_counter()
    try: outcome, message = attempt(name, number, seed, ready, place, told), ""
    except KeyboardInterrupt: raise
    except BaseException as error:
        last = extract_tb(error.__traceback__)[-1]
        outcome, message = "fault", f"{type(error).__name__}: {str(error) or last.line} ({Path(last.filename).name}:{last.lineno})"
    if isinstance(outcome, VoicelabError): outcome, message = "refused", str(outcome)
    done, message = (" ".join(ascii(words)[1:-1].split())[:500] for words in ("; ".join(told), message))
    return Case(name, number, done, outcome, message, round(time.perf_counter() - begun, 3))


def work(pipe, other_end, name, numbers, seed, ready, place):
    "The child: tries the cases in their order and sends each, as long as there is a parent."
    other_end.close()
    torch.set_num_threads(1)
    faulthandler.disable()                              # pytest's would show each crash
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is for the parent
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    with open("/proc/self/statm" if sys.platform == "linux" else os.devnull) as file: pages = int((file.read().split() or [0])[0])
    if pages: resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4 * MOST_BYTES, most))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)                                   # the libraries of sound formats talk
    for number in numbers: pipe.send(tried(name, number, seed, ready, place))


def run(name, numbers, seed, folder): # folder: an empty one
    "Try cases of a kind, one after the other, in a process of their own."
    ready, left = KINDS[name].make(Path(folder)), [*numbers]
    while left:
        receiving, sending = FORK.Pipe(duplex=False)
        child = FORK.Process(target=work, args=(sending, receiving, name, left, seed, ready, tempfile.mkdtemp(dir=folder)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)         # Python >= 3.12 warns of forking with threads
            child.start()
        sending.close()
        try:
            while left and receiving.poll(4 * KINDS[name].seconds):
                yield receiving.recv()
                left.pop(0)
            end = "hung"
        except EOFError:
            child.join()
            end = f"ended with {child.exitcode}"
        finally:
            child.kill()
            child.join()
        if left: yield Case(name, left.pop(0), "", "fault", f"its process {end}")


def table(cases):
    "What became of the cases, as a table in Markdown."
    lines = ["| kind | cases | faults | outcomes |", "|---|---|---|---|"]
    for name in KINDS:
        outcomes = Counter(case.outcome for case in cases if case.kind == name)
        faults = outcomes.pop("fault", 0)
        told = ", ".join(f"{word} {n:,}" for word, n in outcomes.most_common())
        if outcomes or faults: lines.append(f"| {name} | {faults + outcomes.total():,} | {faults} | {told} |")
    return "\n".join(lines)


def report(cases, seed):
    "The table, then each fault with the command that repeats it."
    faults = [case for case in cases if case.outcome == "fault"]
    return "\n".join([table(cases), *(
        f"\n{case.name} ({case.told})\n    {case.message}\n    python tests/campaign.py --seed {seed} {case.name}" for case in faults)])


def kept(file): return {case.name: case for case in (Case(**json.loads(line)) for line in file.read_text().splitlines())} if file.exists() else {}


def go_on(names, seed, count, file):
    "Try what is not in the file yet, and what failed once more; all cases of these kinds."
    known = kept(file)
    for name in names:
        numbers = range(KINDS[name].count if count is None else count)
        left = [n for n in numbers if (case := known.get(f"{name}:{n}")) is None or case.outcome == "fault"]
        with tempfile.TemporaryDirectory() as folder, open(file, "a") as lines:
            for case in tqdm(run(name, left, seed, folder), name, len(numbers), initial=len(numbers) - len(left), mininterval=2) if left else ():
                known[case.name] = case
                print(json.dumps(asdict(case)), file=lines, flush=True)
    return [case for case in known.values() if case.kind in names]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[*KINDS], help=f"{', '.join(KINDS)}, or one case as KIND:NUMBER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="cases of each kind, in place of " + ", ".join(f"{kind.count} {name}" for name, kind in KINDS.items()))
    parser.add_argument("--folder", type=Path, default=OUT, help="where the file of what was found is")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    given = parser.parse_args(arguments)
    for what in given.what:
        if what.partition(":")[0] not in KINDS: parser.error(f"what: must be of {', '.join(KINDS)}, got {what!r}")
    torch.set_num_threads(1)
    for name, _, number in (what.partition(":") for what in given.what if ":" in what):
        with tempfile.TemporaryDirectory() as folder:
            (place := Path(folder) / "case").mkdir()
            told = []
            try: print(attempt(name, int(number), given.seed, KINDS[name].make(Path(folder)), place, told))
            finally: print("; ".join(told))
    names = [what for what in given.what if ":" not in what]
    if not names: return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    file = given.folder / f"campaign-{given.seed}.jsonl"
    if given.fresh: file.unlink(missing_ok=True)
    try: cases = go_on(names, given.seed, given.count, file)
    except KeyboardInterrupt: return print(report(kept(file).values(), given.seed)) or 130
    print(report(cases, given.seed))
    return int(any(case.outcome == "fault" for case in cases))


if __name__ == "__main__": sys.exit(main())
