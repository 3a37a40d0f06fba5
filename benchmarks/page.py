"""How fast is the compact model in JavaScript, with WebAssembly and without, in Node and in Chromium? And how large?

    python benchmarks/page.py            two minutes; writes book/results/page.json
    python benchmarks/page.py --smoke    seconds; prints, and writes nothing

A step takes n tokens in and asks for n others, behind a text of 96 tokens, whose keys and values are there. All sizes
and both ways take turns, and times are medians of what one thread needs: leave the machine alone meanwhile. Beside the
compact model stands an untrained one of 8 million weights. Memory is that of all numbers that the model and its cache
hold, and for Node what the process grows by. In Chromium the playground is used, too, from a server on this machine:
how long from the click on "Load the model" until it is there, and from the click on "Step" until the token is shown.
Node and Chromium (A3_CHROMIUM, or on the PATH) must be there.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import browsers
import torch
from page_engines import Chromium, Engine, Node
from record import record

from a3mini import A3Config, A3ForCausalLM, eight_bit, pretrained
from a3mini.notebook.explorers import Playground, playground

SIZES = (1, 4, 8, 64)
BEFORE, LENGTH = 96, 256  # tokens; LENGTH is as much as the model takes
ROUNDS = 15
LARGER = dict(vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=4,
              num_key_value_heads=4, tie_word_embeddings=True, max_position_embeddings=LENGTH)  # fmt: skip
WAYS = {"WebAssembly": True, "plain JavaScript": False}
# One round: milliseconds of a step of each way and size; short steps are repeated, for a browser's clock is coarse.
ROUND = """({ name, ways, sizes, before, repeats }) => ways.map((wasm) => sizes.map((size) => {
    const session = new p.Session(model(name, wasm));
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
BYTES = """({ name, wasm }) => {
    const [seen, buffers] = [new Set(), new Set()];
    const visit = (value) => {
      if (ArrayBuffer.isView(value)) return buffers.add(value.buffer);
      if (value === null || typeof value !== "object" || seen.has(value)) return null;
      seen.add(value);
      return Object.values(value).forEach(visit);
    };
    visit(new p.Session(model(name, wasm)));
    return [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }"""
LOAD = """({ name, wasm }) => {
    const start = performance.now();
    new p.Model(file(name), { wasm });
    return performance.now() - start;
  }"""


def measure(engine: Engine, file: Path, rounds: int) -> dict:
    """Milliseconds and bytes of both ways."""
    name = file.stem
    engine.put(name, file)
    ask = {"name": name, "ways": list(WAYS.values()), "sizes": SIZES, "before": BEFORE}
    engine(ROUND, {**ask, "repeats": 64})  # until the engine has compiled what is called often
    found = [engine(ROUND, {**ask, "repeats": 16}) for _ in range(rounds)]
    lines = {}
    for number, (way, wasm) in enumerate(WAYS.items()):
        steps = [statistics.median(times[number][size] for times in found) for size in range(len(SIZES))]
        lines[way] = {
            "ms_per_step": {f"{size}+{size}": round(ms, 2) for size, ms in zip(SIZES, steps, strict=True)},
            "ms_to_load": round(statistics.median(engine(LOAD, {"name": name, "wasm": wasm}) for _ in range(3)), 1),
            "bytes": engine(BYTES, {"name": name, "wasm": wasm}),
        }
    return lines


def use(browser, rounds: int) -> dict:
    """Milliseconds that a reader of the playground waits."""
    shown = "document.querySelector('[aria-busy=true]') === null"
    click = """async ([name, done]) => {
        const start = performance.now();
        const buttons = [...document.querySelectorAll("button")];
        buttons.find(({ textContent }) => textContent.includes(name)).click();
        while (!eval(done)) await new Promise((next) => requestAnimationFrame(next));
        return performance.now() - start;
      }"""
    loads, steps = [], []
    with tempfile.TemporaryDirectory() as folder, browsers.served(folder) as address:
        playground.put_beside(Path(folder) / "_static")
        html = f'<html data-content_root="./"><meta charset="utf-8">{Playground.example().to_html()}</html>'
        (Path(folder) / "index.html").write_text(html, encoding="utf-8")
        for _ in range(max(1, rounds // 3)):
            page = browser.new_context().new_page()  # nothing is kept from before
            page.goto(f"{address}/index.html")
            page.wait_for_selector(".a3-explorer[data-ready=true]")
            loaded = "document.querySelector('.a3-playground button').hidden"
            loads.append(page.evaluate(click, ["Load the model", loaded]))
            page.evaluate(click, ["Empty the blanks", shown])
            steps += [page.evaluate(click, ["Step", shown]) for _ in range(8)]
            page.context.close()
    return {
        "ms_to_load": round(statistics.median(loads), 1),
        "ms_from_click_to_token": round(statistics.median(steps), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one round, no result file")
    options = parser.parse_args()
    chromium = browsers.chromium()
    if not (chromium and shutil.which("node")):
        sys.exit("Node or Chromium is missing: install them, or set A3_CHROMIUM to the path of Chromium.")
    from playwright.sync_api import sync_playwright  # only here: not everybody has it

    compact, tokenizer, _ = pretrained.compact_model()
    torch.manual_seed(0)
    models = {"compact": compact, "larger": A3ForCausalLM(A3Config(query_start="previous", **LARGER))}
    weights = {name: model.num_parameters() for name, model in models.items()}
    found, rounds = {}, 1 if options.smoke else ROUNDS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {
            name: eight_bit.save(model, tokenizer, folder / f"{name}.safetensors") for name, model in models.items()
        }
        with closing(Node(folder)) as engine:
            before = engine("() => process.memoryUsage().rss")
            found["node"] = {"compact": measure(engine, files["compact"], rounds)}
            found["node"]["compact"]["bytes_grown"] = engine("() => process.memoryUsage().rss") - before
            found["node"]["larger"] = measure(engine, files["larger"], rounds)
            versions = {"node": engine("() => process.versions.node")}
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        with closing(Chromium(browser)) as engine:
            found["chromium"] = {name: measure(engine, file, rounds) for name, file in files.items()}
            versions["chromium"] = browser.version
        found["playground"] = use(browser, rounds)
        browser.close()
        sizes = {name: file.stat().st_size for name, file in files.items()}
    for name, lines in found.items():
        print(name, lines)
    if not options.smoke:
        sizes = {"file_bytes": sizes, "weights": weights}
        record("page", seed=0, rounds=rounds, before=BEFORE, engines=versions, **sizes, **found)


if __name__ == "__main__":
    main()
