"""What the commands train and adapt do, once ``cli`` has read their options; they need the extra ``train``."""

import argparse
import os
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from a3mini import adapter, pretrained, runs, sources
from a3mini.loading import announce, load, settle_length
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.train import data
from a3mini.train.config import TrainConfig
from a3mini.train.curriculum import Curriculum
from a3mini.train.loop import train
from a3mini.train.mixture import Weighted
from a3mini.train.overlap import WORDS
from a3mini.train.recipes import AnyOrder, Autoregressive, MaskedDiffusion, MaskedDiffusionModel
from a3mini.train.resume import MARK, RECORD, check_folder, check_made, held_run
from a3mini.train.tokens import vocabulary_size
from a3mini.using import cache, documents, need
from a3mini.using import held_out as held_out_losses

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def run(options: argparse.Namespace, argv: list[str]) -> None:
    """Run the command that ``options`` name; ``argv``, what they were read from, goes into the run's record.

    Raises:
        ValueError, OSError, FloatingPointError, SafetensorError, ImportError: as what it calls.
    """
    logging.disable_progress_bar()  # of reading and writing a model
    try:
        {"train": _train, "adapt": _adapt}[options.command](options, argv)
    finally:
        if PartialState._shared_state:  # nothing was started before an early error
            PartialState().destroy_process_group()


def _train(options: argparse.Namespace, argv: list[str]) -> None:
    need(options, "text", "folder")
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
    training, validation = documents(options)
    if options.tokenizer:
        announce(options.tokenizer)
        tokenizer = sources.tokenizer(options.tokenizer)
    else:
        tokenizer = data.train_tokenizer(training.documents, options.vocab_size)
    bos, eos, _ = data.special_ids(tokenizer)
    shape |= {"vocab_size": vocabulary_size(tokenizer), "bos_token_id": bos, "eos_token_id": eos}
    torch.manual_seed(options.seed)
    if options.objective == "any-order":
        known_order = options.known_order or A3Config.known_order
        model = A3ForCausalLM(A3Config(**shape, query_start=options.query_start or "vector", known_order=known_order))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
        if options.objective == "diffusion":
            model = MaskedDiffusionModel.from_autoregressive(model)
    _run(options, argv, model, tokenizer, training, validation, config, recipe, folder)


def _adapt(options: argparse.Namespace, argv: list[str]) -> None:
    need(options, "source", "text", "folder")
    config, recipe, folder = _check_run(options)
    training, validation = documents(options)
    model, tokenizer, kind = load(options.source, options.gguf_file)
    if kind not in ("autoregressive", options.objective):
        raise ValueError(
            f"{options.source} is {kind} already; --source is autoregressive, or --objective is {kind} too"
        )
    if kind != "autoregressive" and options.lora_rank:
        raise ValueError(f"{options.source} is {kind}; additions belong to an autoregressive source: --lora-rank 0")
    if kind != options.objective:  # else it is trained further
        start = options.query_start or "previous"
        if options.adapter and not options.query_start:  # it goes on as it was trained
            start = adapter.query_start(adapter.read(options.adapter)[1])
        known_order = options.known_order or "left_to_right"  # as the source; an adapter's own goes before it
        warm = partial(pretrained.from_autoregressive, query_start=start, known_order=known_order)
        make = {"any-order": warm, "diffusion": MaskedDiffusionModel.from_autoregressive}
        model = make[options.objective](model)
    elif options.query_start and options.query_start != model.config.query_start:
        raise ValueError(
            f"--query-start {options.query_start} does not fit {options.source}, whose query rows start from "
            f'"{model.config.query_start}"; leave the option out to train it further'
        )
    _run(options, argv, model, tokenizer, training, validation, config, recipe, folder)


def _check_run(options: argparse.Namespace):
    """Everything that can be checked before any work."""
    config = TrainConfig(**{f.name: getattr(options, f.name) for f in fields(TrainConfig) if hasattr(options, f.name)})
    if options.objective == "any-order":
        is_file = Path(options.curriculum).suffix in (".yaml", ".yml", ".json")
        curriculum = Curriculum.load(options.curriculum) if is_file else Curriculum.preset(options.curriculum)
        recipe = AnyOrder(curriculum, options.known_order)  # None: as the model, or the adapter, says
        if options.empty_token and not curriculum.has_room:
            raise ValueError(
                f"--empty-token ends blanks early, but in the curriculum {options.curriculum} they have no spare room; "
                "take the curriculum blanks, or leave the option out"
            )
    elif options.empty_token:
        raise ValueError(f"--empty-token is for --objective any-order; {options.objective} fills no blanks")
    elif options.query_start:
        raise ValueError(f"--query-start is for --objective any-order; {options.objective} has no query stream")
    elif options.known_order:
        raise ValueError(f"--known-order is for --objective any-order; {options.objective} has no known tokens")
    else:
        recipe = Autoregressive() if options.objective == "autoregressive" else MaskedDiffusion()
    folder = Path(options.folder)
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OSError(f"nothing can be written to {folder}: {above} is no folder of yours; choose another --folder")
    check_folder(folder)
    return config, recipe, folder


