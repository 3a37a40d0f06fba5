"""How fast does text become rows of tokens, and how much memory does that take?

Four ways take turns on the packaged texts: the plain loop that ``data.pack`` was (the tokenizer encodes every document
whole, and rows are cut as Python lists), ``data.pack``, which encodes each word once, ``packed.pack`` onto the disk,
and the same a second time, which reads what is there. The first three on one thread and on all. All make the same rows.

Memory is the peak of a process's resident memory over what it was (Linux only), while ``packed.pack`` reads a
``Stream``. Its texts of several sizes are made of the sentences of the packaged ones, drawn anew with seed 0; so they
have few new words, and what is measured is that nothing else grows.

    python benchmarks/packing.py
"""

import json
import os
import random
import re
import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from record import record
from timing import alone, resident, resident_peak, turns

from a3mini import pretrained
from a3mini.train import Stream, corpus, data, packed, tokens

TEXTS = ("andersen", "bible-bbe")
LENGTH, ROUNDS = 128, 3
SIZES = (4, 16, 64)  # MB of text whose peak of memory is measured
THREADS = {"one thread": "false", "all threads": "true"}


def plain(stories: list[corpus.Story], tokenizer) -> list[list[int]]:
    """Rows by the loop that was before; the same tokens."""
    bos, (_, eos, pad) = data.start_token(tokenizer), data.special_ids(tokenizer)
    rows = []
    for some in tokens._a_few(story.text for story in stories):
        for ids in tokens.encode(tokenizer, some):
            ids = [bos, *ids, eos]
            for start in range(0, len(ids) - 1, LENGTH - 1):
                row = ids[start : start + LENGTH]
                rows.append(row + [pad] * (LENGTH - len(row)))
    return rows


def large_text(path: Path, megabytes: int) -> None:
    """Documents of about 5,000 characters, no two of them the same."""
    sentences = [s for story in corpus.documents(*TEXTS) for s in re.split(r"(?<=[.!?]) ", story.text)]
    draw, written = random.Random(0), 0
    with path.open("w", encoding="utf-8") as file:
        while written < megabytes * 10**6:
            document = " ".join(draw.choices(sentences, k=50))
            file.write(json.dumps({"text": document}) + "\n")
            written += len(document)


def memory(megabytes: int) -> dict:
    """What packing a text of this size adds to the memory at its peak, MB."""
    tokenizer = pretrained.compact_model().tokenizer
    with TemporaryDirectory() as folder:
        path, home = Path(folder) / "text.jsonl", Path(folder) / "home"
        large_text(path, megabytes)
        packed.pack(Stream("andersen", limit=5), tokenizer, LENGTH, home)  # what is loaded only once
        before = resident()
        peak = resident_peak(partial(packed.pack, Stream(path), tokenizer, LENGTH, home))
        return {"megabytes": megabytes, "peak_mb": (peak - before) / 10**6}


def main() -> None:
    stories = corpus.documents(*TEXTS)
    size = sum(len(story.text.encode()) for story in stories) / 10**6
    tokenizer = pretrained.compact_model().tokenizer
    cpu: dict[str, list[float]] = {}

    def timed(name: str, run, parallel: str, number: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = parallel
        started = time.process_time()
        run(number)
        cpu.setdefault(name, []).append(time.process_time() - started)

    with TemporaryDirectory() as folder:
        ways = {
            "the plain loop": lambda _: plain(stories, tokenizer),
            "data.pack": lambda _: data.pack(stories, tokenizer, LENGTH),
            "packed.pack": lambda n: packed.pack(
                stories, tokenizer, LENGTH, Path(folder) / os.environ["TOKENIZERS_PARALLELISM"] / str(n)
            ),
        }
        steps = {
            f"{name}, {threads}": partial(timed, f"{name}, {threads}", run, parallel)
            for name, run in ways.items()
            for threads, parallel in THREADS.items()
        }
        again = "packed.pack, again"
        steps[again] = partial(timed, again, ways["packed.pack"], THREADS["all threads"])
        seconds = turns(steps, ROUNDS)
        found, expected = ways["packed.pack"](0), plain(stories, tokenizer)
        same = torch.equal(found.input_ids.long(), torch.tensor(expected))
    assert same, "not the same rows"
    rows = []
    for name, walls in seconds.items():
        wall, used = statistics.median(walls), statistics.median(cpu[name][1:])
        rows.append({"name": name, "wall_mb_s": size / wall, "cpu_mb_s": size / used})
        print(f"{name:<30}{size / wall:>8.2f} MB/s{size / used:>8.2f} MB per second of CPU", flush=True)
    for row in rows:  # by the processor's time, which other work on the machine changes least
        row["over_plain"] = row["cpu_mb_s"] / rows[0]["cpu_mb_s"]
    peaks = [alone(memory, megabytes) for megabytes in SIZES] if Path("/proc/self/clear_refs").exists() else []
    print(*peaks, sep="\n")
    record("packing", seed=0, texts=TEXTS, megabytes=size, length=LENGTH, rounds=ROUNDS, rows=rows, memory=peaks)


if __name__ == "__main__":
    main()
