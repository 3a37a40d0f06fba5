"""How many blocks of the mask FlexAttention leaves out, with rows by position and in the order of generation.

The shares come from the block masks that the model would use, one row of text, both streams, all layers but the last;
no GPU is needed for them. Times are of attention alone, forward and backward, with the heads of SmolLM2-135M in
bfloat16, the median of some rounds in which the kernels take turns: on a CUDA GPU only, null elsewhere.

    python benchmarks/flex.py
"""

import argparse
import statistics

import torch
from record import record

from a3mini import flex, groups, masks
from a3mini.groups import PADDING
from a3mini.model import Visibility, attend
from a3mini.rows import Slots

HEADS, KEY_HEADS, HEAD_DIM = 9, 3, 64
LONGEST_MASK = 8192  # the default kernel writes its mask out


def a_blank(length: int) -> torch.Tensor:
    """The second quarter is unknown."""
    position = torch.arange(length)
    return groups.infill((position >= length // 4) & (position < length // 2))


GROUPINGS = {
    "left to right": lambda length, generator: groups.left_to_right(length),
    "blocks of 4": lambda length, generator: groups.blocks(length, 4),
    "random order": lambda length, generator: groups.shuffled(length, 1, generator=generator),
    "random groups of 8": lambda length, generator: groups.shuffled(length, 8, generator=generator),
    "a blank of a quarter": lambda length, generator: a_blank(length),
    "a random half, one group": lambda length, generator: groups.two_groups(
        torch.rand(length, generator=generator) < 0.5
    ),
}


def slots(group_ids: torch.Tensor, in_order: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The groups of the content rows and of the query rows, (1, C) and (1, Q), as the model lays them out."""
    group_ids = group_ids[None]
    order = group_ids if in_order else None
    content = Slots.where((group_ids >= 0) & (group_ids < group_ids.amax()), order)
    query = Slots.where(group_ids > 0, order)
    return content.take(group_ids, PADDING), query.take(group_ids, PADDING)


def shares(group_ids: torch.Tensor, in_order: bool) -> dict[str, float]:
    """Shares of the mask's blocks: left out, computed with the rule, computed without it because all is allowed."""
    mask = flex.Blocks.of(*slots(group_ids, in_order)).block_mask()
    total = mask.kv_indices.shape[-2] * mask.kv_indices.shape[-1]
    partial, full = (int(count.sum()) / total for count in (mask.kv_num_blocks, mask.full_kv_num_blocks))
    return {"skipped": round(1 - partial - full, 4), "partial": round(partial, 4), "full": round(full, 4)}


def times(group_ids: torch.Tensor, rounds: int) -> dict[str, float | None]:
    """Milliseconds of attention, forward and backward, by kernel."""
    kinds = {"sdpa": False, "flex, by position": False, "flex, in order": True}
    if not torch.cuda.is_available():
        return dict.fromkeys(kinds)
    steps = {}
    for kind, in_order in kinds.items():
        content, query = (one.cuda() for one in slots(group_ids, in_order))
        if kind == "sdpa" and len(group_ids) > LONGEST_MASK:
            continue
        if kind == "sdpa":
            own, others = masks.may_attend(content, content, True), masks.may_attend(query, content, False)
            visible = Visibility.of(torch.cat((own, others), dim=1))
        else:
            visible = flex.Blocks.of(content, query)
        n_content, n_rows = content.shape[1], content.shape[1] + query.shape[1]
        q, k, v = (
            torch.randn(1, heads, rows, HEAD_DIM, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            for heads, rows in ((HEADS, n_rows), (KEY_HEADS, n_content), (KEY_HEADS, n_content))
        )
        kernel = "sdpa" if kind == "sdpa" else flex.KERNEL

        def step(q=q, k=k, v=v, visible=visible, kernel=kernel) -> float:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            attend(q, k, v, visible, kernel)[0].sum().backward()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end)

        steps[kind] = step
    for step in steps.values():  # compile, and warm up
        step()
    found = {kind: [] for kind in steps}
    for _ in range(rounds):
        for kind, step in steps.items():
            found[kind].append(step())
    return dict.fromkeys(kinds) | {kind: round(statistics.median(one), 3) for kind, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192, 32768])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    rows = []
    for name, make in GROUPINGS.items():
        for length in options.lengths:
            group_ids = make(length, torch.Generator().manual_seed(0))
            row = {"grouping": name, "length": length}
            row |= {what: shares(group_ids, order) for what, order in (("by position", False), ("in order", True))}
            rows.append(row | {"ms": times(group_ids, options.rounds)})
            skipped = ", ".join(f"{row[what]['skipped']:.3f} {what}" for what in ("by position", "in order"))
            print(f"{name:26} {length:6} left out: {skipped}; ms: {rows[-1]['ms']}")
    record("flex", seed=0, block=flex.BLOCK, rounds=options.rounds, rows=rows)


if __name__ == "__main__":
    main()