def _run(options, argv, model, tokenizer, training, validation, config, recipe, folder) -> None:
    data.check_vocabulary(tokenizer, model.config.vocab_size)
    if isinstance(recipe, AnyOrder) and recipe.curriculum.has_room:
        own = adapter.read(options.adapter)[1] if getattr(options, "adapter", None) else vars(model.config)
        if options.empty_token or own.get("empty_token_id") is None:  # else the model goes on with its own
            embeddings = model.get_input_embeddings().weight
            recipe.empty_token_id = data.empty_token(tokenizer, embeddings, options.empty_token)
    settle_length(options, model)
    blocks, visits = training.pack(tokenizer, options.length, cache(options))
    held_out = None
    if validation:
        held_out = held_out_losses(options, validation, tokenizer, options.objective, min(32, options.batch_size))
    say = print if PartialState().is_main_process else lambda *_: None
    weights = sum(weight.numel() for weight in model.parameters())
    say(f"{weights:,} weights, {len(blocks.input_ids):,} rows, {int(blocks.lengths.sum()):,} tokens")
    about = {"tokenizer": data.tokenizer_fingerprint(tokenizer), **_about_text(options, training)}
    if "mixture" in about:
        tokens = training.tokens(blocks)
        for (name, passes), count in zip(training.mixture.weights.items(), tokens.values(), strict=True):
            share = count / sum(tokens.values())
            say(f"  {passes:g} times {name}: {count:,} tokens in a pass, {share:.1%}")
    if training.dropped:
        say(f"{training.dropped:,} documents were left out: they share {WORDS} words in a row with --keep-out")
    command = {"arguments": argv, "options": vars(options)}
    # both None in a3mini train, which has neither option
    source, start = getattr(options, "source", None), getattr(options, "adapter", None)
    how = {"command": command, "source": source or "", "start": start, "about": about, "visits": visits}
    with held_run(folder):
        last = runs.latest_checkpoint(folder / "checkpoints")
        metrics = train(model, recipe, blocks, config, folder, held_out, options.quiet, **how)
        if last and last.name == f"step-{config.steps}":
            say(f"the run in {folder} was finished: nothing was trained. To train its model further: a3mini adapt")
        _save(model, tokenizer, folder / "model", folder / RECORD)
    if held_out:
        first, last = metrics[0], metrics[-1]
        say("held-out loss, nats per token" + " " * 8 + "before    after")
        for name in held_out.tokens:
            say(f"  {name:<32}{first[name]:>9.3f}{last[name]:>9.3f}")
    say(f"model and tokenizer: {folder / 'model'}")
    if config.lora_rank:
        say(f"adapter: {folder / 'adapter'}")


def _about_text(options: argparse.Namespace, training: Weighted) -> dict:
    """What the record of a run says of its text, and what must be the same when it goes on."""
    about = {}
    if any(weight != 1 for weight in training.mixture.weights.values()):
        about["mixture"] = training.mixture.names()
    if options.keep_out:
        about["kept_out"] = {"files": [Path(file).name for file in options.keep_out], "documents": training.dropped}
    return about


def _save(model, tokenizer, final: Path, record: Path) -> None:
    """Model and tokenizer in one folder, whole or not there; in place of what the run of this record has saved."""
    sharded = any(isinstance(weight, DTensor) for weight in model.parameters())
    weights = get_model_state_dict(model, options=WHOLE) if sharded else model.state_dict()  # every process takes part
    if PartialState().is_main_process:
        # a plain model: transformers does not save one that it has read from a GGUF file, nor one in shards
        with torch.device("meta"):
            plain = type(model)(model.config if sharded else pretrained.own_config(model))
        plain.load_state_dict(weights, assign=True)
        plain.tie_weights()
        run = runs.read_json(record)["run"]
        try:
            with runs.whole_folder(final, partial(check_made, name="model", run=run)) as written:
                plain.save_pretrained(written)
                tokenizer.save_pretrained(written)
                runs.write_json(written / MARK, {"run": run})
        except runs.NotOurs:
            raise
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"the model could not be written to {final}: {error}. Free some space and start the same command "
                "again; the training itself is saved"
            ) from error
    PartialState().wait_for_everyone()
