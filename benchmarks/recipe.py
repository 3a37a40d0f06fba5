"""The recipe, by ablation: what does each choice of our training change, alone, at the same rows and steps?

    python benchmarks/recipe.py --data FOLDER    two seeds of all arms, an hour of two cores; what is finished is kept.
                                                 In two processes: first --part 0/2 and --part 1/2 at once, then this
                                                 line, which records
    python benchmarks/recipe.py                  the same on two texts that come as packages
    python benchmarks/recipe.py --arm TITLE      one arm beside the base: a try, not recorded
    python benchmarks/recipe.py --finished       trains nothing; records the arms that are finished on all seeds
    python benchmarks/recipe.py --smoke          a few steps of tiny models; nothing is written

A narrow copy of the book's compact model is trained from scratch. Each arm changes one thing of the base, ``Arm()``;
"the paper's recipe" changes the two in which ours differs from it. Of a seed all arms start from the same weights, and
see the same rows in the same order and the same number of steps. How many tokens a row predicts depends on the
groupings, so the result has that, and the operations of every arm, those of the matrices, relative to the base.
"autoregression first" trains a plain Llama on rows of its own for half of the base's operations, then A3 on the other
half. The weights' average is evaluated after the base's own training, which knows nothing of it.

Losses are nats per predicted token on held-out rows, the same for all arms; two texts count alike, however long they
are. Given tokens read each other as in the arm's training. Differences to the base are paired over held-out rows,
averaged over seeds; the interval is over rows, and each seed's own difference stands beside it.

FOLDER has the files of ``gpu_lab.SIMPLE``, NAME.jsonl.gz, a document in each line under "text", which count in its
proportions. Documents of the first and of the last, the old books, are held out first.
"""

import argparse
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from gpu_lab import HELD_OUT, SIMPLE
from kept import NotFinished, digest, kept
from record import command_line, record
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import A3Config, A3ForCausalLM, from_autoregressive
from a3mini.evaluate import intervals
from a3mini.evaluate.held_out import a3_score, draw, token_losses
from a3mini.model import A3Model
from a3mini.rows import FROM_VECTOR, IGNORED_LABEL
from a3mini.train import AnyOrder, Autoregressive, Blocks, Curriculum, TrainConfig, corpus, data, generator_for, train
from a3mini.train.average import Average
from a3mini.train.batches import Batches
from a3mini.train.curriculum import Grouping, Part, Stage
from a3mini.train.recipes import Batch, Recipe
from a3mini.train.tokens import vocabulary_size

LENGTH, BATCH_TOKENS, STEPS, VOCABULARY = 128, 2048, 256, 4096
SHAPE = dict(hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
             tie_word_embeddings=True)  # fmt: skip
