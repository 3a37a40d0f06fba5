"""The curriculum viewer: walk through a training, and see what each step saw and how the losses went."""

from collections import Counter
from collections.abc import Sequence

import torch
import traitlets
from torch import Tensor

from a3mini import masks, runs
from a3mini.notebook.explorers.base import Explorer, bundle, stylesheet
from a3mini.train.batches import Batches
from a3mini.train.config import TrainConfig
from a3mini.train.curriculum import CHOICES, KINDS, ROUNDING, Curriculum, Grouping, Stage, uniform
from a3mini.train.data import Blocks
from a3mini.train.recipes import AnyOrder


class Replay:
    """The batches of a training run, once more.

    All that is random in a step comes from the seed and the numbers of its examples, and ``train`` and this class use
    the same functions. So these are the rows and the groups that the training saw, not new draws.

    Args:
        curriculum, blocks, config: those of the run, which was trained with ``AnyOrder(curriculum)``.
        empty_token_id: the token that ended blanks, where the curriculum gives them spare room.
    """

    def __init__(self, curriculum: Curriculum, blocks: Blocks, config: TrainConfig, empty_token_id: int | None = None):
        self.curriculum, self.blocks, self.config = curriculum, blocks, config
        self.recipe = AnyOrder(curriculum, empty_token_id=empty_token_id)
        self.batches = Batches(blocks, self.recipe, config)

    def examples(self, step: int) -> Tensor:
        """The numbers of the examples of step 1, 2, ..., ``config.steps``; int64, (B,)."""
        return self.batches.examples.of(step - 1)

    def progress(self, step: int) -> float:
        """How much of the training was over when the step began, in [0, 1)."""
        return (step - 1) / self.config.steps

    def rows(self, step: int) -> Blocks:
        """The B rows of a step."""
        return self.blocks.rows(self.batches.order.rows(self.examples(step)))

    def seen(self, step: int) -> tuple[Tensor, Tensor]:
        """What the model saw of them, int64, (B, T) each: tokens, and their group ids; -1 is padding."""
        rows, draw = self.rows(step), (self.progress(step), self.examples(step), self.config.seed)
        return self.recipe.with_room(rows, self.recipe.group_ids(rows, *draw), *draw)

    def groupings(self, step: int) -> list[Grouping]:
        """What each of the B examples chose, before it drew its groups."""
        stage, inside = self.curriculum.stage_at(self.progress(step))
        chosen = stage.choose(inside, uniform(self.config.seed, self.examples(step), CHOICES))
        return [Grouping(KINDS[kind], size) for kind, size in torch.stack(chosen, 1).tolist()]

    def stage(self, step: int) -> int:
        """The number of its stage, from 0."""
        return sum(self.progress(step) >= end - ROUNDING for end in self.curriculum.boundaries[:-1])

    def tokens(self, step: int) -> int:
        """Real tokens up to the end of a step."""
        return int(self.blocks.lengths[self.batches.order.rows(torch.arange(int(self.examples(step)[-1]) + 1))].sum())


