"""A whole A3 model in one small file: each weight in 8 bits, one scale a row, with its config and its tokenizer.

A row w of a matrix becomes whole numbers q from -127 to 127 and one scale s, such that w is nearly s q: s is the
largest magnitude of the row divided by 127, and q is w / s rounded to the nearest, so no weight moves by more than
s / 2. The file is a safetensors container: the length of the header in 8 bytes, the header in JSON, then the numbers
as they are::

    NAME           int8 (R, C)      q of a matrix
    NAME.scale     float32 (R,)     s of its rows
    NAME           float32 (D,)     a vector, such as a norm's weight, as it is

The names are the model's; a head that is tied to the embedding has none of its own. Under "__metadata__" the header has
four texts: "format", "config" (the model's config.json), "tokenizer" (tokenizer.json) and "special_tokens". So nothing
but this file is needed, and a page's JavaScript reads it in a few lines. Vectors and scales come first, and begin at
a multiple of four bytes, as a Float32Array must.
"""

import copy
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from a3mini import runs, sources
from a3mini.model import A3Config, A3ForCausalLM

FORMAT = "a3mini, 8 bits, 1"  # a file of another layout has another number
FILE = "model.int8.safetensors"  # what such a file is called where it ships
SCALE, LARGEST = ".scale", 127
NUMBERS = torch.finfo(torch.float32)  # what a scale can be
TEXTS = ("config", "tokenizer", "special_tokens")


class Loaded(NamedTuple):
    """What a file holds."""

    model: A3ForCausalLM
    tokenizer: PreTrainedTokenizerFast


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (R, C) as int8 (R, C) and scales (R,), float32; ``scaled`` gives it back within half a scale.

    Raises:
        ValueError: it is no matrix of real numbers, or a number is not finite, or too large for float32.
    """
    if weight.dim() != 2 or not weight.is_floating_point():
        raise ValueError(f"a weight of 8 bits is a matrix of real numbers, got {weight.dtype} {tuple(weight.shape)}")
    exact = weight.detach().cpu().double()  # so that the quotient rounds to the right side of a half
    largest = exact.abs().amax(-1) if weight.numel() else exact.new_zeros(len(exact))
    if not (finite := largest.float().isfinite()).all():
        raise ValueError(f"row {int((~finite).nonzero()[0])} holds a number that is not finite in float32")
    # a row of zeros has a scale too; and 127 times the largest must not round to infinity
    scale = (largest / LARGEST).clamp(NUMBERS.tiny, NUMBERS.max / LARGEST * (1 - NUMBERS.eps)).float()
    whole = (exact / scale.double()[:, None]).round().clamp(-LARGEST, LARGEST)
    return whole.to(torch.int8), scale


def scaled(whole: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The matrix (R, C) of whole numbers, int8 (R, C), and scales, float32 (R,); the product is formed in float32."""
    return (whole.float() * scale[:, None]).to(dtype)


def save(model: A3ForCausalLM, tokenizer: PreTrainedTokenizerFast, file: str | Path) -> Path:
    """Write a model and its tokenizer into one file, whole or not at all.

    Args:
        model: A3, in any dtype, on any device; it is not changed.
        tokenizer: the model's, a fast one.
        file: its name ends with .safetensors; what is there is replaced.

    Raises:
        TypeError: ``model`` is not A3, or the tokenizer has no tokenizer.json.
        ValueError: another ending, or a weight that is not finite; it is named.
        OSError: the file cannot be written.
    """
    file = Path(file)
    if not isinstance(model, A3ForCausalLM):
        raise TypeError(f"model must be an A3ForCausalLM, got {type(model).__name__}")
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise TypeError(f"tokenizer must be a fast one, with a tokenizer.json; got {type(tokenizer).__name__}")
    if file.suffix != ".safetensors":
        raise ValueError(f"the name of such a file ends with .safetensors; got {file.name!r}")
    tensors = {}
    for name, weight in model.named_parameters():  # a tied head is named once
        if weight.dim() == 2:
            try:
                tensors[name], tensors[name + SCALE] = rounded(weight)
            except ValueError as error:
                raise ValueError(f"{name} cannot be rounded: {error}") from None
        else:
            tensors[name] = weight.detach().cpu().float().clone()
            if not tensors[name].isfinite().all():
                raise ValueError(f"{name} holds a number that is not finite in float32")
    special = dict(tokenizer.special_tokens_map)
    if more := [str(token) for token in tokenizer.extra_special_tokens]:
        special["extra_special_tokens"] = more
    config = copy.deepcopy(model.config)
    config.architectures, config.dtype = [A3ForCausalLM.__name__], torch.float32
    texts = {
        "format": FORMAT,
        "config": config.to_json_string(),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "special_tokens": json.dumps(special, ensure_ascii=False),
    }
    try:
        with runs.whole_file(file) as temporary:
            save_file(tensors, temporary, texts)
    except (OSError, SafetensorError) as error:
        raise OSError(f"the model could not be written to {file}: {error}") from error
    return file


