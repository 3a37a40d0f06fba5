"""Held-out losses under several groupings.

Every number is a mean of negative log-likelihoods in nats per predicted token, over the same rows and the same
drawn groups for every model, so that differences between models are paired.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from a3mini import groups, objective
from a3mini.model import A3ForCausalLM
from a3mini.train.curriculum import CHOICES, KINDS, Grouping, draw_rows, uniform
from a3mini.train.data import Blocks, fingerprint

GROUPINGS = {
    "left to right": Grouping("blocks"),
    "blocks of 4": Grouping("blocks", 4),
    "random order": Grouping("shuffled"),
    "random groups of 4": Grouping("shuffled", 4),
    "strided groups of 4": Grouping("strided", 4),
    "a span": Grouping("span"),
}


def draw(blocks: Blocks, grouping: Grouping, seed: int = 0) -> Tensor:
    """Group ids (N, T) for held-out rows, the same for every model."""
    count, length = blocks.input_ids.shape
    kinds, sizes = (torch.full((count,), number) for number in (KINDS.index(grouping.kind), grouping.size))
    numbers = uniform(seed, torch.arange(count), length + CHOICES)
    return draw_rows(kinds, sizes, blocks.lengths, blocks.sentence_ends, numbers)


@torch.no_grad()
def token_losses(
    score: Callable[[Tensor, Tensor], Tensor], blocks: Blocks, group_ids: Tensor, device="cpu", batch_size: int = 32
) -> tuple[Tensor, Tensor]:
    """Sum of negative log-likelihoods and number of predicted tokens, per row.

    Args:
        score: (input_ids, group_ids), both (B, T), to log-probabilities (B, T), 0 where nothing is predicted.
        blocks: N rows.
        group_ids: int64, (N, T).

    Returns:
        nats (N,) and tokens (N,), on the CPU.
    """
    parts = torch.arange(len(blocks.input_ids)).split(batch_size)
    losses = [-score(blocks.input_ids[p].to(device), group_ids[p].to(device)).float().sum(-1).cpu() for p in parts]
    return torch.cat(losses), (group_ids > 0).sum(-1)


def a3_score(model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor) -> Tensor:
    """A3's log-probabilities (B, T), nats; given tokens read each other as in the model's training."""
    read = groups.read_given(group_ids, model.config.known_order)
    return objective.log_likelihood(model, input_ids, *read, reduction="token")


class HeldOut:
    """Loss on held-out rows under each grouping; give it to ``train`` as ``evaluate``.

    Args:
        blocks: the rows.
        groupings: by name.
        seed: of the drawn groups.
        batch_size: rows per pass.
        score: (model, input_ids, group_ids) to log-probabilities; default: ``a3_score``.
        quiet: no progress bar, which shows after a second.

    ``tokens`` says how many tokens each loss is a mean of.
    """

    def __init__(
        self,
        blocks: Blocks,
        groupings: dict[str, Grouping] = GROUPINGS,
        seed: int = 0,
        batch_size: int = 32,
        score: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
        quiet: bool = True,
    ):
        self.blocks, self.batch_size, self.quiet = blocks, batch_size, quiet
        self.score = score or a3_score
        self.group_ids = {name: draw(blocks, grouping, seed) for name, grouping in groupings.items()}
        self.tokens = {name: int((group_ids > 0).sum()) for name, group_ids in self.group_ids.items()}

    @property
    def fingerprint(self) -> str:
        """A short name of the rows and the drawn groups."""
        return fingerprint(self.blocks.input_ids, self.blocks.lengths, *self.group_ids.values())

    def __call__(self, model: nn.Module) -> dict[str, float]:
        found = {}
        passes = len(self.group_ids) * -(-len(self.blocks.input_ids) // self.batch_size)
        with tqdm(total=passes, desc="held-out losses", unit="pass", delay=1, leave=False, disable=self.quiet) as bar:

            def score(input_ids: Tensor, group_ids: Tensor) -> Tensor:
                bar.update()
                return self.score(model, input_ids, group_ids)

            for name, group_ids in self.group_ids.items():
                nats, tokens = token_losses(score, self.blocks, group_ids, model.device, self.batch_size)
                found[name] = (nats.sum() / tokens.sum()).item()
        return found
