"""Sampling group after group (paper: groupwise decoding), and filling the blanks of a text.

Every group is one forward pass over the whole sequence. Tokens at positions not yet filled are never read, since
their content is seen by later groups only.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from a3mini import groups
from a3mini.data import check_vocabulary, special_ids
from a3mini.model import A3ForCausalLM
from a3mini.objective import labels_for
from a3mini.rows import IGNORED_LABEL, check


class Generation(NamedTuple):
    """What decoding returns."""

    sequences: Tensor  # (B, T) int64
    log_probs: Tensor  # (B, T) of the chosen tokens, nats, untempered; 0 where nothing was predicted
    group_ids: Tensor  # (B, T) int64, the order that was used
    known: Tensor  # (B, T) bool, tokens that were there before


def choose(logits: Tensor, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """One token (N,) from each row of ``logits`` (N, V): the likeliest at temperature 0, else drawn."""
    if temperature == 0:
        return logits.argmax(-1)
    chances = (logits / temperature).softmax(-1)
    if generator is not None:  # it draws on its own device
        chances = chances.to(generator.device)
    return torch.multinomial(chances, 1, generator=generator)[:, 0].to(logits.device)


@torch.no_grad()
def generate(
    model: A3ForCausalLM,
    input_ids: Tensor,
    group_ids: Tensor,
    known: Tensor | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Generation:
    """Draw the predicted positions, group after group; a group's tokens are drawn independently of each other.

    Args:
        input_ids: int64, (B, T). What stands at positions to be predicted does not matter.
        group_ids: int64, (B, T); see ``groups``.
        known: bool, (B, T): tokens that are kept and join their own group; default: the given ones.
        temperature: divides the logits; 0 takes the likeliest token.
        generator: where the draws come from; default: torch's global generator.

    Raises:
        TypeError, ValueError: as ``A3ForCausalLM.forward``; a negative temperature; nothing to predict.
    """
    if not temperature >= 0:
        raise ValueError(f"temperature must not be negative, got {temperature!r}")
    # what stands in input_ids is not read yet: zeros take its place
    config, zeros = model.config, torch.zeros_like(input_ids)
    check(zeros, group_ids, None, config.vocab_size, config.max_position_embeddings)
    group_ids = groups.relabel(group_ids)
    predicted = labels_for(zeros, group_ids, known) >= 0
    if not predicted.any():
        raise ValueError("there is nothing to predict: group_ids has no position above 0 that is not known")
    sequences = input_ids.masked_fill(predicted, 0)  # whatever stands there is a valid id, and never read
    log_probs = torch.zeros(input_ids.shape, device=input_ids.device)
    for group in range(1, int(group_ids.max()) + 1):
        now = (group_ids == group) & predicted
        if not now.any():
            continue
        ids = group_ids.masked_fill(group_ids > group, groups.PADDING)  # later positions cost nothing
        logits = (
            model(sequences, ids, labels=sequences.masked_fill(~now, IGNORED_LABEL), return_logits=True)
            .logits[now]
            .float()
        )
        tokens = choose(logits, temperature, generator)
        sequences[now] = tokens
        log_probs[now] = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    return Generation(sequences, log_probs, group_ids, (group_ids >= 0) & ~predicted)


def infill(
    model: A3ForCausalLM,
    tokenizer,
    text: str,
    blank: str = "____",
    tokens_per_blank: int = 8,
    size: int = 1,
    order: str = "left_to_right",
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> str:
    """Fill every blank of a text, given everything else.

    Args:
        model, tokenizer: an A3 model and its tokenizer.
        text: has one or more blanks.
        blank: how a blank is written.
        tokens_per_blank: how many tokens each blank gets.
        size, order: of the groups of unknown tokens; see ``groups.infill``.
        temperature, generator: see ``generate``.

    Returns:
        the text with its blanks filled.

    Raises:
        ValueError: no blank in the text, no tokens for it, more tokens than the model can take, or a tokenizer
            larger than the model's vocabulary.
    """
    if blank not in text:
        raise ValueError(f"there is no blank in the text; write {blank!r} where something is missing")
    if tokens_per_blank < 1:
        raise ValueError(f"tokens_per_blank must be at least 1, got {tokens_per_blank}")
    check_vocabulary(tokenizer, model.config.vocab_size)
    bos, _, _ = special_ids(tokenizer)
    ids, unknown = [bos], [False]
    for number, part in enumerate(text.split(blank)):
        if number:
            ids += [bos] * tokens_per_blank
            unknown += [True] * tokens_per_blank
            # the space before a word belongs to the word's token; a filled blank brings its own
        tokens = tokenizer.encode(part.rstrip(" ") if number < text.count(blank) else part, add_special_tokens=False)
        ids += tokens
        unknown += [False] * len(tokens)
    limit = model.config.max_position_embeddings
    if len(ids) > limit:
        raise ValueError(f"text and blanks have {len(ids)} tokens, but the model takes {limit}; shorten the text")
    input_ids = torch.tensor([ids], device=model.device)
    group_ids = groups.infill(torch.tensor([unknown]), size, order, generator=generator).to(model.device)
    filled = generate(model, input_ids, group_ids, temperature=temperature, generator=generator)
    return tokenizer.decode(filled.sequences[0, 1:], skip_special_tokens=True)
