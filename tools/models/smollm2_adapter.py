"""Put a trained adapter into the package as ``smollm2-a3``, with a model card made of the run's own record.

    python benchmarks/adaptation.py losses
    python -m tools.models.smollm2_adapter checkpoints/adaptation/a3-1 checkpoints/adaptation/a3

The folders are those of the runs, in their order; the adapter is that of the last. (A run is one line of the card.)
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

from a3mini import adapter, runs
from a3mini.groups import KNOWN_ORDERS
from a3mini.pretrained import ADAPTERS, PACKAGED_MODEL
from tools import ROOT
from tools.models.card import write_card

LARGEST = 30 * 2**20  # bytes


def main(arguments: list[str]) -> None:
    legs = [Path(argument) for argument in arguments]
    trained = legs[-1] / "adapter"
    tensors, about = adapter.read(trained)
    size = (trained / adapter.WEIGHTS).stat().st_size
    if size > LARGEST:
        sys.exit(f"the adapter has {size / 2**20:.1f} MiB, more than {LARGEST / 2**20:.0f}; train a smaller rank")
    records = [json.loads((leg / "run.json").read_text()) for leg in legs]
    result = json.loads((ROOT / "book" / "results" / "adaptation.json").read_text())
    if result["arms"]["a3"]["tokens"] != about["tokens"]:
        sys.exit("book/results/adaptation.json is of another adapter; run `python benchmarks/adaptation.py losses`")
    about["known_order"] = records[-1]["known_order"]
    about["commands"] = [record["command"]["line"] for record in records]
    ours = partial(runs.holds_only, names=(adapter.WEIGHTS, adapter.RECORD, "README.md"))
    with runs.whole_folder(ADAPTERS["smollm2-a3"], ours) as written:
        shutil.copy(trained / adapter.WEIGHTS, written)
        runs.write_json(written / adapter.RECORD, about)
        write_card(
            written,
            "smollm2_adapter.md.j2",
            legs[-1],
            weights=sum(tensor.numel() for tensor in tensors.values()),
            package=PACKAGED_MODEL.replace("_", "-"),
            legs=[(record, runs.read_metrics(leg)[-1]["step"]) for leg, record in zip(legs, records, strict=True)],
            about=about,
            result=result,
            before=[result["losses"][f"untouched A3, given tokens {order}"] for order in KNOWN_ORDERS],
            after=[result["losses"][f"a3, given tokens {order}"] for order in KNOWN_ORDERS],
        )


if __name__ == "__main__":
    main(sys.argv[1:])
