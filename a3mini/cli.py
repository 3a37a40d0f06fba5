"""The commands train, adapt, evaluate and infill: thin layers over the package.

Every long option may also stand in a YAML or JSON file, under the same name, that ``--config`` names; what the
command line says goes before it. What a user can get wrong ends in one line on stderr and exit code 2.
"""

import argparse
import difflib
import json
import sys
from dataclasses import fields
from pathlib import Path

import torch
import yaml
from accelerate import PartialState
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from a3mini import __version__, adapter, data, decode, from_autoregressive, groups, pretrained, runs
from a3mini.baselines import (
    Autoregressive,
    MaskedDiffusion,
    MaskedDiffusionModel,
    autoregressive_log_likelihood,
    bound_score,
)
from a3mini.curriculum import PRESETS, Curriculum, Grouping, generator_for
from a3mini.evaluate import GROUPINGS, HeldOut
from a3mini.infilling import ORDERS
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.train import PRECISIONS, AnyOrder, TrainConfig, train

OBJECTIVES = ("any-order", "autoregressive", "diffusion")
SPLIT_SEED = 0  # the documents held out are the same for every --seed, so that runs can be compared
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)

EXAMPLES = {
    "train": """
examples:
  a3mini train --text andersen --folder runs/first
  a3mini train --text stories.txt --separator "***" --steps 500 --learning-rate 2e-3 --folder runs/mine
  a3mini train --config run.yaml --steps 50 --folder runs/short
  a3mini train --text andersen --objective autoregressive --folder runs/ar

The same command started again goes on where it stopped.""",
    "adapt": """
examples:
  a3mini adapt --source small --text andersen --lora-rank 32 --steps 200 --folder runs/smollm2
  a3mini adapt --source runs/ar/model --text andersen --curriculum spans --folder runs/spans
  a3mini adapt --source HuggingFaceTB/SmolLM2-135M --text tinystories --limit 20000 --folder runs/stories

The same command started again goes on where it stopped.""",
    "evaluate": """
examples:
  a3mini evaluate --model runs/first/model --text andersen
  a3mini evaluate --model runs/first/model --text other.txt --validation 0 --json losses.json
  a3mini evaluate --model small --text andersen
  a3mini evaluate --model compact --text andersen""",
    "infill": """
examples:
  a3mini infill --model compact "And the king said, ____ and they were full of fear."
  a3mini infill --model compact --tokens-per-blank auto --order confidence --trace trace.json "He took ____ and bread."
  a3mini infill --model runs/first/model --temperature 0.7 --top-p 0.9 "Once there was a ____ who lived by the sea."
  echo "She ____ the door, and ____." | a3mini infill --model runs/first/model --tokens-per-blank 4 --size 2""",
}

TRAINING_HELP = {
    "steps": "optimiser steps",
    "batch_size": "rows per step, over all processes and microbatches",
    "micro_batch_size": "rows that one process computes at a time; 0: its whole share",
    "learning_rate": "the highest, after the warm-up; then it falls along a cosine",
    "warmup_steps": "steps until the highest learning rate",
    "weight_decay": "of matrices; norms, embeddings and biases have none",
    "clip_norm": "largest norm of the gradient",
    "seed": "of everything random in the training",
    "precision": f"one of {', '.join(PRECISIONS)}; auto: what the device does best",
    "activation_checkpointing": "less memory, more time: compute activations again in the backward pass",
    "lora_rank": "train low-rank additions instead of the weights; 0: off",
    "lora_alpha": "their scale; 0: twice the rank",
    "eval_every": "steps between held-out losses; 0: only before and after",
    "save_every": "steps between checkpoints; 0: only at the end",
    "log_every": "steps between lines of metrics.jsonl",
}


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; default: those of the process.

    Returns:
        the exit code: 0, or 2 after an error of the user's, or 130 when interrupted.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        options = parse(argv)
    except SystemExit as end:  # argparse has printed help, a version or an error
        return end.code or 0
    except (ValueError, OSError) as error:
        return _fail(" ".join(["a3mini", *argv[:1]]), error)
    name = f"a3mini {options.command}"
    logging.disable_progress_bar()  # of reading and writing a model
    try:
        options.function(options, argv)
    except torch.OutOfMemoryError as error:
        return _fail(name, f"out of memory: use a smaller --batch-size or --micro-batch-size. {error}")
    except ImportError as error:
        return _fail(name, f"{error}; install the extra: pip install -e '.[train]'")
    except (ValueError, OSError, FloatingPointError, SafetensorError) as error:
        return _fail(name, error)
    except KeyboardInterrupt:
        _fail(name, "interrupted; the same command goes on from the last checkpoint, if there is one")
        return 130
    finally:
        if PartialState._shared_state:  # nothing was started by evaluate and infill
            PartialState().destroy_process_group()
    return 0


