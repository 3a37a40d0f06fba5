"""What has the trainer's change made of a step? Before against after, side by side in one run.

    python benchmarks/trainer.py --tinystories FILE    8 minutes on two CPU cores; writes book/results/trainer.json
    python benchmarks/trainer.py --only counts         without times: 2 minutes; the times that are stored stay
    python benchmarks/trainer.py --only times          the other way round
    python benchmarks/trainer.py --smoke               tiny, some seconds; writes nothing

Before is the commit BEFORE of this repository, unpacked into a temporary folder; without the history (a wheel, a
shallow clone) there is only the after. Each has a process of its own (``trainer_tree.py``), and in the times their
steps take turns.

Counts: how many of the rows of hidden states that go through the layers a predicted token needs; how many shapes a run
of some steps has; and how often a step must wait for a value between the batch's arrival and the new weights, counted
on a CPU with the optimiser that a GPU gets. Times: seconds of a step on a CPU, with the drawing of its groups, and by
how many bytes a step raises memory. Weights are random. FILE is the beginning of TinyStories; without it the rows are
those of the packaged texts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch
from adaptation import tinystories
from record import RESULTS, provenance, record
from safetensors.torch import save_file
from study import SHAPE
from texts import book_tokenizer

from a3mini.train import corpus, data, devices
from a3mini.train.curriculum import PRESETS, Curriculum

ROOT = Path(__file__).resolve().parents[1]
BEFORE = "de66d09"  # the last commit with the loop as it was
SEEN = 4000  # documents
STEPS, THREADS = 60, 2
LENGTHS, BATCHES, BATCH_TOKENS = (96, 256, 512), (16, 32, 128), 8192
KINDS = {"A3": "mixed", "autoregression": "autoregression", "masked diffusion": "masked diffusion"}
COMPACT = SHAPE | {"max_position_embeddings": 1024}
NAMES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "tie_word_embeddings")  # fmt: skip
SMOLLM2 = {name: devices.MODELS["HuggingFaceTB/SmolLM2-135M"].to_dict()[name] for name in NAMES}
TINY = COMPACT | {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPES = ("compact", "SmolLM2-135M")
CASES = {  # shape, recipe, LoRA, rows of a step, rounds
    "compact, A3, left to right": ("compact", ["paper", 0], False, 16, 15),
    "compact, A3, last stage of `spans`": ("compact", ["spans", 2], False, 16, 15),
    "compact, A3, `mixed`": ("compact", "mixed", False, 16, 15),
    "compact, autoregression": ("compact", "autoregression", False, 16, 15),
    "compact, masked diffusion": ("compact", "masked diffusion", False, 16, 15),
    "SmolLM2-135M, A3, `mixed`, LoRA of rank 16": ("SmolLM2-135M", "mixed", True, 8, 4),
    "SmolLM2-135M, A3, `mixed`, all weights": ("SmolLM2-135M", "mixed", False, 8, 4),
}


class Tree:
    """A process that runs with one tree of the repository."""

    def __init__(self, folder: Path, on_gpu: bool):
        worker = [sys.executable, str(ROOT / "benchmarks" / "trainer_tree.py")]
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        environment |= {} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(worker, env=environment, cwd=folder, **pipes)
        found = Path(self.ask("where"))
        assert found.parent.samefile(folder), f"{folder} was wanted, {found} was imported"

    def begin(self, method: str, *arguments) -> None:
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()

    def end(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a process of trainer_tree.py has ended; what it printed stands above")
        return json.loads(line)

    def ask(self, method: str, *arguments):
        self.begin(method, *arguments)
        return self.end()


def asked(trees: dict[str, Tree], method: str, *arguments) -> dict:
    """The answers of all trees, which work at the same time."""
    for tree in trees.values():
        tree.begin(method, *arguments)
    return {name: tree.end() for name, tree in trees.items()}


def unpack_before(folder: Path) -> bool:
    """The package as it was; False if there is no history here."""
    made = subprocess.run(["git", "archive", BEFORE, "a3mini"], cwd=ROOT, capture_output=True)
    if made.returncode:
        print(f"no commit {BEFORE} here ({made.stderr.decode().strip()}): only what is now is measured", flush=True)
        return False
    with tarfile.open(fileobj=BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return True


@contextmanager
def running(on_gpu: bool = False):
    """The processes, "before" and "after", and a folder for files."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"before": Path(temporary) / "before"} if unpack_before(Path(temporary) / "before") else {}
        folders["after"] = ROOT
        trees = {name: Tree(folder, on_gpu) for name, folder in folders.items()}
        try:
            yield trees, Path(temporary)
        finally:
            for tree in trees.values():
                tree.process.kill()
                tree.process.wait()


def rows_of(stories: list[corpus.Story], lengths, folder: Path) -> dict[int, str]:
    """A file of packed rows for every length."""
    tokenizer, files = book_tokenizer(), {}
    for length in lengths:
        files[length] = str(folder / f"{length}.safetensors")
        blocks = data.pack(stories, tokenizer, length)
        save_file({name: part.contiguous() for name, part in blocks._asdict().items()}, files[length])
    return files


