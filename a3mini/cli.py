"""The command line: train, adapt, evaluate, infill, rewrite and revise, thin layers over the package.

``commands`` and ``using`` do the work.

Every long option may also stand in a YAML or JSON file, under the same name, that ``--config`` names; what the
command line says goes before it. What a user can get wrong ends in one line on stderr and exit code 2.

Nothing is loaded before it is used, so that help and errors come at once; help needs no other package at all. So the
names that an option takes stand here once more, and a test compares them with the package's.

Completion by the shell, if ``argcomplete`` is installed: eval "$(register-python-argcomplete a3mini)".
"""

import argparse
import os
import sys
from contextlib import suppress
from dataclasses import fields

from a3mini import __version__, config_file, one_line
from a3mini.train.config import OPTIMIZERS, PRECISIONS, SCHEDULES, TrainConfig

OBJECTIVES = ("any-order", "autoregressive", "diffusion")
CURRICULA = ("paper", "official", "stage3", "no_stage2", "mixed", "blanks", "spans")
TEXTS = ("andersen", "bible-bbe", "tinystories")
MIXTURES = ("simple",)
ORDERS = ("left_to_right", "random", "strided", "confidence", "entropy")
QUERY_STARTS = ("vector", "previous")
KNOWN_ORDERS = ("together", "left_to_right")
BLANK_ORDERS = ("in_turn", "together")
RANKS = ("nats", "nats_per_token")

EXAMPLES = {
    "train": """
examples:
  a3mini train --text andersen --folder runs/first
  a3mini train --text stories.txt --separator "***" --steps 500 --learning-rate 2e-3 --folder runs/mine
  a3mini train --text "stories.jsonl.gz=6" tinystories --limit 20000 --keep-out cloze.csv --folder runs/mixed
  a3mini train --config run.yaml --steps 50 --folder runs/short
  a3mini train --text andersen --objective autoregressive --folder runs/ar

The same command started again goes on where it stopped.""",
    "adapt": """
examples:
  a3mini adapt --source small --text andersen --lora-rank 32 --steps 200 --folder runs/smollm2
  a3mini adapt --source runs/ar/model --text andersen --curriculum spans --folder runs/spans
  a3mini adapt --source small --text andersen --curriculum blanks --folder runs/blanks
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
  a3mini infill --model runs/blanks/model --most 16 "Ben lost his hat. ____ He laughed."
  a3mini infill --model compact "Lily had a cat named Snow. ____ At last she found her asleep in a basket."
  a3mini infill --model compact --tokens-per-blank 3 --order confidence --trace trace.json "The dog ____ and ran home."
  a3mini infill --model runs/first/model --temperature 0.7 --top-p 0.9 "Once there was a ____ who lived by the sea."
  echo "She ____ the door, and ____." | a3mini infill --model runs/first/model --tokens-per-blank 4 --size 2""",
    "rewrite": """
examples:
  a3mini rewrite --model compact --span "very sad" "Tom lost his red ball. He was very sad and went home."
  a3mini rewrite --model runs/blanks/model --most 16 --span "a bird" "Anna saw a bird in the garden."
  echo "Anna saw a bird in the garden." | a3mini rewrite --model smollm2-a3-warm --n 8 --span "a bird" --json -""",
    "revise": """
examples:
  a3mini revise --model compact "He opened the song and went into the house."
  echo "Tom went to the park to play with his water." | a3mini revise --model compact --least-gain 2 --json -""",
}

