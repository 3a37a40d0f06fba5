"""Write a result into book/results, with everything that is needed to run it again.

The variable A3_RESULTS names another folder, as ``make gpu-run`` does.
"""

import json
import os
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from a3mini import runs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(os.environ.get("A3_RESULTS") or ROOT / "book" / "results")
START = time.time()


def command_line() -> str:
    """How this process was started; of the files outside the repository only the names, for they lie elsewhere."""
    arguments = [Path(one).name if Path(one).is_absolute() else one for one in sys.argv[1:]]
    spec = sys.modules["__main__"].__spec__  # ``python -m tools.site.book`` has one, a script has none
    as_module = spec is not None and spec.name.startswith("tools.")
    program = ["-m", spec.name] if as_module else [str(Path(sys.argv[0]).resolve().relative_to(ROOT))]
    return shlex.join(["python", *program, *arguments])


def provenance(seed: int, wall_seconds: float | None = None) -> dict:
    """How a result is being made; ``wall_seconds`` where the work took more or less than this process."""
    return {
        "command": command_line(),
        "seed": seed,
        "versions": runs.versions(),
        "hardware": runs.hardware(),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
        "wall_seconds": round(wall_seconds or time.time() - START, 1),
    }


def record(name: str, seed: int, wall_seconds: float | None = None, **data) -> None:
    """Write book/results/NAME.json atomically, with its ``provenance``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    runs.write_json(RESULTS / f"{name}.json", provenance(seed, wall_seconds) | data)


def renew(name: str, what: str, seed: int, wall_seconds: float | None = None, **data: dict) -> None:
    """Measure a part of a stored result anew; the rest stays, and "renewed" says which part is from when.

    Args:
        name: of the result; nothing is written where there is none.
        what: the part, and what was done with it, as before "by `command`".
        data: by key what takes the place of entries of the same names in the stored dicts, or the place of a value.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    for key, new in data.items():
        stored[key] = stored[key] | new if isinstance(new, dict) else new
    before = [one for one in stored.get("renewed", []) if one["what"] != what]
    renewed = [*before, provenance(seed, wall_seconds) | {"what": what}]
    runs.write_json(path, stored | {"renewed": renewed})
