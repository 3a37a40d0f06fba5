"""A GGUF file, dequantised once: transformers needs most of a minute for 135 million weights, safetensors a second.

The same weights, bit for bit, with config and tokenizer, stand in the user's cache folder from the second time on::

    A3MINI_CACHE/gguf-LAYOUT-SIZE-SHA256/   default: $XDG_CACHE_HOME/a3mini or ~/.cache/a3mini; "off": nowhere
        model.safetensors, config.json, tokenizer files
        whole.json                          size and checksum of each

It can be removed at any time. Nothing depends on it: what is damaged is made anew, and where nothing can be written
the file is read the slow way. Two processes may fill it at once; the first to end is the one that counts.
"""

import os
import shutil
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from a3mini import runs, sources

VARIABLE = "A3MINI_CACHE"
LAYOUT = 1  # of the folder; a new number makes every folder anew
RECORD = "whole.json"
CHUNK = 2**24  # bytes
STALE = 3600  # seconds; nobody needs so long to write


def home() -> Path | None:
    """The cache folder; None: there is none, or the user wants none."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        return None if chosen.lower() == "off" else Path(chosen).expanduser()
    with suppress(RuntimeError):  # a user without a home
        general = Path(os.environ.get("XDG_CACHE_HOME") or "")
        return (general if general.is_absolute() else Path.home() / ".cache") / "a3mini"
    return None


def load(file: Path, dtype: torch.dtype, slowly: Callable[[torch.dtype], tuple]) -> tuple[LlamaForCausalLM, object]:
    """A GGUF file's model and tokenizer, from the cache if it can be.

    Args:
        file: the GGUF file.
        dtype: of the weights.
        slowly: what reads the file itself, in a dtype; its errors are passed on.
    """
    folder = home()
    if folder is None or not file.is_file():
        return slowly(dtype)
    folder /= f"gguf-{LAYOUT}-{file.stat().st_size}-{runs.sha256(file)}"
    with suppress(OSError, ValueError):
        return _read(folder, dtype)
    loaded = slowly(torch.float32)  # which holds every dequantised weight exactly, and so serves every dtype
    if _keep(folder, *loaded):
        with suppress(OSError, ValueError):
            return _read(folder, dtype)
    return loaded if dtype == torch.float32 else slowly(dtype)


def _read(folder: Path, dtype: torch.dtype) -> tuple[LlamaForCausalLM, object]:
    """What ``_keep`` wrote; a ValueError or OSError where anything is missing or damaged."""
    if runs.read_json(folder / RECORD) != _contents(folder):
        raise ValueError(f"{folder} is damaged")
    return sources.model(LlamaForCausalLM, folder, dtype=dtype), sources.tokenizer(folder)


def _keep(folder: Path, model: LlamaForCausalLM, tokenizer) -> bool:
    """Write a folder whole or not at all; whether it is there now. A full or read-only disk is no reason to fail."""
    config = model.config.__class__.from_dict(model.config.to_dict())
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    try:
        for old in folder.parent.glob(f"{runs.PARTIAL}*"):  # of a process that was killed, and is not writing still
            if time.time() - old.stat().st_mtime > STALE:
                shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or we would not be here
        # a name of its own, for another process may do the same
        with runs.whole_folder(folder, written=folder.with_name(f"{runs.PARTIAL}{uuid4().hex}")) as partial:
            # a tied head is named once; transformers does not save a model that it has read from a GGUF file
            weights = {name: weight.detach() for name, weight in model.named_parameters()}
            save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
            config.save_pretrained(partial)
            model.generation_config.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            runs.write_json(partial / RECORD, _contents(partial))
    except (OSError, ValueError, SafetensorError):
        return (folder / RECORD).is_file()
    return True


def _contents(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of each file. It finds accidents, which need no cryptography, in a quarter of a second."""
    found = {}
    for file in sorted(folder.iterdir()):
        if file.name != RECORD:
            checksum = 0
            with file.open("rb") as opened:
                while part := opened.read(CHUNK):
                    checksum = zlib.crc32(part, checksum)
            found[file.name] = [file.stat().st_size, checksum]
    return found