class CurriculumViewer(Explorer):
    """The steps of an adaptation: stage, group ids, both masks, and the held-out losses so far.

    Steps count from 1, as in the metrics. Of the batches of a long training a sample is kept, of the losses all.

    Args:
        curriculum: of the run, as is all else here.
        blocks: the training rows.
        config: the settings of ``train``.
        metrics: what ``train`` returned or ``runs.read_metrics`` read, with evaluations.
        tokenizer: of the rows.
        source: which model was trained on what.
        references: label to loss (nats per token), for lines to compare with.
        step: with which to begin; default: the last, when all curves are drawn.
        samples: about how many steps keep their batch; first steps of stages and measured ones come in addition.
        rows: how many rows of a batch are kept.
        tokens: how many neighbouring tokens of a row; they begin near its first predicted one; of a blank with spare
            room the end is among them.
        empty_token_id: the token that ended blanks, where the curriculum gives them spare room; see ``AnyOrder``.

    Attributes:
        step: int, 1 to ``config.steps``; follows the reader and may be set. The nearest kept step is shown.
        row: int, which of the kept rows is shown, from 0.
        whole: bool, whether the losses after ``step`` are shown too.

    Raises:
        ValueError: metrics without evaluations or of another run; a step or a number out of range; blanks with spare
            room, and no ``empty_token_id``.
    """

    _esm = bundle("curriculum")
    _css = stylesheet("curriculum")
    summary = "An interactive figure: the steps of a training, with their groups, both masks, and the held-out losses."
    steps = traitlets.Int().tag(sync=True)
    stages = traitlets.List().tag(sync=True)  # name, first, last
    samples = traitlets.List().tag(sync=True)  # of each kept step: see _sample
    vocabulary = traitlets.List(traitlets.Unicode()).tag(sync=True)  # the texts of the tokens in the samples
    curves = traitlets.List().tag(sync=True)  # name, points: [step, nats per token]
    batch_losses = traitlets.List().tag(sync=True)  # [step, nats per token]
    references = traitlets.List().tag(sync=True)  # [label, nats per token]
    step = traitlets.Int(1).tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)
    whole = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        curriculum: Curriculum,
        blocks: Blocks,
        config: TrainConfig,
        metrics: Sequence[dict],
        tokenizer,
        source: str,
        references: dict[str, float] | None = None,
        step: int | None = None,
        samples: int = 48,
        rows: int = 3,
        tokens: int = 14,
        empty_token_id: int | None = None,
    ):
        for name, value in (("samples", samples), ("rows", rows), ("tokens", tokens)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        step = config.steps if step is None else step
        if not 1 <= step <= config.steps:
            raise ValueError(f"step must be one of the training's steps, 1 to {config.steps}; got {step}")
        replay = Replay(curriculum, blocks, config, empty_token_id)
        curves = _curves(metrics)
        _check_metrics(metrics, replay)
        stages = [replay.stage(number) for number in range(1, config.steps + 1)]
        present = sorted(set(stages))  # a very short stage may have no step
        found = []
        for number in _kept(replay, stages, curves, samples):
            found.append(_sample(replay, number, rows, tokens) | {"stage": present.index(stages[number - 1])})
        used = sorted({token for sample in found for row in sample["rows"] for token in row["tokens"]})
        place = {token: number for number, token in enumerate(used)}
        for sample in found:
            for row in sample["rows"]:
                row["tokens"] = [place[token] for token in row["tokens"]]
        super().__init__(
            steps=config.steps,
            stages=[
                {
                    "name": curriculum.stages[number].name,
                    "first": stages.index(number) + 1,
                    "last": stages.index(number) + stages.count(number),
                }
                for number in present
            ],
            samples=found,
            vocabulary=[tokenizer.decode([token]) for token in used],
            curves=curves,
            batch_losses=[[line["step"], round(line["loss"], 4)] for line in metrics if "loss" in line],
            references=[[label, round(value, 4)] for label, value in (references or {}).items()],
            step=step,
            source=source,
        )


def _curves(metrics: Sequence[dict]) -> list[dict]:
    names = list(dict.fromkeys(key for line in metrics for key in line if key not in runs.LOGGED))
    if not names:
        raise ValueError(
            "the metrics have no evaluations; give train an evaluate such as HeldOut(rows), and eval_every"
        )
    points = {name: [[line["step"], round(line[name], 4)] for line in metrics if name in line] for name in names}
    return [{"name": name, "points": points[name]} for name in names]


def _check_metrics(metrics: Sequence[dict], replay: Replay) -> None:
    """The number of tokens tells most runs on other rows, or with other settings, from this one."""
    last = metrics[-1]
    if last["step"] > replay.config.steps or last["tokens"] != replay.tokens(last["step"]):
        expected = replay.tokens(min(last["step"], replay.config.steps))
        raise ValueError(
            f"the metrics are of another run: they have {last['tokens']} tokens by step {last['step']}, but with these "
            f"blocks and this config there are {expected} by step {min(last['step'], replay.config.steps)}; "
            "give the blocks and the config that train was given"
        )


def _kept(replay: Replay, stages: list[int], curves: list[dict], samples: int) -> list[int]:
    steps = replay.config.steps
    even = torch.linspace(1, steps, min(samples, steps)).round().int().tolist()
    settings = [(stage, _parts(replay, step)) for step, stage in enumerate(stages, start=1)]
    changes = [step for step in range(2, steps + 1) if settings[step - 1] != settings[step - 2]]
    ends = [step - 1 for step in changes]
    measured = [step for curve in curves for step, _ in curve["points"] if step > 0]
    return sorted({1, steps, *even, *changes, *ends, *measured})


def _parts(replay: Replay, step: int) -> list[dict]:
    """What the examples of a step are drawn from."""
    stage, inside = replay.curriculum.stage_at(replay.progress(step))
    total = sum(part.weight for part in stage.parts)
    found = []
    for part in stage.parts:
        now = list(part.sizes)
        if part.grow:
            now = Stage(stage.name, 1, (part,)).choose(inside, torch.zeros(1, 2, dtype=torch.float64))[1].tolist()
        found.append(
            {"kind": part.kind, "sizes": now, "all_sizes": list(part.sizes), "share": round(part.weight / total, 4),
             "room": part.room}
        )  # fmt: skip
    return found


def _sample(replay: Replay, step: int, rows: int, tokens: int) -> dict:
    """What one step saw: its first rows, and of the whole batch what it drew and how much its tokens see."""
    (input_ids, group_ids), groupings = replay.seen(step), replay.groupings(step)
    predicted, sees = group_ids > 0, masks.query_mask(group_ids)
    left, right = sees.tril(-1).sum(-1)[predicted], sees.triu(1).sum(-1)[predicted]
    shown = []
    for ids, group, grouping in zip(input_ids, group_ids, groupings, strict=True):
        length = int((group >= 0).nonzero()[-1]) + 1  # what is behind is padding of the batch
        first, last = (group > 0).nonzero()[[0, -1], 0].tolist()
        spare = bool(ids[last] == replay.recipe.empty_token_id)
        first = max(first, last - tokens // 2) if spare else first  # the end, which is the last, is worth seeing
        start = max(0, min(first - 3, length - tokens))
        end = min(start + tokens, length)
        shown.append(
            {
                "kind": grouping.kind,
                "size": grouping.size,
                "start": start,
                "length": length,
                "spare": spare,
                "tokens": ids[start:end].tolist(),
                "groups": group[start:end].tolist(),
            }
        )
        if len(shown) == rows:
            break
    drawn = Counter((grouping.kind, grouping.size) for grouping in groupings)
    return {
        "step": step,
        "inside": round(replay.curriculum.stage_at(replay.progress(step))[1], 4),
        "parts": _parts(replay, step),
        "rows": shown,
        "drawn": [[kind, size, count] for (kind, size), count in sorted(drawn.items())],
        "predicted": int(predicted.sum()),
        "left": round(left.float().mean().item(), 2),
        "right": round(right.float().mean().item(), 2),
    }
