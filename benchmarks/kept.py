"""Partial results, so that a run that was stopped goes on: one file for each, named after the settings that made it.

Where the variable A3_RESULTS names another folder for results (``record``), partial ones go there, too: what a borrowed
machine gives back is that folder.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import torch
from timing import clock

from a3mini import runs


def digest(*parts) -> str:
    """A short mark of some values, or of bytes."""
    made = hashlib.sha256()
    for part in parts:
        made.update(part if isinstance(part, bytes) else repr(part).encode())
    return made.hexdigest()[:16]


def weights_of(model) -> str:
    """A mark of all weights, so that what other weights gave is not taken for theirs."""
    weights = (weight.detach().cpu().contiguous().flatten().view(torch.uint8) for weight in model.parameters())
    return digest(*(weight.numpy().tobytes() for weight in weights))


def place(folder: Path) -> Path:
    """Where the partial results of ``folder`` lie."""
    return Path(os.environ.get("A3_RESULTS") or "") / folder


class NotFinished(Exception):
    """A training that --finished would have to do: what ``make`` raises then."""


def kept(folder: Path, name: str, settings: dict, make: Callable[[], dict]) -> dict:
    """What ``make`` returns and its ``wall_seconds``, from ``folder`` if it was made before with the same settings."""
    plain = re.sub("[^a-z0-9]+", "-", name.lower())  # a name that is fit for a file
    folder = place(folder)
    path = folder / f"{plain}-{digest(json.dumps(settings, sort_keys=True).encode())}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        seconds, made = clock(make)
        runs.write_json(path, {"settings": settings, "wall_seconds": seconds, **made})
    return json.loads(path.read_text())