TRAINING_HELP = {
    "steps": "optimiser steps",
    "batch_size": "rows per step, over all processes and microbatches",
    "micro_batch_size": "rows that one process computes at a time; 0: its whole share",
    "batch_tokens": "instead of --batch-size: tokens per step; 0: off",
    "micro_batch_tokens": "tokens that one process computes at a time, with --batch-tokens; 0: its whole share",
    "learning_rate": "the highest, after the warm-up; then it falls as --schedule says",
    "warmup_steps": "steps until the highest learning rate; with cosine at most half of --steps counts",
    "schedule": "cosine, or wsd: warm-up, stable, decay; a wsd run can be prolonged before it decays",
    "decay_steps": "the last steps of wsd, in which the learning rate falls to 0; 0: a fifth of --steps",
    "ema_tokens": "half-life, in tokens, of a moving average of the trained weights; 0: none",
    "optimizer": f"one of {', '.join(OPTIMIZERS)}; muon is faster where a model starts from scratch, not with LoRA",
    "weight_decay": "of matrices; norms, embeddings and biases have none",
    "clip_norm": "largest norm of the gradient",
    "seed": "of everything random in the training",
    "precision": f"one of {', '.join(PRECISIONS)}; auto: what the device does best",
    "compile": "compile the model: true, false, or auto: in training, where it pays (CUDA)",
    "workers": "processes that make steps ahead; -1: two where a GPU computes meanwhile, else none",
    "activation_checkpointing": "less memory, more time: compute activations again in the backward pass",
    "lora_rank": "train low-rank additions instead of the weights; 0: off",
    "lora_alpha": "their scale; 0: twice the rank",
    "eval_every": "steps between held-out losses; 0: only before and after",
    "save_every": "steps between checkpoints; 0: about every five minutes, and at the end",
    "log_every": "steps between lines of metrics.jsonl",
}


LENGTH = "tokens per row (default: 128, or what the model takes, if that is less)"
QUERY_START = "what A3's query rows start from: the paper's vector, or the token before; default: "
PRETRAINED = 'pretrained Llama, Mistral, Qwen2, Qwen3 or SmolLM3: folder, hub id, or "small" (SmolLM2-135M)'
KNOWN_ORDER = "known tokens see all others, or those on their left; the model keeps it; default: "
SOURCE = "the model that an adapter was trained on, if that is a folder: it is read only if you name it here"
LISTS = ("text", "validation-text", "keep-out")  # options that take several values


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; default: those of the process.

    Returns:
        the exit code: 0, or 2 after an error of the user's, 130 when interrupted, 141 when nobody reads the output.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        options = parse(argv)
    except SystemExit as end:  # argparse has printed help, a version or an error
        return end.code or 0
    except (ValueError, OSError) as error:
        return one_line.fail(" ".join(["a3mini", *argv[:1]]), error)
    name = f"a3mini {options.command}"
    trains = options.command in ("train", "adapt")
    try:
        if trains:
            from a3mini import commands as work
        else:
            from a3mini import using as work
        work.run(options, argv)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        goes_on = "; the same command goes on from the last checkpoint, if there is one" if trains else ""
        one_line.fail(name, str(stop) or f"interrupted{goes_on}")
        return 130
    except BrokenPipeError:  # who read our output has read enough; what is still in the pipe must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        told = one_line.about(error, options.command)
        if told is None:
            raise
        return one_line.fail(name, told)
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """The options of a command, from its config file and from the command line, which goes before.

    Raises:
        SystemExit: after an error or ``--help``.
        ValueError: an unknown option; names the closest valid one.
        OSError: the config file cannot be read.
    """
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # set by the shell's completion alone
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)
    options, unknown = parser.parse_known_args(argv)
    names = _names(parser, options.command)
    if options.config is not None:
        place = argv.index(options.command) + 1
        argv = [*argv[:place], *config_file.arguments(options.config, names, LISTS), *argv[place:]]
        options, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ValueError(f"there is no option {unknown[0]}{config_file.closest(unknown[0], names)}")
    return options


def _names(parser: argparse.ArgumentParser, command: str) -> dict:
    """The long options of a command and their defaults."""
    defaults = vars(parser.parse_args([command]))
    return {key.replace("_", "-"): value for key, value in defaults.items()
            if key not in ("command", "config", "blanks")}  # fmt: skip