def _fail(name: str, error) -> int:
    print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


# --- options --------------------------------------------------------------------------------------------------


def parse(argv: list[str]) -> argparse.Namespace:
    """The options of a command, from its config file and from the command line, which goes before.

    Raises:
        SystemExit: after an error or ``--help``.
        ValueError: an unknown option; names the closest valid one.
        OSError: the config file cannot be read.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(argv)
    names = _names(parser, options.command)
    if options.config is not None:
        place = argv.index(options.command) + 1
        argv = [*argv[:place], *_from_config(options.config, names), *argv[place:]]
        options, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ValueError(f"there is no option {unknown[0]}{_closest(unknown[0], names)}")
    return options


def _names(parser: argparse.ArgumentParser, command: str) -> dict:
    """The long options of a command and their defaults."""
    defaults = vars(parser.parse_args([command]))
    return {key.replace("_", "-"): value for key, value in defaults.items()
            if key not in ("command", "function", "config", "blanks")}  # fmt: skip


def _from_config(path: str, names: dict) -> list[str]:
    """A config file as arguments, so that it is checked as they are."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        config = json.loads(text) if Path(path).suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not a valid config file: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold options and their values, such as `steps: 500`")
    arguments = []
    for key, value in config.items():
        name = str(key).replace("_", "-")
        if name not in names:
            raise ValueError(f"{path}: there is no option {key!r}{_closest(name, names)}")
        if isinstance(names[name], bool) and isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list):
            arguments += [f"--{name}", *map(str, value)]
        elif value is not None:
            arguments.append(f"--{name}={value}")
    return arguments


def _closest(name: str, names: dict) -> str:
    dashes = "--" if name.startswith("--") else ""
    plain = name.removeprefix("--").split("=")[0]
    # --vocabulary-size and --vocab-size are close; --batch and --batch-size share their beginning
    close = difflib.get_close_matches(plain, names, n=1, cutoff=0.5) or [n for n in names if n.startswith(plain)]
    return f"; did you mean {dashes}{close[0]}?" if close else f"; there are {', '.join(sorted(names))}"


