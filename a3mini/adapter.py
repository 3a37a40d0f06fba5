"""An adaptation as a small file: low-rank additions, the added vector, and the one source that they belong to.

LoRA (Hu et al. 2021) leaves each weight W of the source alone and trains W + scale * B A with two narrow matrices. So
an adapted model is its source plus a few megabytes. A folder holds these::

    adapter.safetensors   A and B of every linear layer, and the vector that the source does not have
    adapter.json          kind of model, scale, the source's name and fingerprint, and how it was trained

The additions make sense on the very weights they were trained with, and nowhere else. So the folder keeps a
fingerprint of those weights, and other weights are refused.
"""

import hashlib
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from a3mini import runs
from a3mini.rows import check_query_start

WEIGHTS, RECORD = "adapter.safetensors", "adapter.json"
DOWN, UP = ".lora_A", ".lora_B"  # A (rank, in) and B (out, rank)
ADDED = ("query_embedding", "mask_embedding")  # vectors that the source does not have


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of the source's weights: names, shapes, dtypes and bytes, but for the vectors that we add.

    Args:
        model: the source itself, or what was made of it before any training; they have the same fingerprint.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):  # a tied head is named once
        if name.endswith(ADDED):
            continue
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def save(
    folder: str | Path, trained: dict[str, Tensor], scale: float, source: str, record: dict, dtype=torch.bfloat16
) -> Path:
    """Write an adapter, whole or not at all.

    Args:
        folder: is replaced if it holds an adapter and nothing else.
        trained: what was trained, by name: "model.layers.0.mlp.up_proj.lora_A" (rank, in), the same with "lora_B"
            (out, rank), and the added vector.
        scale: alpha / rank.
        source: fingerprint of the source.
        record: kind, source's name, training; JSON. ``apply`` notes "known_order", "query_start" and
            "empty_token_id" in the model's config, if they are there.
        dtype: of the file.

    Raises:
        ValueError: additions without a partner.
        OSError: the folder cannot be written, or holds something else.
    """
    _pairs(trained)
    folder = Path(folder)
    copies = {name: value.detach().cpu().to(dtype).clone() for name, value in trained.items()}
    try:
        with runs.whole_folder(folder, partial(runs.holds_only, names=(WEIGHTS, RECORD))) as written:
            save_file(copies, written / WEIGHTS)
            runs.write_json(written / RECORD, {"scale": scale, "source_fingerprint": source, **record})
    except runs.NotOurs:
        raise
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"the adapter could not be written to {folder}: {error}; free some space and try again"
        ) from error
    return folder


def read(folder: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the record of an adapter.

    Raises:
        FileNotFoundError: there is none in ``folder``.
        ValueError: a file is damaged.
    """
    folder = Path(folder)
    missing = [name for name in (WEIGHTS, RECORD) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} holds no adapter: {' and '.join(missing)} not found")
    try:
        record = runs.read_json(folder / RECORD, {"scale": (int, float), "source_fingerprint": str})
        check_query_start(query_start(record))
        return load_file(folder / WEIGHTS), record
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"the adapter {folder} is damaged ({error}); get it again") from error


@torch.no_grad()
def apply(model: nn.Module, folder: str | Path) -> dict:
    """Add an adapter to a model made of its source, in place: W becomes W + scale * B A.

    Args:
        model: of the kind the adapter was trained on, with the source's untouched weights.
        folder: what ``save`` wrote.

    Returns:
        the adapter's record.

    Raises:
        FileNotFoundError, ValueError: as ``read``; another source; tensors that do not fit. The model is untouched.
    """
    trained, record = read(folder)
    _check_source(folder, record, fingerprint(model))
    weights = dict(model.named_parameters())
    additions = {f"{name}.weight": pair for name, pair in _pairs(trained).items()}
    vectors = {name: value for name, value in trained.items() if name.endswith(ADDED)}
    shapes = {name: (up.shape[0], down.shape[1]) for name, (down, up) in additions.items()}
    shapes |= {name: tuple(value.shape) for name, value in vectors.items()}
    wrong = [name for name, shape in shapes.items() if name not in weights or tuple(weights[name].shape) != shape]
    if wrong:
        raise ValueError(f"the adapter {folder} does not fit {type(model).__name__}: {', '.join(sorted(wrong)[:5])}")
    for name, (down, up) in additions.items():
        weight = weights[name]
        weight += record["scale"] * (up.to(weight) @ down.to(weight))
    for name, value in vectors.items():
        weights[name].copy_(value)
    for name in ("known_order", "empty_token_id"):
        if name in record:
            setattr(model.config, name, record[name])
    if hasattr(model.config, "query_start"):
        model.config.query_start = query_start(record)
    return record


def query_start(record: dict) -> str:
    """What the query rows started from in an adapter's training; an older record does not say: then there was one."""
    return record.get("query_start", "vector")


@torch.no_grad()
def go_on_from(
    folder: str | Path, source: str, weights: dict[str, Tensor], scale: float, start: str | None = None
) -> dict:
    """Copy an adapter's tensors into the additions of a model that is to be trained further.

    Args:
        folder: what ``save`` wrote.
        source: fingerprint of the model's untouched weights.
        weights: the additions, by the adapter's names; written in place.
        scale: of the additions, alpha / rank.
        start: what the model's query rows start from; None: it has none.

    Returns:
        the adapter's record.

    Raises:
        FileNotFoundError, ValueError: as ``read``; another source, scale, rank or start, or other tensors.
    """
    trained, record = read(folder)
    _check_source(folder, record, source)
    if start is not None and start != query_start(record):
        raise ValueError(
            f'the adapter {folder} was trained with query rows that start from "{query_start(record)}", but those of '
            f'this model start from "{start}"; go on with the adapter\'s query_start'
        )
    shapes = {name: tuple(value.shape) for name, value in trained.items()}
    if shapes != {name: tuple(value.shape) for name, value in weights.items()} or record["scale"] != scale:
        raise ValueError(
            f"the adapter {folder} has rank {record.get('rank')} and scale {record['scale']}; go on with the same "
            "lora_rank and lora_alpha, on the same kind of model"
        )
    for name, value in trained.items():
        weights[name].copy_(value)
    return record


def _check_source(folder: str | Path, record: dict, found: str) -> None:
    if found != record["source_fingerprint"]:
        raise ValueError(
            f"the adapter {folder} was trained on {record.get('source') or 'other weights'} with fingerprint "
            f"{record['source_fingerprint'][:12]}, but these weights have {found[:12]}; load it on that model"
        )


def _pairs(trained: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """The module's name to its A and B."""
    names = {name.removesuffix(ending) for name in trained for ending in (DOWN, UP) if name.endswith(ending)}
    alone = [name for name in names if name + DOWN not in trained or name + UP not in trained]
    strange = [name for name in trained if not name.endswith((DOWN, UP, *ADDED))]
    if alone or strange:
        raise ValueError(f"not the tensors of an adapter: {', '.join(sorted([*alone, *strange])[:5])}")
    return {name: (trained[name + DOWN], trained[name + UP]) for name in names}
