"""What each step of a training sees, made ahead: its examples, its rows, and the batches that a recipe makes of them.

Step number n sees the same whoever makes it, and whatever was made before: everything follows from the settings, the
seed and n. So a step can be made by another process while a GPU still computes an earlier one, a run goes on in the
middle, and the number of processes changes nothing.
"""

import signal
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from a3mini import flat
from a3mini.train.config import TrainConfig
from a3mini.train.data import Blocks, Order
from a3mini.train.recipes import Batch, Recipe

AHEAD = 4  # steps that a worker has ready


class Step(NamedTuple):
    """What one process computes in a step."""

    tokens: int  # real ones, given or predicted, of all processes' rows
    batches: list[Batch]  # one for each of its microbatches

    @property
    def count(self) -> int:
        """By how many tokens the loss of this process's part is divided."""
        return sum(batch.count for batch in self.batches)


class Examples:
    """Which examples a step takes, and how they are divided among processes and microbatches.

    By rows: step n takes ``batch_size`` examples from number n * ``batch_size`` on, in equal parts. By tokens: a step
    goes on where the one before ended and takes examples while they hold at most ``batch_tokens`` tokens, in parts of
    nearly equal tokens.

    Args:
        lengths: int64, (N,), tokens of each row.
        order: which row an example is.
        config: see ``TrainConfig``.
        process, processes: whose part is wanted.

    Raises:
        ValueError: the batch cannot be divided so.
    """

    def __init__(self, lengths: Tensor, order: Order, config: TrainConfig, process: int = 0, processes: int = 1):
        self.lengths, self.order, self.config = lengths, order, config
        self.starts = [0]  # by tokens: the first example of each step known so far
        if config.batch_tokens:
            share = -(-config.batch_tokens // processes)
            parts = -(-share // (config.micro_batch_tokens or share))
            longest = int(lengths.max())
            if config.batch_tokens < 2 * longest * parts * processes:
                raise ValueError(
                    f"batch_tokens={config.batch_tokens} is too little for {parts * processes} parts: rows have up to "
                    f"{longest} tokens, and a part must have room for two; raise it to "
                    f"{2 * longest * parts * processes}, or raise micro_batch_tokens ({config.micro_batch_tokens})"
                )
        else:
            share, rest = divmod(config.batch_size, processes)
            micro = config.micro_batch_size or share
            if rest or share % micro:
                raise ValueError(
                    f"batch_size={config.batch_size} cannot be divided evenly into {processes} processes "
                    f"with microbatches of {micro} rows; change batch_size or micro_batch_size"
                )
            parts = share // micro
        self.parts, self.own = parts * processes, range(process * parts, (process + 1) * parts)

    def of(self, step: int) -> Tensor:
        """int64, (B,): the numbers of the examples of step 0, 1, ..., of all processes."""
        if not self.config.batch_tokens:
            return torch.arange(step * self.config.batch_size, (step + 1) * self.config.batch_size)
        while len(self.starts) <= step + 1:
            first = self.starts[-1]
            rows = self.order.rows(torch.arange(first, first + max(len(self.lengths), self.config.batch_tokens)))
            ends = self.lengths[rows].cumsum(0)
            done = 0
            while done < len(ends):
                before = int(ends[done - 1]) if done else 0
                done = int(torch.searchsorted(ends, before + self.config.batch_tokens, right=True))
                if done < len(ends):  # else the step may go on beyond what was looked at
                    self.starts.append(first + done)
        return torch.arange(self.starts[step], self.starts[step + 1])

    def divided(self, rows: Tensor) -> list[slice]:
        """Which of a step's rows, (B,), each microbatch of this process takes."""
        if not self.config.batch_tokens:
            micro = len(rows) // self.parts
            return [slice(part * micro, (part + 1) * micro) for part in self.own]
        lengths = self.lengths[rows]
        middles = lengths.cumsum(0) - lengths / 2
        part = (middles * self.parts / lengths.sum()).long()  # rising
        ends = torch.searchsorted(part, torch.arange(self.parts + 1)).tolist()
        return [slice(ends[number], ends[number + 1]) for number in self.own]


class Batches(Dataset):
    """The steps of a training by number, as a PyTorch data set.

    Args:
        blocks: the training rows.
        recipe: what it makes of them.
        config: the settings.
        process, processes: whose part is wanted.
        few_shapes: round shapes up, so that there are few; see ``Recipe.batch``.
        visits: how often an epoch shows each row; see ``Order``.
    """

    def __init__(
        self,
        blocks: Blocks,
        recipe: Recipe,
        config: TrainConfig,
        process: int = 0,
        processes: int = 1,
        few_shapes: bool = False,
        visits: Tensor | None = None,
    ):
        self.blocks, self.recipe, self.config = blocks, recipe, config
        self.order = Order(len(blocks.input_ids), config.seed, visits)
        # an order of its own: which examples a step takes is looked up far ahead of its rows
        own_order = Order(len(blocks.input_ids), config.seed, visits)
        self.examples = Examples(blocks.lengths, own_order, config, process, processes)
        tokens = config.batch_tokens or config.batch_size * blocks.input_ids.shape[1]
        self.unit = -(-tokens // (self.examples.parts * flat.LEVELS)) if few_shapes else 0

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Step:
        examples = self.examples.of(step)
        rows, progress = self.order.rows(examples), step / self.config.steps
        batches = []
        for part in self.examples.divided(rows):
            own = self.blocks.rows(rows[part])
            own = own if self.unit or getattr(self.recipe, "whole_rows", False) else own.trimmed()
            batches.append(self.recipe.batch(own, progress, examples[part], self.config.seed, self.unit))
        return Step(int(self.blocks.lengths[rows].sum()), batches)

    def loader(self, first: int, workers: int, pinned: bool) -> DataLoader:
        """The steps from ``first`` on, one after another, made by ``workers`` other processes; 0: when they are due."""
        ahead = {"worker_init_fn": _ignore_interrupts, "prefetch_factor": AHEAD} if workers else {}
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(first, self.config.steps),
            num_workers=workers,
            pin_memory=pinned,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # it would draw from the global one, for nothing
            **ahead,
        )


def _unchanged(step: Step) -> Step:
    return step


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C goes to every process; the training ends after the step it is at, and ends its workers then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
