"""What the commands evaluate, infill, rewrite and revise do, once ``cli`` has read the options; they need no extra."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm
from transformers.utils import logging

from a3mini import decode, runs, sources, unpacked
from a3mini.evaluate.held_out import GROUPINGS, HeldOut
from a3mini.evaluate.rivals import autoregressive_log_likelihood, bound_score
from a3mini.loading import announce, load, settle_length
from a3mini.train import corpus, data, packed
from a3mini.train.corpus import Story
from a3mini.train.curriculum import Grouping, generator_for
from a3mini.train.mixture import Mixture, Weighted

SPLIT_SEED = 0  # the documents held out are the same for every --seed, so that runs can be compared
STREAMED = 2**26  # bytes of files from which on documents are not read into memory
HOW_READ = ("column", "split", "separator", "limit")  # options of every source
STANDARD = "-"  # standard output, instead of a file


def run(options: argparse.Namespace, argv: list[str]) -> None:
    """Run the command that ``options`` name; ``argv``, what they were read from, goes into what it writes.

    Raises:
        ValueError, OSError, ImportError: as what it calls.
    """
    logging.disable_progress_bar()  # of reading a model
    work = {"evaluate": _evaluate, "infill": _infill, "rewrite": _rewrite, "revise": _revise}
    work[options.command](options, argv)


def need(options: argparse.Namespace, *names: str) -> None:
    """Check that options were given.

    Raises:
        ValueError: one was not.
    """
    for name in names:
        if not getattr(options, name):
            raise ValueError(f"--{name} is needed; a3mini {options.command} --help shows examples")


def documents(options: argparse.Namespace) -> tuple[Weighted, Iterable[Story]]:
    """Training and held-out documents; the latter may be none.

    Those of large files are streams, which stay on the disk, where rows of tokens may be kept there too (``cache``).
    """
    how = {name: getattr(options, name) for name in HOW_READ}
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {options.limit}")
    if options.held_out_rows < 1:
        raise ValueError(f"--held-out-rows must be at least 1, got {options.held_out_rows}; see --validation 0")
    mixture = Mixture.parse(options.text)
    texts = list(mixture.weights)
    named = [corpus.hub_name(name) for name in [*texts, *(options.validation_text or ())]]
    announce(*named)
    on_hub = [name for name in named if sources.is_hub_id(name)]
    if on_hub and not sources.hub_answers():  # datasets itself would try for half a minute
        raise OSError(f'cannot read {on_hub[0]}: {sources.SILENT}. Offline: "andersen" or "bible-bbe", or a file')
    whole_hub_set = options.limit is None and any(corpus.hub_name(text) in on_hub for text in texts)
    how["streamed"] = bool(cache(options)) and (whole_hub_set or _size(texts) > STREAMED)
    if getattr(options, "keep_out", None):
        how["keep_out"] = corpus.whole_texts(*options.keep_out)
    if options.validation_text:
        held_out = corpus.documents(*options.validation_text, **{name: how[name] for name in HOW_READ})
        return mixture.split(0, SPLIT_SEED, without=held_out, **how)[0], held_out
    return mixture.split(options.validation, SPLIT_SEED, **how)


def cache(options: argparse.Namespace) -> Path | None:
    """Where rows of tokens are kept, for the commands that have the option, unless the user wants none."""
    return unpacked.home() if getattr(options, "cache", False) else None


def _size(texts: list[str]) -> int:
    """Bytes of the files among the sources, so far as they are there."""
    return sum(Path(text).stat().st_size for text in texts if corpus.file_kind(text) and Path(text).is_file())


def held_out(options, documents: Iterable[Story], tokenizer, kind: str, batch_size: int) -> HeldOut:
    """The losses that a kind of model has, on some rows of the documents."""
    try:
        rows = packed.pack(documents, tokenizer, options.length, cache(options))
    except ValueError as error:
        raise ValueError(f"held-out text: {error}") from error
    chosen = torch.randperm(len(rows.input_ids), generator=generator_for(SPLIT_SEED))[: options.held_out_rows]
    rows = rows.rows(chosen.sort().values)
    how = {"batch_size": batch_size, "quiet": options.quiet or os.environ.get("RANK", "0") != "0"}
    if kind == "autoregressive":
        groupings = {"left to right": Grouping("blocks"), "a span (left side only)": Grouping("span")}
        return HeldOut(rows, groupings, score=autoregressive_log_likelihood, **how)
    if kind == "diffusion":
        groupings = {"random order (bound)": Grouping("shuffled")}
        return HeldOut(rows, groupings, score=bound_score, **how)
    return HeldOut(rows, GROUPINGS, **how)


def _evaluate(options: argparse.Namespace, argv: list[str]) -> None:
    need(options, "model", "text")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    _check_outputs(options, "json")
    training, validation = documents(options)
    model, tokenizer, kind = load(options.model, options.gguf_file, options.source)
    data.check_vocabulary(tokenizer, model.config.vocab_size)
    settle_length(options, model)
    measure = held_out(options, validation or training.documents, tokenizer, kind, options.batch_size)
    found = measure(model.to(_device()))
    if options.json:
        losses = {name: {"nats_per_token": loss, "tokens": measure.tokens[name]} for name, loss in found.items()}
        _write(options.json, {"kind": kind, "losses": losses, **_about(options, argv)})
    if options.json != STANDARD:
        print(f"{'grouping':<34}{'nats per token':>14}{'tokens':>10}")
        for name, loss in found.items():
            print(f"{name:<34}{loss:>14.3f}{measure.tokens[name]:>10,}")


def _infill(options: argparse.Namespace, argv: list[str]) -> None:
    need(options, "model")
    text = _text(options.blanks)
    if options.blank not in text:
        raise ValueError(f"there is no blank in the text; write {options.blank!r} where something is missing")
    _check_outputs(options, "json", "trace")
    model, tokenizer, generator = _any_order(options)
    names = (
        *("blank", "tokens_per_blank", "most", "least", "size", "order", "blank_order", "known_order"),
        *("bound", "threshold", "apart", "window", "shortlist"),
        *("temperature", "top_k", "top_p", "repetition_penalty"),
    )
    how = {name: getattr(options, name) for name in names}
    with _passes_shown(model, options.quiet):
        # how every open position was scored is for the trace alone
        filled = decode.infill(model, tokenizer, text, generator=generator, considered=bool(options.trace), **how)
    try:  # whatever fails to be written, the rest is
        if STANDARD not in (options.json, options.trace):
            print(filled, flush=True)
    finally:
        try:
            if options.json:
                found = {"text": filled.text, "blanks": list(filled.blanks), "ended": list(filled.ended)}
                _write(options.json, {**found, **_about(options, argv)})
        finally:
            if options.trace:
                _write(options.trace, filled.trace.to_json(tokenizer) + "\n")


def _rewrite(options: argparse.Namespace, argv: list[str]) -> None:
    need(options, "model", "span")
    text = _text(options.whole)
    _check_outputs(options, "json")
    model, tokenizer, generator = _any_order(options)
    names = ("n", "tokens_per_blank", "most", "rank", "size", "order", "temperature", "known_order", "top_k", "top_p",
             "repetition_penalty")  # fmt: skip
    how = {name: getattr(options, name) for name in names}
    with _passes_shown(model, options.quiet):
        made = decode.rewrite(model, tokenizer, text, options.span, generator=generator, **how)
    if options.json:
        _write(options.json, {"alternatives": [asdict(one) for one in made], **_about(options, argv)})
    if options.json != STANDARD:
        for one in made:
            print(f"{one.gain:+8.1f} nats  {one}" + "  (as it was)" * one.original)


def _revise(options: argparse.Namespace, argv: list[str]) -> None:
    need(options, "model")
    text = _text(options.whole)
    _check_outputs(options, "json")
    model, tokenizer, generator = _any_order(options)
    names = ("reopen", "rounds", "least_gain", "temperature", "known_order", "top_k", "top_p", "repetition_penalty")
    how = {name: getattr(options, name) for name in names}
    with _passes_shown(model, options.quiet):
        revised = decode.revise_text(model, tokenizer, text, generator=generator, **how)
    if options.json != STANDARD:
        print(revised, flush=True)
    if not options.quiet:
        print(*(revised.lines or ["nothing was changed"]), sep="\n", file=sys.stderr)
    if options.json:
        changes = [
            {**asdict(change), "words": line} for change, line in zip(revised.changes[0], revised.lines, strict=True)
        ]
        found = {"text": revised.text, "before": revised.before.item(), "after": revised.after.item()}
        _write(options.json, {**found, "changes": changes, **_about(options, argv)})


def _text(given: str | None) -> str:
    """The text on the command line, or that of standard input."""
    return sys.stdin.read().rstrip("\n") if given is None else given


def _any_order(options: argparse.Namespace):
    """The A3 model that ``options`` name, on its device, its tokenizer, and where draws come from."""
    model, tokenizer, kind = load(options.model, None, options.source)
    if kind != "any-order":
        raise ValueError(f"{options.model} is {kind}; a3mini adapt makes an A3 model of an autoregressive one")
    model = model.to(_device())
    return model, tokenizer, torch.Generator(model.device).manual_seed(options.seed)


def _check_outputs(options: argparse.Namespace, *names: str) -> None:
    """That the files can be written, before there is something to write."""
    files = {name: getattr(options, name) for name in names if getattr(options, name)}
    if list(files.values()).count(STANDARD) > 1:
        raise ValueError(f"only one of {' and '.join(f'--{name}' for name in files)} can go to standard output (-)")
    for name, file in files.items():
        path = Path(file)
        if file != STANDARD and not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} for --{name} {file}")
        if path.is_dir():
            raise IsADirectoryError(f"--{name} {file} is a folder; give the name of a file")
        if file != STANDARD and not os.access(path.parent, os.W_OK):
            raise PermissionError(f"the folder {path.parent} cannot be written to, for --{name} {file}")


def _write(file: str, found: dict | str) -> None:
    text = found if isinstance(found, str) else json.dumps(found, indent=1) + "\n"
    if file == STANDARD:
        print(text, end="", flush=True)
    else:
        runs.write_text(Path(file), text)


def _about(options: argparse.Namespace, argv: list[str]) -> dict:
    """Where a result comes from."""
    command = {"arguments": argv, "options": vars(options)}
    return {"command": command, "hardware": runs.hardware(), "versions": runs.versions()}


@contextmanager
def _passes_shown(model, quiet: bool):
    """A count of the passes through the model, once they take more than a second."""
    with tqdm(desc="filling", unit="pass", delay=1, leave=False, disable=quiet) as bar:
        hook = model.model.register_forward_hook(lambda *_: bar.update() and None)
        try:
            yield
        finally:
            hook.remove()


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