def summary(found: dict) -> dict:
    """Of all presets: the share of real rows over all steps, the worst stage, and the shapes of a run."""
    stages = {f"{name}, {stage}": rows for name, one in found.items() for stage, rows in one["stages"].items()}
    real, computed = (sum(rows[which] for rows in stages.values()) for which in (0, 1))
    worst = min(stages, key=lambda name: stages[name][0] / stages[name][1])
    shapes = [one["shapes"] for one in found.values()]
    return {"real": round(real / computed, 4), "worst": round(stages[worst][0] / stages[worst][1], 4),
            "worst_stage": worst, "shapes": round(statistics.mean(shapes)), "most_shapes": max(shapes)}  # fmt: skip


def counts(trees: dict[str, Tree], files: dict[int, str], steps: int, smoke: bool) -> dict:
    """Rows and shapes by length and size of a batch; waits by recipe."""
    presets, rows = [name for name in PRESETS if not Curriculum.preset(name).has_room], []  # before, none had room
    presets = presets[-2:] if smoke else presets
    sizes = [{"batch_size": batch} for batch in BATCHES[: 1 if smoke else None]] + [{"batch_tokens": BATCH_TOKENS}]
    for length, file in files.items():
        for size in sizes:
            row = {"length": length, **size}
            those = trees if "batch_size" in size else {"after": trees["after"]}  # before, batches had rows
            settings = presets, size, False, steps
            row |= {name: summary(one) for name, one in asked(those, "count", file, *settings).items()}
            settings = presets, size, True, steps
            row["settled"] = summary(trees["after"].ask("count", file, *settings))
            print(row, flush=True)
            rows.append(row)
    shape, file = TINY if smoke else COMPACT, files[min(files)]
    waits = {kind: asked(trees, "waits", shape, file, recipe, {"batch_size": 4}) for kind, recipe in KINDS.items()}
    print(waits, flush=True)
    return {"steps": steps, "rows": rows, "waits": waits}


def times(trees: dict[str, Tree], file: str, smoke: bool, wanted: list[str]) -> dict:
    """Seconds and bytes of a step of the ``wanted`` models; the trees take turns, and who begins changes."""
    shapes = {"compact": TINY, "SmolLM2-135M": TINY} if smoke else {"compact": COMPACT, "SmolLM2-135M": SMOLLM2}
    cases = dict(list(CASES.items())[1::2]) if smoke else {n: c for n, c in CASES.items() if c[0] in wanted}
    found = {}
    for name, (shape, recipe, lora, batch, rounds) in cases.items():
        settings = {"batch_size": 2 if smoke else batch}
        began = {one: tree.ask("begin", shapes[shape], file, recipe, lora, settings, 1 if smoke else THREADS)
                 for one, tree in trees.items()}  # fmt: skip
        seconds = {one: [] for one in trees}
        for number in range(2 if smoke else rounds):  # quantiles need two
            for one in list(trees)[:: -1 if number % 2 else 1]:
                seconds[one].append(trees[one].ask("step"))
        row = {"rows": settings["batch_size"], "rounds": number + 1}
        for one in trees:
            row[one] = {"seconds": round(statistics.median(seconds[one]), 4), **began[one]}
        if "before" in trees:
            ratios = [old / new for old, new in zip(seconds["before"], seconds["after"], strict=True)]
            quartiles = statistics.quantiles(ratios, n=4)
            row["faster"] = {
                key: round(value, 3) for key, value in zip(("low", "mean", "high"), quartiles, strict=True)
            }
        print(name, row, flush=True)
        found[name] = row
    return {"rows": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tinystories", type=Path, metavar="FILE", help="the beginning of TinyStories, as text")
    parser.add_argument("--only", choices=("counts", "times"), help="one part; what is stored of the other stays")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of the rows; times: of the first")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a run that is counted")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, choices=SHAPES, help="of the models that are timed")
    parser.add_argument("--smoke", action="store_true", help="tiny, some seconds; writes nothing")
    options = parser.parse_args()
    lengths = options.lengths[:1] if options.smoke or options.only == "times" else options.lengths
    text = "TinyStories" if options.tinystories else "bible-bbe and andersen"
    stories = tinystories(options.tinystories) if options.tinystories else corpus.documents("bible-bbe", "andersen")
    stories = stories[: 100 if options.smoke else SEEN]
    stored = RESULTS / "trainer.json"
    parts = json.loads(stored.read_text("utf-8")) if options.only and stored.exists() else {}
    parts = {name: parts[name] for name in ("counts", "times") if name in parts}
    with running() as (trees, folder):
        files = rows_of(stories, lengths, folder)
        for name in (options.only,) if options.only else ("counts", "times"):
            torch.set_num_threads(1 if name == "counts" else THREADS)
            began = time.perf_counter()
            if name == "counts":
                found = counts(trees, files, 6 if options.smoke else options.steps, options.smoke)
            else:
                found = times(trees, files[lengths[0]], options.smoke, options.shapes)
            made = provenance(0, time.perf_counter() - began)
            about = {key: made[key] for key in ("hardware", "threads", "date", "wall_seconds")}
            parts[name] = found | {"text": text, "length": lengths[0]} | about
            print(f"{name}: {about['wall_seconds']} s", flush=True)
    if not options.smoke:
        record("trainer", seed=0, before=BEFORE, **parts)


if __name__ == "__main__":
    main()
