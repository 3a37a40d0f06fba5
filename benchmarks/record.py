"""Write a result into book/results, with everything that is needed to run it again."""

import json
import os
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"
START = time.time()


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, no GPU"


def record(name: str, seed: int, **data) -> None:
    """Write book/results/NAME.json atomically."""
    command = ["python", str(Path(sys.argv[0]).resolve().relative_to(RESULTS.parents[1])), *sys.argv[1:]]
    result = {
        "command": shlex.join(command),
        "seed": seed,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("torch", "transformers")},
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
        "wall_seconds": round(time.time() - START, 1),
        **data,
    }
    RESULTS.mkdir(exist_ok=True)
    temporary = RESULTS / f".{name}.tmp"
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(RESULTS / f"{name}.json")
