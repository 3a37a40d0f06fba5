"""Put a trained adapter into the package as ``smollm2-a3``, with a model card made of the run's own record.

    python benchmarks/adaptation.py losses
    python -m tools.models.smollm2_adapter checkpoints/adaptation/a3-1 checkpoints/adaptation/a3

The folders are those of the runs, in their order; the adapter is that of the last. (A run is one line of the card.)
"""

import json
import shutil
import sys
from pathlib import Path

from a3mini import adapter, runs
from a3mini.groups import KNOWN_ORDERS
from a3mini.pretrained import ADAPTERS, PACKAGED_MODEL

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"
NAME = "smollm2-a3"
LARGEST = 30 * 2**20  # bytes
CARD = """\
---
license: apache-2.0
library_name: a3mini
language: en
---

# SmolLM2-135M-Instruct as an any-order model

{weights:,} added weights turn the SmolLM2 that the pip package {package} ships (an instruct model, 4-bit weights)
into an A3 model: it fills blanks given both sides, and predicts in any order. They fit that model and no other; its
fingerprint is checked. It was adapted on stories for children, and on few of them: use it to learn, not to rely on.

```python
from a3mini import decode, pretrained

model, tokenizer, name = pretrained.adapted_model("smollm2-a3")
text = "Anna went to the garden to find a flower. ____ Her mother smiled and put it in a vase."
print(decode.infill(model, tokenizer, text, tokens_per_blank=12, temperature=0))
```

## How it was made

| what | how |
|---|---|
{commands}
| method | LoRA of rank {rank} on every linear layer, and the vector w; {seconds:.0f} s of training, beside other jobs |
| tokens | {tokens:,} in {steps} steps of {batch} rows of up to {length} tokens |
| text | the first {stories:,} stories of TinyStories but {held_out}, which were held out, each twice; {books} |
| seed | {seed} |
| versions | {versions} |
| hardware | {hardware}, {threads} thread |
| stored | bfloat16, safetensors |

No evaluation set was trained on.

## Held-out losses

Nats per predicted token, with 95% intervals over rows, on {text}. The source itself has
{source_loss} left to right, and {left_loss} on a sentence given its left side alone. Each cell: given tokens read
together / from left to right.

| grouping | before | after |
|---|---|---|
{losses}

Measured by `{measured}`.

## Licences

The weights are Apache-2.0, as SmolLM2 and this package. TinyStories has the licence CDLA-Sharing-1.0, which puts no
terms on what is computed from the data; the books are in the public domain.
"""


BOOKS = "Andersen's fairy tales; Sara Cone Bryant, Stories to Tell to Children; Joseph Jacobs, English Fairy Tales"


def main(arguments: list[str]) -> None:
    legs = [Path(argument) for argument in arguments]
    tensors, about = adapter.read(legs[-1] / "adapter")
    size = (legs[-1] / "adapter" / adapter.WEIGHTS).stat().st_size
    if size > LARGEST:
        sys.exit(f"the adapter has {size / 2**20:.1f} MiB, more than {LARGEST / 2**20:.0f}; train a smaller rank")
    records = [json.loads((leg / "run.json").read_text()) for leg in legs]
    result = json.loads((RESULTS / "adaptation.json").read_text())
    if result["arms"]["a3"]["tokens"] != about["tokens"]:
        sys.exit("book/results/adaptation.json is of another adapter; run `python benchmarks/adaptation.py losses`")
    about["known_order"] = records[-1]["known_order"]
    about["commands"] = [record["command"]["line"] for record in records]
    training, options = records[-1]["training"], records[-1]["command"]["options"]
    folder = ADAPTERS[NAME]
    with runs.whole_folder(folder) as partial:
        shutil.copy(legs[-1] / "adapter" / adapter.WEIGHTS, partial)
        runs.write_json(partial / adapter.RECORD, about)
        card = CARD.format(
            **about | {"commands": commands(legs, records)},
            weights=sum(tensor.numel() for tensor in tensors.values()),
            package=PACKAGED_MODEL.replace("_", "-"),
            books=BOOKS,
            batch=training["batch_size"],
            length=options["length"],
            stories=options["stories"],
            held_out=options["held_out"],
            seed=training["seed"],
            versions=", ".join(f"{name} {version}" for name, version in records[-1]["versions"].items()),
            hardware=records[-1]["hardware"],
            threads=records[-1]["threads"],
            losses=losses(result["losses"]),
            text=result["text"],
            measured=result["command"],
            source_loss=interval(result["losses"]["untouched, autoregressive"]["left to right"]),
            left_loss=interval(result["losses"]["untouched, autoregressive"]["a sentence"]),
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
    print(f"{folder}: {size / 2**20:.1f} MiB")


def commands(legs: list[Path], records: list[dict]) -> str:
    """A row of the card for every run: how it was started, its stages, its learning rate, and where it was stopped."""
    lines = []
    for number, (leg, record) in enumerate(zip(legs, records, strict=True), start=1):
        training, last = record["training"], runs.read_metrics(leg)[-1]["step"]
        stages = "; ".join(f"{one['name']} ({one['share']:g})" for one in record["curriculum"]["stages"])
        how = f"`{record['command']['line']}`: stages {stages}; learning rate {training['learning_rate']:g}"
        if last < training["steps"]:  # the schedule was not finished
            how += f"; stopped after step {last} of {training['steps']}, and made an adapter by the command `adapter`"
        lines.append(f"| run {number} | {how} |")
    return "\n".join(lines)


def losses(found: dict) -> str:
    before, after = (
        [found[f"{name}, given tokens {order}"] for order in KNOWN_ORDERS] for name in ("untouched A3", "a3")
    )
    return "\n".join(
        f"| {name} | {' / '.join(interval(one[name]) for one in before)} "
        f"| {' / '.join(interval(one[name]) for one in after)} |"
        for name in before[0]
    )


def interval(one: dict) -> str:
    return f"{one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
