"""Put the adapter that ``benchmarks/gpu_lab.py`` trained into the package as ``smollm2-a3-warm``, with a model card.

    python -m tools.models.smollm2_warm_adapter OUT/warm

The numbers of the card are those of book/results/gpu_lab.json, which ``gpu_lab.py report`` writes.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

from a3mini import adapter, runs
from a3mini.pretrained import ADAPTERS, PACKAGED_MODEL
from tools import ROOT
from tools.models.card import render


def main(arguments: list[str]) -> None:
    trained = Path(arguments[0])
    tensors, about = adapter.read(trained)
    result = json.loads((ROOT / "book" / "results" / "gpu_lab.json").read_text())
    arm = result["arms"]["warm"]
    if arm["curve"][-1]["tokens"] != about["tokens"]:
        sys.exit("book/results/gpu_lab.json is of another adapter; run `python benchmarks/gpu_lab.py report`")
    about |= {"seconds": arm["curve"][-1]["seconds"], "commands": [result["command"]]}
    about.pop("empty_token_id", None)  # it has not learned to end blanks: see the card
    weights = sum(tensor.numel() for tensor in tensors.values())
    card = render("smollm2_warm_adapter.md.j2", weights=weights, package=PACKAGED_MODEL.replace("_", "-"),
                  about=about, result=result, settings=arm["settings"], losses=result["losses"]["warm"])  # fmt: skip
    ours = partial(runs.holds_only, names=(adapter.WEIGHTS, adapter.RECORD, "README.md"))
    with runs.whole_folder(ADAPTERS["smollm2-a3-warm"], ours) as written:
        shutil.copy(trained / adapter.WEIGHTS, written)
        runs.write_json(written / adapter.RECORD, about)
        (written / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