TINY = dict(SHAPE, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
RATES = {"muon": 8e-3, "adamw": 2e-3}  # each the best of a grid: book/results/muon.json
PASS = 1 / 8  # of the text, in its proportions, is made into rows; more than a training sees
ROWS = 64  # held out of each text; whole ones
HALF_LIFE = 1 / 16  # of the weights' average, as a share of the training
GROUPINGS = {
    "left to right": Grouping("blocks"), "a span": Grouping("span"), "a sentence": Grouping("sentence"),
    "random order": Grouping("shuffled"), "strided 2": Grouping("strided", 2), "strided 4": Grouping("strided", 4),
    "strided 8": Grouping("strided", 8), "neighbours 4": Grouping("blocks", 4),
}  # fmt: skip
USED = ("left to right", "a sentence", "random order", "strided 4")  # what their mean, ``MEAN``, is of
MEAN = "mean of what is used"


# Curricula


def shares(stage: Stage) -> dict[str, float]:
    """How often a stage draws each kind of grouping."""
    total = sum(part.weight for part in stage.parts)
    return {part.kind: part.weight / total for part in stage.parts}


def overall(curriculum: Curriculum) -> dict[str, float]:
    """How often a whole training draws each kind of grouping."""
    found, total = {}, sum(stage.share for stage in curriculum.stages)
    for stage in curriculum.stages:
        for kind, share in shares(stage).items():
            found[kind] = found.get(kind, 0.0) + share * stage.share / total
    return found


def stage(wanted: dict[str, float], share: float = 1.0, name: str = "everything at once") -> Stage:
    """The stage of "mixed", with other shares of its parts; a part without a share is left out."""
    sizes = {part.kind: part.sizes for part in Curriculum.preset("mixed").stages[0].parts}
    return Stage(name, share, tuple(Part(kind, sizes[kind], weight) for kind, weight in wanted.items() if weight > 0))


def instead(kind: str, share: float, to: str | None = None) -> Curriculum:
    """ "mixed" with ``share`` of ``kind``; what it gains or loses is that of ``to``, or of all others in proportion."""
    wanted = shares(Curriculum.preset("mixed").stages[0])
    if to is None:
        rest = (1 - share) / (1 - wanted[kind])
        wanted = {name: weight * rest for name, weight in wanted.items()}
    else:
        wanted[to] += wanted[kind] - share
    return Curriculum((stage(wanted | {kind: share}),))


def annealed(alone: float = 1 / 3) -> Curriculum:
    """Random order alone in the first part of the training, then what is missing for the shares of "mixed"."""
    wanted = shares(Curriculum.preset("mixed").stages[0])
    later = {kind: weight / (1 - alone) for kind, weight in wanted.items()}
    later["shuffled"] = (wanted["shuffled"] - alone) / (1 - alone)
    return Curriculum((stage({"shuffled": 1.0}, alone, "random order"), stage(later, 1 - alone, "toward use")))


# What else an arm may change


class ByRow(AnyOrder):
    """Every row counts the same, however many of its tokens are predicted."""

    def settings(self) -> dict:
        return super().settings() | {"counts": "rows"}

    def batch(self, rows: Blocks, progress: float, examples: Tensor, seed: int, unit: int = 0) -> Batch:
        batch = super().batch(rows, progress, examples, seed, unit)
        row = batch.inputs["plan"].places // rows.input_ids.shape[1]  # places that only fill up are behind the last row
        of_row = torch.bincount(row[batch.weights > 0], minlength=len(rows.lengths) + 1)
        each = batch.count / int((of_row > 0).sum())  # what a row weighs: all together, as much as all tokens
        return batch._replace(weights=batch.weights * each / of_row.clamp(min=1)[row])


class TargetModel(A3Model):
    """A3 whose query rows also start from a learned vector for the position that they predict; at first it is zero.

    As the target-position condition of AO-GPT (arXiv 2506.19935), but added once, before the first layer.
    """

    def __init__(self, config: A3Config):
        super().__init__(config)
        self.targets = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        nn.init.zeros_(self.targets.weight)

    def query_rows(self, positions: Tensor, query_ids: Tensor | None, dtype: torch.dtype) -> Tensor:
        target = positions if query_ids is None else positions + (query_ids != FROM_VECTOR)
        return super().query_rows(positions, query_ids, dtype) + self.targets(target)


class TargetLM(A3ForCausalLM):
    """``TargetModel`` with its head."""

    def __init__(self, config: A3Config):
        super().__init__(config)
        self.model = TargetModel(config)
        self.tie_weights()


@dataclass(frozen=True)
class Arm:
    """A training; without arguments, the base."""

    curriculum: Curriculum = field(default_factory=lambda: Curriculum.preset("mixed"))
    query_start: str = "previous"
    known_order: str = "together"
    recipe: type = AnyOrder
    model: type = A3ForCausalLM
    optimizer: str = "muon"
    source_share: float = 0.0  # of the base's operations, in which a Llama is trained left to right first

    def settings(self) -> dict:
        """For the names of what is kept."""
        plain = {name: getattr(self, name) for name in ("query_start", "known_order", "optimizer", "source_share")}
        return plain | {"curriculum": self.curriculum.to_dict(), "is": [self.recipe.__name__, self.model.__name__]}


BASE, AVERAGE = "the base", "EMA of the weights"
ARMS = {  # the most important first
    BASE: Arm(),
    "cold query rows": Arm(query_start="vector"),
    "the paper's recipe": Arm(Curriculum.preset("paper"), query_start="vector"),
    "no left to right": Arm(instead("blocks", 0.0, "shuffled")),
    "more random order": Arm(instead("shuffled", 0.7)),
    "no strided": Arm(instead("strided", 0.0, "shuffled")),
    "autoregression first": Arm(source_share=0.5),
    "given tokens in order": Arm(known_order="left_to_right"),
    "the paper's stages": Arm(Curriculum.preset("paper")),
    "half left to right": Arm(instead("blocks", 0.5)),
    "annealed toward use": Arm(annealed()),
    "rows count alike": Arm(recipe=ByRow),
    "target position": Arm(model=TargetLM),
    "AdamW": Arm(optimizer="adamw"),
}
CHANGES = {
    BASE: 'curriculum "mixed", warm query rows, given tokens together, every predicted token counts, Muon',
    AVERAGE: "the base's own training, its weights averaged over the last steps",
    "cold query rows": "query rows start from w",
    "the paper's recipe": "the paper's three stages, and query rows start from w",
    "no left to right": "its tenth goes to random order",
    "more random order": "random order 70 %, the others in proportion",
    "no strided": "its 15 % go to random order",
    "autoregression first": "half of the operations train a Llama left to right, the other half A3 from it",
    "given tokens in order": "given tokens read each other from left to right",
    "the paper's stages": "the paper's three stages; query rows start warm",
    "half left to right": "left to right 50 %, the others in proportion",
    "annealed toward use": "a third random order alone, then the rest of the base's shares",
    "rows count alike": "every row counts the same, not every token",
    "target position": "a learned vector for the predicted position is added to the query row",
    "AdamW": "AdamW for all weights, at its own best rate",
}
FIRST = 8  # arms that come first, all of them with one seed, then with the next


def trainings(arms: list[str], seeds: int) -> list[tuple[str, int]]:
    """All trainings, in the order in which they are worth having."""
    first = [arm for arm in list(ARMS)[:FIRST] if arm in arms]
    return [(arm, seed) for seed in range(seeds) for arm in first] + [
        (arm, seed) for arm in arms if arm not in first for seed in range(seeds)
    ]


def part_of(some: list, part: tuple[int, int]) -> list:
    """What process number ``part[0]`` of ``part[1]`` does of it: every so many-th."""
    return some[part[0] :: part[1]]


def as_part(text: str) -> tuple[int, int]:
    """ "0/2" to 0 and 2."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 0/2 or 1/2")
    return int(number), int(of)


# A training


class Costs(NamedTuple):
    """Multiplications of matrices, of one row in one forward pass; attention's own are left out."""

    content: int
    query: int
    llama: int

    @classmethod
    def of(cls, shape: dict, vocabulary: int) -> "Costs":
        size, layers = shape["hidden_size"], shape["num_hidden_layers"]
        two, mlp, head = 2 * size**2, 3 * size * shape["intermediate_size"], size * vocabulary
        whole = 2 * two + mlp  # queries and output; keys and values; MLP
        # of content rows the last layer needs keys and values alone; query rows have none
        return cls((layers - 1) * whole + two, layers * (two + mlp) + head, layers * whole + head)


class Watched:
    """A recipe, and what goes through it; an average follows the weights, if there is one.

    Steps must be made when they are due, and whole. When one is made, the weights are those after the step before.
    """

    def __init__(self, recipe: Recipe, costs: Costs, average: Average | None = None):
        self.recipe, self.costs, self.average = recipe, costs, average
        self.rows = self.tokens = self.predicted = self.operations = self.last = 0

    @property
    def whole_rows(self) -> bool:
        return getattr(self.recipe, "whole_rows", False)

    def settings(self) -> dict:
        return self.recipe.settings()

    def batch(self, rows: Blocks, progress: float, examples: Tensor, seed: int, unit: int = 0) -> Batch:
        self.follow()
        batch = self.recipe.batch(rows, progress, examples, seed, unit)
        self.last = int(rows.lengths.sum())
        self.rows, self.tokens = self.rows + len(rows.lengths), self.tokens + self.last
        self.predicted += batch.count
        if "plan" in batch.inputs:
            plan = batch.inputs["plan"]
            query = int((plan.labels != IGNORED_LABEL).sum())
            self.operations += self.costs.query * query + self.costs.content * (int(plan.real) - query)
        else:
            self.operations += self.costs.llama * self.last
        return batch

    def follow(self) -> None:
        """The average takes in the weights after the last step that was made."""
        if self.average and self.last:
            self.average.update(self.last)
        self.last = 0

    def log_probs(self, model: nn.Module, inputs: dict) -> Tensor:
        return self.recipe.log_probs(model, inputs)


class Size(NamedTuple):
    """How large everything is."""

    shape: dict
    vocabulary: int
    length: int
    steps: int
    batch_tokens: int

    def config(self, optimizer: str, seed: int, steps: int | None = None) -> TrainConfig:
        steps = steps or self.steps
        return TrainConfig(steps=steps, batch_tokens=self.batch_tokens, warmup_steps=max(1, steps // 10),
                           optimizer=optimizer, learning_rate=RATES[optimizer], seed=seed, precision="fp32",
                           compile=False, workers=0, log_every=steps)  # fmt: skip

    @property
    def model(self) -> dict:
        return self.shape | {"vocab_size": self.vocabulary, "max_position_embeddings": self.length}


def recipe_of(arm: Arm) -> AnyOrder:
    return arm.recipe(arm.curriculum, arm.known_order)


def begin(arm: Arm, size: Size, seed: int) -> A3ForCausalLM:
    """An untrained model: of a seed the same weights for every arm."""
    torch.manual_seed(seed)
    config = A3Config(query_start=arm.query_start, known_order=arm.known_order, **size.model)
    model = A3ForCausalLM(config)
    if arm.model is not A3ForCausalLM:
        plain, model = model, arm.model(config)
        _, left_over = model.load_state_dict(plain.state_dict(), strict=False)
        assert not left_over, left_over
    return model


def source_steps(arm: Arm, size: Size, blocks: Blocks, seed: int) -> tuple[int, int]:
    """How many steps a Llama is trained, and then A3, so that both have their shares of the base's operations."""
    if not arm.source_share:
        return 0, size.steps
    costs, config = Costs.of(size.shape, size.vocabulary), size.config(arm.optimizer, seed)
    spent = []
    for recipe in (recipe_of(Arm()), Autoregressive()):
        watched = Watched(recipe, costs)
        batches = Batches(blocks, watched, config)
        for step in range(0, size.steps, max(1, size.steps // 32)):
            batches[step]
        spent.append(watched.operations)
    ours = round(size.steps * (1 - arm.source_share))
    return max(1, round((size.steps - ours) * spent[0] / spent[1])), ours


def trained(arm: Arm, size: Size, blocks: Blocks, held_out: Blocks, seed: int, averaged: bool = False) -> dict:
    """Train; each held-out row's nats, by grouping, and what the training took."""
    costs = Costs.of(size.shape, size.vocabulary)
    before, steps = source_steps(arm, size, blocks, seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spent, model = [], begin(arm, size, seed).to(device)  # here, for the average begins with these weights
    if before:
        torch.manual_seed(seed)
        source = LlamaForCausalLM(LlamaConfig(**size.model))
        spent.append(Watched(Autoregressive(), costs))
        # rows of its own: those that A3 is trained on come after it, for the first time
        train(source, spent[0], blocks, size.config(arm.optimizer, seed + 1000, before), quiet=True)
        model = from_autoregressive(source, query_start=arm.query_start, known_order=arm.known_order).to(device)
    config = size.config(arm.optimizer, seed, steps)
    average = Average(model.named_parameters(), HALF_LIFE * steps * size.batch_tokens) if averaged else None
    spent.append(Watched(recipe_of(arm), costs, average))
    lines = train(model, spent[-1], blocks, config, quiet=True)
    spent[-1].follow()
    found = {name: sum(getattr(one, name) for one in spent) for name in ("rows", "tokens", "predicted", "operations")}
    found |= {"steps": [before, steps], "loss": lines[-1]["loss"], "seconds": lines[-1]["seconds"]}
    found["nats"] = measured(model, held_out)
    if average:
        with average.swapped():
            found["averaged"] = measured(model, held_out)
    return found


@torch.no_grad()
def measured(model: A3ForCausalLM, held_out: Blocks) -> dict[str, list[float]]:
    """Each held-out row's nats, all of its predicted tokens together, by grouping."""
    found = {}
    for title, grouping in GROUPINGS.items():
        group_ids = draw(held_out, grouping)
        nats, _ = token_losses(lambda ids, g: a3_score(model, ids, g), held_out, group_ids, model.device, batch_size=16)
        found[title] = [round(one, 4) for one in nats.tolist()]
    return found


# Text


class Text(NamedTuple):
    """What is trained on, and what is held out of each text that is measured."""

    name: str
    stories: list[corpus.Story]
    held_out: dict[str, list[corpus.Story]]


def packaged(most: int | None = None) -> Text:
    """Two texts that come as packages; ``most`` documents of each."""
    stories, held_out = [], {}
    for name in ("andersen", "bible-bbe"):
        some, held_out[name] = corpus.split_documents(corpus.documents(name)[:most])
        stories += some
    return Text("andersen and bible-bbe, the packaged texts", stories, held_out)


def of_folder(folder: Path, most: int | None = None) -> Text:
    """The simple texts in their proportions, the documents of each in an order drawn with seed 0."""
    if missing := [name for name in SIMPLE if not (folder / f"{name}.jsonl.gz").is_file()]:
        raise SystemExit(f"recipe: --data {folder} has no {missing[0]}.jsonl.gz; it needs {', '.join(SIMPLE)}")
    stories, held_out = [], {}
    for name, times in SIMPLE.items():
        found = corpus.documents(folder / f"{name}.jsonl.gz", limit=most)
        if name in HELD_OUT:
            found, held_out[name] = corpus.split_documents(found, HELD_OUT[name])
        order = torch.randperm(len(found), generator=generator_for(0)).tolist()
        stories += [found[number] for number in order[: max(1, round(times * PASS * len(found)))]]
    each = ", ".join(f"{name} {times:g}" for name, times in SIMPLE.items())
    return Text(f"{each}: documents in these proportions", stories, held_out)


class Rows(NamedTuple):
    """Rows of tokens."""

    blocks: Blocks
    held_out: Blocks
    text_of: list[str]  # of each held-out row
    vocabulary: int


def made(text: Text, length: int, vocabulary: int, count: int) -> Rows:
    """The text's own tokenizer, its rows, and ``count`` whole held-out rows of each text, drawn with seed 0."""
    tokenizer = data.train_tokenizer(text.stories, vocabulary)
    parts, text_of = [], []
    for name, stories in text.held_out.items():
        rows = data.pack(stories, tokenizer, length)
        whole = (rows.lengths == length).nonzero()[:, 0]
        parts.append(rows.rows(whole[torch.randperm(len(whole), generator=generator_for(0))[:count]]))
        text_of += [name] * len(parts[-1].lengths)
    held_out = Blocks(*(torch.cat(some) for some in zip(*parts, strict=True)))
    return Rows(data.pack(text.stories, tokenizer, length), held_out, text_of, vocabulary_size(tokenizer))


# The table


class Weights:
    """How much each held-out row counts: its predicted tokens, and every text alike."""

    def __init__(self, held_out: Blocks, text_of: list[str]):
        self.text_of = text_of
        self.tokens = {title: (draw(held_out, grouping) > 0).sum(-1).double() for title, grouping in GROUPINGS.items()}

    def of(self, title: str, text: str | None = None) -> Tensor:
        """(N,), with the sum 1; of one text alone, or of all."""
        weights = torch.zeros(len(self.text_of), dtype=torch.float64)
        texts = [text] if text else sorted(set(self.text_of))
        for name in texts:
            own = torch.tensor([one == name for one in self.text_of])
            weights[own] = self.tokens[title][own] / self.tokens[title][own].sum() / len(texts)
        return weights

    def values(self, nats: dict[str, Tensor], title: str, text: str | None = None) -> tuple[Tensor, Tensor]:
        """One number a row, (N,), and its weight, whose weighted mean is the loss; ``title`` may be ``MEAN``."""
        titles = USED if title == MEAN else (title,)
        weights = sum(self.of(one, text) for one in titles) / len(titles)
        total = sum(self.of(one, text) * nats[one] / self.tokens[one] for one in titles) / len(titles)
        return total / weights.clamp(min=1e-12), weights


def compared(found: dict[str, list[dict]], weights: Weights) -> dict:
    """The result of every arm, from what its trainings gave, a dict a seed; the base must be among them."""
    result, titles = {}, (*GROUPINGS, MEAN)
    nats = {
        arm: [{title: torch.tensor(one["nats"][title], dtype=torch.float64) for title in GROUPINGS} for one in those]
        for arm, those in found.items()
    }
    both = {arm: {title: torch.stack([one[title] for one in those]).mean(0) for title in GROUPINGS}
            for arm, those in nats.items()}  # fmt: skip

    def loss(of: dict[str, Tensor], title: str, text: str | None = None) -> float:
        values, weight = weights.values(of, title, text)
        return (values * weight).sum().item()

    def against(arm: str, title: str, text: str | None = None) -> dict:
        first, weight = weights.values(both[arm], title, text)
        return intervals.paired(first, weights.values(both[BASE], title, text)[0], weight).rounded(3)

    operations = mean(one["operations"] for one in found[BASE])
    for arm, those in found.items():
        about = {
            "changes": CHANGES[arm],
            "losses": {title: round(loss(both[arm], title), 3) for title in titles},
            "by_text": {text: {MEAN: round(loss(both[arm], MEAN, text), 3)} for text in sorted(set(weights.text_of))},
            "predicted_tokens": round(mean(one["predicted"] for one in those)),
            "tokens": round(mean(one["tokens"] for one in those)),
            "operations": round(mean(one["operations"] for one in those) / operations, 2),
            "steps": those[0]["steps"],
        }
        if arm != BASE:
            about["difference"] = {title: against(arm, title) for title in titles}
            about["by_seed"] = {title: [round(loss(own, title) - loss(base, title), 3)
                                        for own, base in zip(nats[arm], nats[BASE], strict=True)]
                                for title in titles}  # fmt: skip
            for text, own in about["by_text"].items():
                own["difference"] = against(arm, MEAN, text)
        result[arm] = about
    return result


# The whole


def command(folder: Path | None) -> str:
    """How the process was started; where the text lies is the reader's to say."""
    before, said = sys.argv, str(folder)
    try:
        sys.argv = ["FOLDER" if one == said else "--data=FOLDER" if one == f"--data={said}" else one for one in before]
        return command_line()
    finally:
        sys.argv = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of .jsonl.gz files; without it, the packaged texts")
    parser.add_argument("--arm", choices=list(ARMS), help="one beside the base: a try, not recorded")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--part", type=as_part, help="of the trainings, such as 0/2; nothing is recorded")
    parser.add_argument("--finished", action="store_true", help="record what is finished on all seeds, train nothing")
    parser.add_argument("--smoke", action="store_true", help="tiny models and four steps; nothing is written")
    options = parser.parse_args()
    if options.steps < 2 or options.seeds < 1:
        parser.error(f"--steps must be at least 2 and --seeds at least 1; got {options.steps} and {options.seeds}")
    most = 40 if options.smoke else None
    text = of_folder(options.data, most) if options.data else packaged(most)
    rows = made(text, *((48, 400, 4) if options.smoke else (LENGTH, VOCABULARY, ROWS)))
    size = (
        Size(TINY, rows.vocabulary, 48, 4, 200)
        if options.smoke
        else Size(SHAPE, rows.vocabulary, LENGTH, options.steps, BATCH_TOKENS)
    )
    seeds = 1 if options.smoke else options.seeds
    texts = digest(data.fingerprint(rows.blocks.input_ids, rows.blocks.lengths, rows.held_out.input_ids))
    print(f"{text.name}: {int(rows.blocks.lengths.sum()):,} tokens, {len(rows.text_of)} held-out rows", flush=True)

    def run(title: str, seed: int) -> dict:
        arm = ARMS[title]

        def make() -> dict:
            if options.finished:
                raise NotFinished
            return trained(arm, size, rows.blocks, rows.held_out, seed, averaged=title == BASE)

        settings = {"arm": arm.settings(), **size._asdict(), "rates": RATES, "seed": seed, "text": texts}
        settings |= {"groupings": {name: asdict(one) for name, one in GROUPINGS.items()}, "half_life": HALF_LIFE}
        found = make() if options.smoke else kept(Path("checkpoints/recipe"), f"{title} {seed}", settings, make)
        print(f"{title}, seed {seed}: loss {found['loss']:.3f}, {found['seconds']:.0f} s", flush=True)
        return found

    wanted = [arm for arm in ARMS if options.arm in (None, arm) or arm == BASE]
    all_of_them, found, spent = trainings(wanted, seeds), {}, 0.0
    for title, seed in part_of(all_of_them, options.part or (0, 1)):
        try:
            found[title, seed] = run(title, seed)
        except NotFinished:
            continue
        spent += found[title, seed].get("wall_seconds", 0.0)
    if options.part:
        return
    finished = [arm for arm in wanted if all((arm, seed) in found for seed in range(seeds))]
    if BASE not in finished:
        raise SystemExit("recipe: the base is not finished on all seeds, so nothing can be compared with it")
    by_arm = {arm: [found[arm, seed] for seed in range(seeds)] for arm in finished}
    by_arm[AVERAGE] = [one | {"nats": one["averaged"]} for one in by_arm[BASE]]
    arms = compared(by_arm, Weights(rows.held_out, rows.text_of))
    for title, about in arms.items():
        print(f"{title:24}", about["losses"][MEAN], about.get("difference", {}).get(MEAN, ""),
              about.get("by_seed", {}).get(MEAN, ""), flush=True)  # fmt: skip
    if not (options.smoke or options.arm):
        about = {"text": text.name, "seeds": seeds, "rows": len(rows.text_of), "half_life": HALF_LIFE, "rates": RATES}
        about |= {**size._asdict(), "not_run": [arm for arm in wanted if arm not in finished], "arms": arms}
        record("recipe", seed=0, wall_seconds=spent, **about, command=command(options.data))


if __name__ == "__main__":
    main()
