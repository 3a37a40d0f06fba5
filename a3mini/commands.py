"""What the commands train, adapt, evaluate and infill do, once ``cli`` has read their options."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from a3mini import adapter, decode, pretrained, runs
from a3mini.evaluate.held_out import GROUPINGS, HeldOut
from a3mini.evaluate.rivals import autoregressive_log_likelihood, bound_score
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.train import corpus, data
from a3mini.train.config import TrainConfig
from a3mini.train.curriculum import Curriculum, Grouping, generator_for
from a3mini.train.loop import train
from a3mini.train.recipes import AnyOrder, Autoregressive, MaskedDiffusion, MaskedDiffusionModel
from a3mini.train.tokens import vocabulary_size

SPLIT_SEED = 0  # the documents held out are the same for every --seed, so that runs can be compared
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def run(options: argparse.Namespace, argv: list[str]) -> None:
    """Run the command that ``options`` name; ``argv``, what they were read from, goes into the run's record.

    Raises:
        ValueError, OSError, FloatingPointError, SafetensorError, ImportError: as what it calls.
    """
    logging.disable_progress_bar()  # of reading and writing a model
    try:
        {"train": _train, "adapt": _adapt, "evaluate": _evaluate, "infill": _infill}[options.command](options, argv)
    except torch.OutOfMemoryError as error:
        raise ValueError(f"out of memory: use a smaller --batch-size or --micro-batch-size. {error}") from error
    finally:
        if PartialState._shared_state:  # nothing was started by evaluate and infill
            PartialState().destroy_process_group()


def _need(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        if not getattr(options, name):
            raise ValueError(f"--{name} is needed; a3mini {options.command} --help shows examples")


# --- train and adapt ------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace, argv: list[str]) -> None:
    _need(options, "text", "folder")
    shape = {
        "hidden_size": options.hidden_size,
        "intermediate_size": options.intermediate_size or 64 * max(1, round(options.hidden_size * 8 / 3 / 64)),
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads or options.heads,
        "max_position_embeddings": options.length,
        "tie_word_embeddings": True,
    }
    if min(shape.values()) < 1:
        sizes = ", ".join(f"{name}={value}" for name, value in shape.items())
        raise ValueError(f"the sizes of the model and the length must be positive, got {sizes}")
    if options.hidden_size % (2 * options.heads) or options.heads % shape["num_key_value_heads"]:
        raise ValueError(
            f"--hidden-size {options.hidden_size} must be a multiple of twice --heads {options.heads}, "
            f"and --heads of --kv-heads {shape['num_key_value_heads']}"
        )
    config, recipe, folder = _check_run(options)
    training, validation = _documents(options)
    if options.tokenizer:
        tokenizer = _tokenizer(options.tokenizer)
    else:
        tokenizer = data.train_tokenizer(training, options.vocab_size)
    bos, eos, _ = data.special_ids(tokenizer)
    shape |= {"vocab_size": vocabulary_size(tokenizer), "bos_token_id": bos, "eos_token_id": eos}
    torch.manual_seed(options.seed)
    if options.objective == "any-order":
        model = A3ForCausalLM(A3Config(**shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
        if options.objective == "diffusion":
            model = MaskedDiffusionModel.from_autoregressive(model)
    _run(options, argv, model, tokenizer, training, validation, config, recipe, folder)


def _adapt(options: argparse.Namespace, argv: list[str]) -> None:
    _need(options, "source", "text", "folder")
    config, recipe, folder = _check_run(options)
    training, validation = _documents(options)
    model, tokenizer, kind = _load(options.source, options.gguf_file)
    if kind != "autoregressive":
        raise ValueError(f"{options.source} is {kind} already; --source is an autoregressive model")
    if options.objective == "any-order":
        model = pretrained.from_autoregressive(model)
    elif options.objective == "diffusion":
        model = MaskedDiffusionModel.from_autoregressive(model)
    _run(options, argv, model, tokenizer, training, validation, config, recipe, folder)


def _check_run(options: argparse.Namespace):
    """Everything that can be checked before any work."""
    config = TrainConfig(**{f.name: getattr(options, f.name) for f in fields(TrainConfig) if hasattr(options, f.name)})
    if options.objective == "any-order":
        is_file = Path(options.curriculum).suffix in (".yaml", ".yml", ".json")
        recipe = AnyOrder(Curriculum.load(options.curriculum) if is_file else Curriculum.preset(options.curriculum))
    else:
        recipe = Autoregressive() if options.objective == "autoregressive" else MaskedDiffusion()
    folder = Path(options.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the folder {folder} cannot be made ({error}); choose another --folder") from error
    return config, recipe, folder


def _documents(options: argparse.Namespace) -> tuple[list, list]:
    """Training and held-out documents; the latter may be none."""
    how = {"column": options.column, "split": options.split, "separator": options.separator, "limit": options.limit}
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {options.limit}")
    if options.held_out_rows < 1:
        raise ValueError(f"--held-out-rows must be at least 1, got {options.held_out_rows}; see --validation 0")
    found = corpus.documents(*options.text, **how)
    if options.validation_text:
        held_out = corpus.documents(*options.validation_text, **how)
        known = {story.text for story in held_out}
        found = [story for story in found if story.text not in known]
        if not found:
            raise ValueError("every document of --text is in --validation-text; nothing is left to train on")
        return found, held_out
    if options.validation == 0:
        return found, []
    if len(found) == 1:
        raise ValueError(
            "the text is one document, which cannot be divided into training and held-out text; give --separator, "
            "--validation-text, or --validation 0"
        )
    return corpus.split_documents(found, options.validation, SPLIT_SEED)


def _run(options, argv, model, tokenizer, training, validation, config, recipe, folder) -> None:
    data.check_vocabulary(tokenizer, model.config.vocab_size)
    _check_length(options, model)
    blocks = data.pack(training, tokenizer, options.length)
    held_out = None
    if validation:
        held_out = _held_out(options, validation, tokenizer, options.objective, min(32, options.batch_size))
    say = print if PartialState().is_main_process else lambda *_: None
    weights = sum(weight.numel() for weight in model.parameters())
    say(f"{weights:,} weights, {len(blocks.input_ids):,} rows, {int(blocks.lengths.sum()):,} tokens")
    command = {"arguments": argv, "options": vars(options)}
    # both None in a3mini train, which has neither option
    source, start = getattr(options, "source", None), getattr(options, "adapter", None)
    about = {"command": command, "source": source or "", "start": start}
    metrics = train(model, recipe, blocks, config, folder, held_out, options.quiet, **about)
    _save(model, tokenizer, folder / "model")
    if held_out:
        first, last = metrics[0], metrics[-1]
        say("held-out loss, nats per token" + " " * 8 + "before    after")
        for name in held_out.tokens:
            say(f"  {name:<32}{first[name]:>9.3f}{last[name]:>9.3f}")
    say(f"model and tokenizer: {folder / 'model'}")
    if config.lora_rank:
        say(f"adapter: {folder / 'adapter'}")


def _save(model, tokenizer, final: Path) -> None:
    """Model and tokenizer in one folder, whole or not there."""
    sharded = any(isinstance(weight, DTensor) for weight in model.parameters())
    weights = get_model_state_dict(model, options=WHOLE) if sharded else model.state_dict()  # every process takes part
    if PartialState().is_main_process:
        # a plain model: transformers does not save one that it has read from a GGUF file, nor one in shards
        with torch.device("meta"):
            plain = type(model)(model.config)
        plain.load_state_dict(weights, assign=True)
        plain.tie_weights()
        try:
            with runs.whole_folder(final) as partial:
                plain.save_pretrained(partial)
                tokenizer.save_pretrained(partial)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"the model could not be written to {final}: {error}. Free some space and start the same command "
                "again; the training itself is saved"
            ) from error
    PartialState().wait_for_everyone()


# --- evaluate and infill --------------------------------------------------------------------------------------


def _evaluate(options: argparse.Namespace, argv: list[str]) -> None:
    _need(options, "model", "text")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    training, validation = _documents(options)
    model, tokenizer, kind = _load(options.model, options.gguf_file)
    data.check_vocabulary(tokenizer, model.config.vocab_size)
    _check_length(options, model)
    held_out = _held_out(options, validation or training, tokenizer, kind, options.batch_size)
    found = held_out(model.to(_device()))
    print(f"{'grouping':<34}{'nats per token':>14}{'tokens':>10}")
    for name, loss in found.items():
        print(f"{name:<34}{loss:>14.3f}{held_out.tokens[name]:>10,}")
    if options.json:
        losses = {name: {"nats_per_token": loss, "tokens": held_out.tokens[name]} for name, loss in found.items()}
        about = {"arguments": argv, "options": vars(options)}
        machine = {"hardware": runs.hardware(), "versions": runs.versions()}
        runs.write_json(Path(options.json), {"kind": kind, "losses": losses, "command": about, **machine})


def _held_out(options, documents: list, tokenizer, kind: str, batch_size: int) -> HeldOut:
    """The losses that a kind of model has, on some rows of the documents."""
    try:
        rows = data.pack(documents, tokenizer, options.length)
    except ValueError as error:
        raise ValueError(f"held-out text: {error}") from error
    chosen = torch.randperm(len(rows.input_ids), generator=generator_for(SPLIT_SEED))[: options.held_out_rows]
    rows = rows.rows(chosen.sort().values)
    if kind == "autoregressive":
        groupings = {"left to right": Grouping("blocks"), "a span (left side only)": Grouping("span")}
        return HeldOut(rows, groupings, batch_size=batch_size, score=autoregressive_log_likelihood)
    if kind == "diffusion":
        groupings = {"random order (bound)": Grouping("shuffled")}
        return HeldOut(rows, groupings, batch_size=batch_size, score=bound_score)
    return HeldOut(rows, GROUPINGS, batch_size=batch_size)


def _infill(options: argparse.Namespace, argv: list[str]) -> None:
    _need(options, "model")
    text = sys.stdin.read().rstrip("\n") if options.blanks is None else options.blanks
    if options.blank not in text:
        raise ValueError(f"there is no blank in the text; write {options.blank!r} where something is missing")
    if options.trace and not Path(options.trace).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {Path(options.trace).parent} for --trace {options.trace}")
    model, tokenizer, kind = _load(options.model)
    if kind != "any-order":
        raise ValueError(f"{options.model} is {kind}; a3mini adapt makes an A3 model of an autoregressive one")
    model = model.to(_device())
    generator = torch.Generator(model.device).manual_seed(options.seed)
    names = ("blank", "tokens_per_blank", "size", "order", "temperature", "known_order", "top_k", "top_p",
             "repetition_penalty")  # fmt: skip
    how = {name: getattr(options, name) for name in names}
    filled = decode.infill(model, tokenizer, text, generator=generator, **how)
    print(filled)
    if options.trace:
        runs.write_text(Path(options.trace), filled.trace.to_json(tokenizer) + "\n")


def _load(source: str, gguf_file: str | None = None):
    """A model, its tokenizer, and which objective it was trained with."""
    if source == "small":
        small = pretrained.small_model()
        return small.autoregressive, small.tokenizer, "autoregressive"
    if source == "compact":
        compact = pretrained.compact_model()
        return compact.model, compact.tokenizer, "any-order"
    path = Path(source)
    if source in pretrained.ADAPTERS or (path / adapter.RECORD).is_file():
        adapted = pretrained.adapted_model(source)
        return adapted.model, adapted.tokenizer, "any-order"
    if source.count("/") != 1 or path.parent.is_dir():  # else it is a hub id
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {source}; a finished run's model is in FOLDER/model")
        if gguf_file is None and not (path / "config.json").is_file():
            raise FileNotFoundError(f"{source} holds no model (config.json); a finished run's model is in FOLDER/model")
    tokenizer = _tokenizer(source, gguf_file)
    config = AutoConfig.from_pretrained(source, gguf_file=gguf_file)
    if config.model_type == A3Config.model_type:
        return A3ForCausalLM.from_pretrained(source).eval(), tokenizer, "any-order"
    if MaskedDiffusionModel.__name__ in (config.architectures or ()):
        return MaskedDiffusionModel.from_pretrained(source).eval(), tokenizer, "diffusion"
    return pretrained.load_autoregressive(source, gguf_file), tokenizer, "autoregressive"


def _tokenizer(source: str, gguf_file: str | None = None):
    try:
        return AutoTokenizer.from_pretrained(source, **({"gguf_file": gguf_file} if gguf_file else {}))
    except (OSError, ValueError, KeyError) as error:
        raise OSError(
            f"cannot read a tokenizer from {source}: there is no such folder, so it was looked up on the hub. "
            f"Is it spelled right, and is the hub reachable? What went wrong: {error}"
        ) from error


def _check_length(options: argparse.Namespace, model) -> None:
    limit = model.config.max_position_embeddings
    if options.length > limit:
        raise ValueError(f"--length {options.length} is more than the {limit} positions of the model")


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
