"""Put a trained model into the package as its compact model, with a model card made of the run's own record.

The model that ships was made by these three commands:

    python benchmarks/study.py    (its first step: the autoregressive model in checkpoints/study/pretrained)
    a3mini adapt --source checkpoints/study/pretrained --text bible-bbe andersen --curriculum spans --steps 1200
        --batch-size 16 --learning-rate 1.5e-3 --precision bf16 --eval-every 200 --save-every 100
        --folder checkpoints/compact
    python -m tools.models.compact_model checkpoints/compact checkpoints/study/pretraining
"""

import shutil
import sys
from pathlib import Path

import torch

from a3mini import A3ForCausalLM, runs, sources
from a3mini.evaluate import GROUPINGS
from a3mini.pretrained import COMPACT_MODEL
from tools.models.card import write_card


def main(arguments: list[str]) -> None:
    run, pretraining = map(Path, arguments)
    model = A3ForCausalLM.from_pretrained(run / "model")
    tokenizer = sources.tokenizer(run / "model")
    shutil.rmtree(COMPACT_MODEL, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(COMPACT_MODEL)
    tokenizer.save_pretrained(COMPACT_MODEL)
    write_card(
        COMPACT_MODEL,
        "compact_model.md.j2",
        run,
        weights=sum(weight.numel() for weight in model.parameters()),
        first=runs.read_metrics(pretraining)[-1],
        groupings=GROUPINGS,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