def _parser() -> Parser:
    parser = Parser(prog="a3mini", description="Any-order autoregressive language models.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"a3mini {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (description, add_options) in COMMANDS.items():
        command = commands.add_parser(
            name, help=description, description=description, epilog=EXAMPLES[name], allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        add_options(command)
    return parser


def _train_options(parser) -> None:
    _run_options(parser)
    _keep_out_option(_text_options(parser))
    group = parser.add_argument_group("tokenizer and model")
    _add(group, "tokenizer", None, "folder or hub id of a tokenizer; default: train one on the text", metavar="FOLDER")
    _add(group, "vocab-size", 4096, "tokens of the tokenizer that is trained, at most")
    _add(group, "hidden-size", 192, "width of the model")
    _add(group, "intermediate-size", 0, "width of the MLP; 0: 8/3 of the hidden size, to a multiple of 64")
    _add(group, "layers", 6, "number of layers")
    _add(group, "heads", 4, "attention heads")
    _add(group, "kv-heads", 0, "heads of keys and values; 0: as many as attention heads")
    _add(group, "query-start", None, QUERY_START + "vector", choices=QUERY_STARTS)
    _add(group, "known-order", None, KNOWN_ORDER + "together", choices=KNOWN_ORDERS)
    _training_options(parser, without=("lora_rank", "lora_alpha"))


def _adapt_options(parser) -> None:
    _run_options(parser)
    _add(parser, "source", None, PRETRAINED)
    _add(parser, "adapter", None, "go on from an adapter of this source; needs its --lora-rank", metavar="FOLDER")
    _add(parser, "gguf-file", None, "name of a GGUF file in the folder or hub repository", metavar="NAME")
    _add(parser, "query-start", None, QUERY_START + "previous, or the adapter's", choices=QUERY_STARTS)
    _add(
        parser,
        "known-order",
        None,
        KNOWN_ORDER + "left_to_right, or the A3 model's or adapter's own",
        choices=KNOWN_ORDERS,
    )
    _keep_out_option(_text_options(parser, None, LENGTH))
    _training_options(parser, without=())


def _evaluate_options(parser) -> None:
    _add(parser, "config", None, "YAML or JSON file of options", metavar="FILE")
    _add(parser, "model", None, "folder, file (eight_bit), hub id, small, compact, smollm2-a3 or smollm2-a3-warm")
    _add(parser, "gguf-file", None, "name of a GGUF file in the folder or hub repository", metavar="NAME")
    _add(parser, "source", None, SOURCE, metavar="MODEL")
    _text_options(parser, None, LENGTH)
    _add(parser, "batch-size", 16, "rows per pass")
    _add(parser, "json", None, "write the losses to this file as well; -: to standard output alone", metavar="FILE")
    _add(parser, "quiet", False, "no progress bar")


def _infill_options(parser) -> None:
    parser.add_argument("blanks", nargs="?", metavar="TEXT", help="a text with blanks (____); default: standard input")
    _any_order_options(parser)
    _add(parser, "blank", "____", "how a blank is written")
    count = "tokens for each blank; auto: the likeliest number; default: the model ends each, or auto if it cannot"
    _add(parser, "tokens-per-blank", None, count, type=_count, metavar="N|auto")
    _add(parser, "most", None, "most tokens for a blank of unknown length (default: 24)", type=_whole, metavar="N")
    _add(parser, "least", 1, "fewest tokens for it; 0: it may stay empty")
    at_most = "tokens predicted at a time, at most (default: 1, or no limit)"
    _add(parser, "size", None, at_most, type=_whole, metavar="N")
    _add(parser, "order", "left_to_right", "of the missing tokens; the last two: the model chooses", choices=ORDERS)
    chosen = parser.add_argument_group("with --order confidence or entropy")
    lost = "fill together what loses at most so many nats"
    _add(chosen, "bound", None, lost, type=float, metavar="NATS")
    _add(chosen, "threshold", None, "fill together what is at least so probable", type=float, metavar="X")
    _add(chosen, "apart", 1, "least distance of tokens that are filled together")
    _add(chosen, "window", None, "ask the first N open positions alone", type=_whole, metavar="N")
    _add(chosen, "shortlist", None, "ask the N that scored best before alone", type=_whole, metavar="N")
    turn = "several blanks one after another, or all at once (default: in_turn, where --order can)"
    _add(parser, "blank-order", None, turn, choices=BLANK_ORDERS)
    _add(parser, "temperature", 1.0, "0 takes the likeliest tokens")
    _add(parser, "top-p", None, "draw from the likeliest tokens that have this probability", type=float, metavar="X")
    _draw_options(parser)
    _add(parser, "json", None, "write text and blanks as JSON to this file; -: to standard output", metavar="FILE")
    trace = "write what was filled when, and what else was likely, to a JSON file; -: to standard output"
    _add(parser, "trace", None, trace, metavar="FILE")
    _add(parser, "quiet", False, "no progress bar")


def _rewrite_options(parser) -> None:
    parser.add_argument("whole", nargs="?", metavar="TEXT", help="the text; default: standard input")
    _any_order_options(parser)
    _add(parser, "span", None, "the words to replace, which stand in the text once", metavar="WORDS")
    _add(parser, "n", 4, "how many alternatives")
    near = "tokens of an alternative; near: about as many as now; default: the model ends it, or near if it cannot"
    _add(parser, "tokens-per-blank", None, near, type=_near, metavar="N|near")
    fit = "most tokens of an alternative of unknown length (default: 24, or half as many again as now)"
    _add(parser, "most", None, fit, type=_whole, metavar="N")
    _add(parser, "rank", "nats", "by the log-likelihood of the whole text, or by its mean over tokens", choices=RANKS)
    _add(parser, "size", 1, "tokens predicted at a time")
    _add(parser, "order", "left_to_right", "of the new tokens; the last two: the model chooses", choices=ORDERS)
    _add(parser, "temperature", 1.0, "0 takes the likeliest tokens")
    _add(parser, "top-p", 0.9, "draw from the likeliest tokens that have this probability")
    _draw_options(parser)
    _add(parser, "json", None, "write the alternatives as JSON to this file; -: to standard output", metavar="FILE")
    _add(parser, "quiet", False, "no progress bar")


def _revise_options(parser) -> None:
    parser.add_argument("whole", nargs="?", metavar="TEXT", help="the text; default: standard input")
    _any_order_options(parser)
    _add(parser, "reopen", 1, "tokens reopened at a time")
    _add(parser, "rounds", 20, "at most so many")
    _add(parser, "least-gain", 4.0, "nats that a change must gain at least")
    _add(parser, "temperature", 0.0, "0 takes the likeliest tokens")
    _add(parser, "top-p", None, "draw from the likeliest tokens that have this probability", type=float, metavar="X")
    _draw_options(parser)
    _add(parser, "json", None, "write text and changes as JSON to this file; -: to standard output", metavar="FILE")
    _add(parser, "quiet", False, "no progress bar, and no list of the changes")


def _any_order_options(parser) -> None:
    """Which model fills, rewrites or revises, and how it reads."""
    _add(parser, "config", None, "YAML or JSON file of options", metavar="FILE")
    _add(parser, "model", None, "folder, file (eight_bit), hub id of A3; or compact, smollm2-a3, smollm2-a3-warm")
    _add(parser, "source", None, SOURCE, metavar="MODEL")
    known = "known tokens see all others, or those on their left (default: as in the model's training)"
    _add(parser, "known-order", None, known, choices=KNOWN_ORDERS)


def _draw_options(parser) -> None:
    _add(parser, "top-k", None, "draw from the N likeliest tokens alone", type=_whole, metavar="N")
    _add(parser, "repetition-penalty", 1.0, "above 1, tokens that are there already become less likely")
    _add(parser, "seed", 0, "of the draws")


def _whole(text: str) -> int:
    """A number of 64 bits: no tensor takes a larger one."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}") from None
    if not -(2**63) <= number < 2**63:
        raise argparse.ArgumentTypeError(f"invalid value: {text:.40}, must be below 2^63")
    return number


def _count(text: str) -> int | str:
    """A number, or "auto"."""
    try:
        return text if text == "auto" else _whole(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f'invalid value: {text!r:.40}, must be a number or "auto"') from None


def _near(text: str) -> int | str:
    """A number, or "near"."""
    try:
        return text if text == "near" else _whole(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f'invalid value: {text!r:.40}, must be a number or "near"') from None


def _add(group, name: str, default, what: str, **settings) -> None:
    """An option whose type is that of its default, and whose help says the default."""
    if isinstance(default, bool):
        settings["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, (int, float)):
        kind, metavar = (_whole, "N") if isinstance(default, int) else (float, "X")
        settings = {"type": kind, "metavar": metavar, **settings}
    shown = "" if default is None or isinstance(default, bool) else " (default: %(default)s)"
    group.add_argument(f"--{name}", default=default, help=what + shown, **settings)


def _switch(text: str) -> bool | str:
    """ "true" and "false" become what they say; all else is for ``TrainConfig`` to judge."""
    return {"true": True, "false": False}.get(text.lower(), text)


def _run_options(parser) -> None:
    _add(parser, "folder", None, "where the run goes; its model is in FOLDER/model")
    _add(parser, "config", None, "YAML or JSON file of options", metavar="FILE")
    _add(parser, "objective", "any-order", "any-order is A3; the others are its rivals", choices=OBJECTIVES)
    _add(parser, "cache", True, "keep rows of tokens in the cache folder (A3MINI_CACHE), and stream large texts")
    _add(parser, "curriculum", "paper", f"{', '.join(CURRICULA)}, or a YAML or JSON file", metavar="NAME|FILE")
    ends = "the special token that ends a blank, in a curriculum with spare room; default: the model's own, or chosen"
    _add(parser, "empty-token", None, ends, metavar="TOKEN")


def _text_options(parser, length: int | None = 128, about_length: str = "tokens per row"):
    group = parser.add_argument_group("text")
    sources = f"{', '.join(TEXTS)}, hub data sets (owner/name), .txt, .jsonl, .jsonl.gz or .csv files"
    sources += f"; or the mixture {', '.join(MIXTURES)}; SOURCE=2.5: so many passes over it in one"
    _add(group, "text", None, sources, nargs="+", metavar="SOURCE")
    _add(group, "validation-text", None, "held-out text, when --text is not to be split", nargs="+", metavar="SOURCE")
    _add(group, "validation", 0.1, "share of the documents that is held out; 0: none (evaluate: take them all)")
    _add(group, "column", "text", "column of the text in jsonl, csv and hub data sets")
    _add(group, "split", "train", "split of a hub data set")
    _add(group, "separator", None, "what stands between the documents of a .txt file; default: an empty line")
    group.add_argument("--limit", type=_whole, metavar="N", help="read at most so many documents of each source")
    _add(group, "length", length, about_length, type=_whole, metavar="N")
    _add(group, "held-out-rows", 64, "rows for the held-out losses, at most")
    return group


def _keep_out_option(group) -> None:
    shared = (
        "evaluation sets (.csv, .jsonl, .jsonl.gz, .txt): no document that shares twelve words in a row is trained on"
    )
    _add(group, "keep-out", None, shared, nargs="+", metavar="FILE")


def _training_options(parser, without: tuple[str, ...]) -> None:
    group = parser.add_argument_group("training")
    special = {
        "precision": {"choices": PRECISIONS},
        "schedule": {"choices": SCHEDULES},
        "optimizer": {"choices": OPTIMIZERS},
        "compile": {"type": _switch, "metavar": "auto|true|false"},
    }
    for field in fields(TrainConfig):
        if field.name not in without:
            settings = special.get(field.name, {})
            _add(group, field.name.replace("_", "-"), field.default, TRAINING_HELP[field.name], **settings)
    _add(group, "quiet", False, "no progress bar")


COMMANDS = {
    "train": ("Train a model from scratch on a text.", _train_options),
    "adapt": ("Adapt a pretrained autoregressive model to any order.", _adapt_options),
    "evaluate": ("Loss of a model on held-out text under each grouping.", _evaluate_options),
    "infill": ("Fill the blanks of a text.", _infill_options),
    "rewrite": ("Other ways to write some words of a text, ranked.", _rewrite_options),
    "revise": ("Find and mend what fits worst in a text.", _revise_options),
}
