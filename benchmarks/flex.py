"""How many blocks of the mask does FlexAttention leave out, with rows by position and in the order of generation?

The shares come from the block masks that the model would use, one row of text, both streams, all layers but the last;
no GPU is needed for them. Times are of attention alone, forward and backward, with the heads of SmolLM2-135M, the
median of some rounds in which the kernels take turns: in bfloat16 on a CUDA GPU; in float32 on a CPU, where
FlexAttention cannot be trained, and up to LONGEST_ON_CPU tokens. "causal" is the default kernel without a mask, which
needs one token a group.

    python benchmarks/flex.py
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from record import record
from timing import turns
from torch import Tensor

from a3mini import flex, groups, masks
from a3mini.attention import Causal, Visibility, attend
from a3mini.rows import Slots

HEADS, KEY_HEADS, HEAD_DIM = 9, 3, 64
LONGEST_MASK, LONGEST_ON_CPU = 8192, 2048  # the default kernel writes its mask out
ORDERS = {"by position": False, "in order": True}  # how rows stand: in the order of generation?
KINDS = ("sdpa", "causal", *(f"flex, {name}" for name in ORDERS))
GROUPINGS = {
    "left to right": groups.left_to_right,
    "blocks of 4": partial(groups.blocks, size=4),
    "random order": partial(groups.shuffled, size=1),
    "random groups of 8": partial(groups.shuffled, size=8),
    "strided groups of 8": partial(groups.strided, streams=8),
    "a blank of a quarter": lambda length, generator: groups.infill(torch.arange(length) * 4 // length == 1),
    "a random half, one group": lambda length, generator: groups.two_groups(
        torch.rand(length, generator=generator) < 0.5
    ),
}


def slots(group_ids: Tensor, in_order: bool) -> tuple[Tensor, Tensor]:
    """The groups of the content rows and of the query rows, (1, C) and (1, Q), as the model lays them out."""
    group_ids = group_ids[None]
    order = group_ids if in_order else None
    content = Slots.where((group_ids >= 0) & (group_ids < group_ids.amax()), order)
    query = Slots.where(group_ids > 0, order)
    return content.take(group_ids, groups.PADDING), query.take(group_ids, groups.PADDING)


def shares(group_ids: Tensor, in_order: bool) -> dict[str, float]:
    """Shares of the mask's blocks: left out, computed with the rule, computed without it because all is allowed."""
    mask = flex.Blocks.of(*slots(group_ids, in_order)).block_mask()
    total = mask.kv_indices.shape[-2] * mask.kv_indices.shape[-1]
    partly, full = (int(count.sum()) / total for count in (mask.kv_num_blocks, mask.full_kv_num_blocks))
    return {"skipped": round(1 - partly - full, 4), "partial": round(partly, 4), "full": round(full, 4)}


def attention(content: Tensor, query: Tensor, kernel: str) -> Callable[[int], None]:
    """A forward and backward pass of a kernel over these rows, random numbers in them."""
    columns, dtype = content.shape[1], torch.bfloat16 if content.is_cuda else torch.float32
    if kernel == "sdpa":
        own, others = masks.may_attend(content, content, True), masks.may_attend(query, content, False)
        visible = Visibility.of(torch.cat((own, others), dim=1)).ready(kernel, dtype, HEADS // KEY_HEADS)
    else:
        visible = Causal(2) if kernel == "causal" else flex.Blocks.of(content, query)
    shapes = (HEADS, columns + query.shape[1]), (KEY_HEADS, columns), (KEY_HEADS, columns)
    options = {"device": content.device, "dtype": dtype, "requires_grad": True}
    q, k, v = (torch.randn(1, *shape, HEAD_DIM, **options) for shape in shapes)
    return lambda _: attend(q, k, v, visible, kernel)[0].sum().backward()


def times(group_ids: Tensor, rounds: int) -> dict[str, float | None]:
    """Milliseconds of attention, forward and backward, by kernel."""
    gpu, steps = torch.cuda.is_available(), {}
    device = "cuda" if gpu else "cpu"
    rows = {name: [one.to(device) for one in slots(group_ids, in_order)] for name, in_order in ORDERS.items()}
    if gpu:
        steps |= {f"flex, {name}": attention(*one, flex.KERNEL) for name, one in rows.items()}
    if len(group_ids) <= (LONGEST_MASK if gpu else LONGEST_ON_CPU):
        steps["sdpa"] = attention(*rows["in order"], "sdpa")
    if len(group_ids.unique()) == len(group_ids) and (gpu or len(group_ids) <= LONGEST_ON_CPU):
        steps["causal"] = attention(*rows["in order"], "causal")
    seconds = turns(steps, rounds) if steps else {}
    return {kind: round(1e3 * statistics.median(seconds[kind]), 3) if kind in seconds else None for kind in KINDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 2048, 8192, 32768])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    rows = []
    for name, make in GROUPINGS.items():
        for length in options.lengths:
            group_ids = make(length, generator=torch.Generator().manual_seed(0))
            found = {order: shares(group_ids, in_order) for order, in_order in ORDERS.items()}
            found["ms"] = times(group_ids, options.rounds)
            rows.append({"grouping": name, "length": length, **found})
            print(rows[-1], flush=True)
    record("flex", seed=0, block=flex.BLOCK, rounds=options.rounds, rows=rows)


if __name__ == "__main__":
    main()