def _parser() -> Parser:
    parser = Parser(prog="a3mini", description="Any-order autoregressive language models.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"a3mini {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, function, description):
        sub = commands.add_parser(
            name, help=description, description=description, epilog=EXAMPLES[name], allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(function=function, config=None)
        return sub

    train_ = command("train", _train, "Train a model from scratch on a text.")
    _run_options(train_)
    _text_options(train_)
    group = train_.add_argument_group("tokenizer and model")
    _add(group, "tokenizer", None, "folder or hub id of a tokenizer; default: train one on the text", metavar="FOLDER")
    _add(group, "vocab-size", 4096, "tokens of the tokenizer that is trained, at most")
    _add(group, "hidden-size", 192, "width of the model")
    _add(group, "intermediate-size", 0, "width of the MLP; 0: 8/3 of the hidden size, to a multiple of 64")
    _add(group, "layers", 6, "number of layers")
    _add(group, "heads", 4, "attention heads")
    _add(group, "kv-heads", 0, "heads of keys and values; 0: as many as attention heads")
    _training_options(train_, without=("lora_rank", "lora_alpha"))

    adapt = command("adapt", _adapt, "Adapt a pretrained autoregressive model to any order.")
    _run_options(adapt)
    _add(adapt, "source", None, 'pretrained model: folder, hub id, or "small" (SmolLM2-135M)')
    _add(adapt, "adapter", None, "go on from an adapter of this source; needs its --lora-rank", metavar="FOLDER")
    _add(adapt, "gguf-file", None, "name of a GGUF file in the folder or hub repository", metavar="NAME")
    _text_options(adapt)
    _training_options(adapt, without=())

    evaluate = command("evaluate", _evaluate, "Loss of a model on held-out text under each grouping.")
    _add(evaluate, "config", None, "YAML or JSON file of options", metavar="FILE")
    _add(evaluate, "model", None, 'folder or hub id of a model, or "small", "compact", "smollm2-a3"')
    _add(evaluate, "gguf-file", None, "name of a GGUF file in the folder or hub repository", metavar="NAME")
    _text_options(evaluate)
    _add(evaluate, "batch-size", 16, "rows per pass")
    _add(evaluate, "json", None, "write the losses to this file as well", metavar="FILE")

    infill = command("infill", _infill, "Fill the blanks of a text.")
    infill.add_argument("blanks", nargs="?", metavar="TEXT", help="a text with blanks (____); default: standard input")
    _add(infill, "config", None, "YAML or JSON file of options", metavar="FILE")
    _add(infill, "model", None, 'folder or hub id of an A3 model, or "compact" or "smollm2-a3", which ship')
    _add(infill, "blank", "____", "how a blank is written")
    _add(infill, "tokens-per-blank", 8, "tokens for each blank; auto: the likeliest", type=_count, metavar="N|auto")
    _add(infill, "size", 1, "tokens predicted at a time")
    _add(infill, "order", "left_to_right", "of the missing tokens; the last two: the model chooses", choices=ORDERS)
    known = "known tokens see all others, or those on their left (default: as in the model's training)"
    _add(infill, "known-order", None, known, choices=groups.KNOWN_ORDERS)
    _add(infill, "temperature", 1.0, "0 takes the likeliest tokens")
    _add(infill, "top-k", None, "draw from the N likeliest tokens alone", type=int, metavar="N")
    _add(infill, "top-p", None, "draw from the likeliest tokens that have this probability", type=float, metavar="X")
    _add(infill, "repetition-penalty", 1.0, "above 1, tokens that are there already become less likely")
    _add(infill, "seed", 0, "of the draws")
    _add(infill, "trace", None, "write what was filled when, and what else was likely, to a JSON file", metavar="FILE")
    return parser


def _count(text: str) -> int | str:
    """A number, or "auto"."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'invalid value: {text!r}, must be a number or "auto"') from None


def _add(group, name: str, default, what: str, **settings) -> None:
    """An option whose type is that of its default, and whose help says the default."""
    if isinstance(default, bool):
        settings["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, (int, float)):
        settings = {"type": type(default), "metavar": "N" if isinstance(default, int) else "X", **settings}
    shown = "" if default is None or isinstance(default, bool) else " (default: %(default)s)"
    group.add_argument(f"--{name}", default=default, help=what + shown, **settings)


def _run_options(parser) -> None:
    _add(parser, "folder", None, "where the run goes; its model is in FOLDER/model")
    _add(parser, "config", None, "YAML or JSON file of options", metavar="FILE")
    _add(parser, "objective", "any-order", "any-order is A3; the others are its rivals", choices=OBJECTIVES)
    _add(parser, "curriculum", "paper", f"{', '.join(PRESETS)}, or a YAML or JSON file", metavar="NAME|FILE")


def _text_options(parser) -> None:
    group = parser.add_argument_group("text")
    sources = f"{', '.join([*data.PACKAGED, *data.HUB])}, hub data sets (owner/name), .txt, .jsonl or .csv files"
    _add(group, "text", None, sources, nargs="+", metavar="SOURCE")
    _add(group, "validation-text", None, "held-out text, when --text is not to be split", nargs="+", metavar="SOURCE")
    _add(group, "validation", 0.1, "share of the documents that is held out; 0: none (evaluate: take them all)")
    _add(group, "column", "text", "column of the text in jsonl, csv and hub data sets")
    _add(group, "split", "train", "split of a hub data set")
    _add(group, "separator", None, "what stands between the documents of a .txt file; default: an empty line")
    group.add_argument("--limit", type=int, metavar="N", help="read at most so many documents of each source")
    _add(group, "length", 128, "tokens per row")
    _add(group, "held-out-rows", 64, "rows for the held-out losses, at most")


def _training_options(parser, without: tuple[str, ...]) -> None:
    group = parser.add_argument_group("training")
    for field in fields(TrainConfig):
        if field.name not in without:
            settings = {"choices": PRECISIONS} if field.name == "precision" else {}
            _add(group, field.name.replace("_", "-"), field.default, TRAINING_HELP[field.name], **settings)
    _add(group, "quiet", False, "no progress bar")


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
    shape |= {"vocab_size": len(tokenizer), "bos_token_id": bos, "eos_token_id": eos}
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
        model = from_autoregressive(model)
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
    found = data.documents(*options.text, **how)
    if options.validation_text:
        held_out = data.documents(*options.validation_text, **how)
        texts = {story.text for story in held_out}
        found = [story for story in found if story.text not in texts]
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
    return data.split_documents(found, options.validation, SPLIT_SEED)


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
    command = {"arguments": argv, "options": _plain(options)}
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


def _plain(options: argparse.Namespace) -> dict:
    return {name: value for name, value in vars(options).items() if name != "function"}


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
        about = {"arguments": argv, "options": _plain(options)}
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
