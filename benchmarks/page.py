"""How fast is the compact model in JavaScript, with WebAssembly and without, in Node and in Chromium? And how large?

    python benchmarks/page.py            about a minute; writes book/results/page.json
    python benchmarks/page.py --smoke    seconds; prints, and writes nothing

A step takes n tokens in and asks for n others, behind a text of 96 tokens, whose keys and values are there. All sizes
and both ways take turns, and times are medians of what one thread needs: leave the machine alone meanwhile. Memory is
that of all numbers that the model and its cache hold, and for Node what the process grows by. Node and Chromium
(A3_CHROMIUM, or on the PATH) must be there.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import browsers
from page_engines import Chromium, Engine, Node
from record import record

from a3mini import eight_bit, pretrained

SIZES = (1, 4, 8, 64)
BEFORE, LENGTH = 96, 256  # tokens; LENGTH is as much as the model takes
ROUNDS = 15
WAYS = {"WebAssembly": True, "plain JavaScript": False}
# One round: milliseconds of a step of each way and size; short steps are repeated, for a browser's clock is coarse.
ROUND = """({ ways, sizes, before, repeats }) => ways.map((wasm) => sizes.map((size) => {
    const session = new p.Session(model("compact", wasm));
    const some = (from, count) => Array.from({ length: count }, (_, n) => [from + n, 5 + n]);
    session.step([some(0, before)], []);
    const wanted = some(before + size, size).map(([position]) => position);
    const times = Math.ceil(repeats / size);
    const start = performance.now();
    for (let n = 0; n < times; n++) {
      session.step([some(before, size)], wanted);
      session.keep(1);
    }
    return (performance.now() - start) / times;
  }))"""
# All numbers that can be reached from a fresh model and a session, each buffer once.
BYTES = """(wasm) => {
    const [seen, buffers] = [new Set(), new Set()];
    const visit = (value) => {
      if (ArrayBuffer.isView(value)) return buffers.add(value.buffer);
      if (value === null || typeof value !== "object" || seen.has(value)) return null;
      seen.add(value);
      return Object.values(value).forEach(visit);
    };
    visit(new p.Session(model("compact", wasm)));
    return [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }"""
LOAD = """(wasm) => {
    const start = performance.now();
    new p.Model(file("compact"), { wasm });
    return performance.now() - start;
  }"""


def measure(engine: Engine, file: Path, rounds: int) -> dict:
    """Milliseconds and bytes of both ways."""
    engine.put("compact", file)
    ask = {"ways": list(WAYS.values()), "sizes": SIZES, "before": BEFORE}
    engine(ROUND, {**ask, "repeats": 64})  # until the engine has compiled what is called often
    found = [engine(ROUND, {**ask, "repeats": 16}) for _ in range(rounds)]
    lines = {}
    for number, (way, wasm) in enumerate(WAYS.items()):
        steps = [statistics.median(times[number][size] for times in found) for size in range(len(SIZES))]
        lines[way] = {
            "ms_per_step": {f"{size}+{size}": round(ms, 2) for size, ms in zip(SIZES, steps, strict=True)},
            "ms_to_load": round(statistics.median(engine(LOAD, wasm) for _ in range(3)), 1),
            "bytes": engine(BYTES, wasm),
        }
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one round, no result file")
    options = parser.parse_args()
    chromium = browsers.chromium()
    if not (chromium and shutil.which("node")):
        sys.exit("Node or Chromium is missing: install them, or set A3_CHROMIUM to the path of Chromium.")
    from playwright.sync_api import sync_playwright  # only here: not everybody has it

    model, tokenizer, _ = pretrained.compact_model()
    model.config.max_position_embeddings = LENGTH
    found, rounds = {}, 1 if options.smoke else ROUNDS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = eight_bit.save(model, tokenizer, folder / eight_bit.FILE)
        with closing(Node(folder)) as engine:
            before = engine("() => process.memoryUsage().rss")
            found["node"] = measure(engine, file, rounds)
            found["node"]["bytes_grown"] = engine("() => process.memoryUsage().rss") - before
            versions = {"node": engine("() => process.versions.node")}
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        with closing(Chromium(browser)) as engine:
            found["chromium"] = measure(engine, file, rounds)
            versions["chromium"] = browser.version
        browser.close()
        size = file.stat().st_size
    for name, lines in found.items():
        print(name, lines)
    if not options.smoke:
        record("page", seed=0, rounds=rounds, before=BEFORE, engines=versions, file_bytes=size, **found)


if __name__ == "__main__":
    main()