def load(file: str | Path, dtype: torch.dtype = torch.float32) -> Loaded:
    """The model and the tokenizer that ``save`` wrote.

    Args:
        file: its path.
        dtype: of the model's weights.

    Returns:
        the model, in evaluation mode, on the CPU, and its tokenizer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or was not written by ``save``; what is wrong is named.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if found := sources.damage_of(file):
        raise ValueError(f"cannot read a model from {file}: {found}")
    with safe_open(file, framework="pt") as opened:
        texts = opened.metadata() or {}
        if texts.get("format") != FORMAT:
            raise ValueError(f"{file} is no model of 8 bits: its format is {texts.get('format')!r}, not {FORMAT!r}")
        try:
            model, tokenizer = _model(texts, dtype), _tokenizer(texts)
            weights = _weights(model, {name: opened.get_tensor(name) for name in opened.keys()}, dtype)
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}); get it again") from None
    model.load_state_dict(weights, strict=False, assign=True)  # all are there but the second name of a tied head
    model.tie_weights()
    return Loaded(model.eval(), tokenizer)


def _text(texts: dict[str, str], name: str):
    try:
        found = json.loads(texts.get(name, ""))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"its header has no valid {name!r}")
    return found


def _model(texts: dict[str, str], dtype: torch.dtype) -> A3ForCausalLM:
    """The model that the header describes, without any numbers yet."""
    settings = _text(texts, "config")
    if settings.get("model_type") != A3Config.model_type:
        raise ValueError(f"it holds a model of the type {settings.get('model_type')!r}, not {A3Config.model_type!r}")
    try:
        with torch.device("meta"):
            return A3ForCausalLM(A3Config.from_dict(settings | {"dtype": dtype})).to(dtype)
    except Exception as error:  # whatever a library makes of a setting that makes no sense
        raise ValueError(f"its config makes no model: {error!r:.300}") from None


def _tokenizer(texts: dict[str, str]) -> PreTrainedTokenizerFast:
    special = _text(texts, "special_tokens")
    _text(texts, "tokenizer")
    try:
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(texts["tokenizer"]), **special)
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"its tokenizer cannot be read: {error!r:.300}") from None


def _weights(model: A3ForCausalLM, tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The model's weights, by name; every tensor of the file finds its place."""
    expected = {}
    for name, weight in model.named_parameters():
        expected[name] = (torch.int8 if weight.dim() == 2 else torch.float32, tuple(weight.shape))
        if weight.dim() == 2:
            expected[name + SCALE] = (torch.float32, (len(weight),))
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            here, wanted = (_said(one.get(name)) for one in (found, expected))
            raise ValueError(f"the tensor {name} is {here}, and should be {wanted}")
        if not tensors[name].isfinite().all():
            raise ValueError(f"the tensor {name} holds a number that is not finite")
    return {
        name: scaled(tensors[name], tensors[name + SCALE], dtype) if weight.dim() == 2 else tensors[name].to(dtype)
        for name, weight in model.named_parameters()
    }


def _said(kind: tuple[torch.dtype, tuple[int, ...]] | None) -> str:
    return "missing" if kind is None else f"{str(kind[0]).removeprefix('torch.')} {kind[1]}"
