"""What does it cost not to know how long a blank is, and does a model end its blanks where they should end?

The compact model that ships is trained further, some minutes on one core, on its own training text with blanks that
have spare room. Then, on documents that neither training has seen, single blanks of 1 to 24 tokens are cut: whole
sentences, and clauses (a stretch between two punctuation marks that ends with a comma, a semicolon or a colon). A
sentence is a kind of blank that it was trained on, a clause is not.

The cost: the log-likelihood of what stood there where its length is known, minus that where it is not, with its end,
in a room of 24 tokens. To draw the length first, all alike, would cost ln 24 = 3.18 nats.

The endings: some of the blanks are filled, at temperature 1 with no tail cut off, so that lengths are those of the
distribution that is scored. Beside it the same model with the blanks' mean length for all. The first ten blanks are
shown; none is chosen.

    python benchmarks/blanks.py              a quarter of an hour on one core
    python benchmarks/blanks.py --smoke      two steps, four blanks, two of them filled; writes nothing

What is finished is kept in checkpoints/blanks, and a training that was stopped goes on.
"""

import argparse
import math
import statistics
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from kept import kept, weights_of
from record import record

from a3mini import decode, groups, objective, pretrained
from a3mini.decode.blanks import in_blanks
from a3mini.decode.infilling import Given
from a3mini.evaluate import intervals
from a3mini.train import AnyOrder, Curriculum, Part, Stage, TrainConfig, corpus, data, generator_for, train, uniform
from a3mini.train.curriculum import CHOICES
from a3mini.train.spare_room import draw_spare
from a3mini.train.tokens import decode as text_of
from a3mini.train.tokens import decode_behind, vocabulary_size

FOLDER = Path("checkpoints/blanks")
MOST = 24  # the room of a blank, and how much spare room it may get in the training
LENGTH, CUT = 128, 96  # tokens of a row in the training; and of one that a blank is cut from, so that a room fits
CURRICULUM = Curriculum((
    Stage("blanks with room", 1, (
        Part("sentence", (1,), 0.5, room=MOST), Part("span", (1,), 0.3, room=MOST),
        Part("blocks", (1,), 0.1), Part("shuffled", (1,), 0.1),
    )),
), "mostly blanks")  # fmt: skip
ENDS = {"sentences": ".!?", "clauses": ",;:"}  # with what a blank of each kind ends
QUOTES = " \"'”’)\n"  # may stand behind it
SHOWN = 10
NEAR = 4  # positions more or less: blanks in the training that look as long as a room


class Blank(NamedTuple):
    """What stood in a blank, and around it."""

    kind: str
    before: str
    filled: str
    behind: str
    tokens: list[int]  # of ``filled``

    @property
    def text(self) -> str:
        return f"{self.before}____{self.behind}"


def cut(rows: data.Blocks, tokenizer, count: int, seed: int) -> list[Blank]:
    """Blanks, one in each of some rows drawn at random, sentences and clauses in turn."""
    generator = generator_for(seed)
    last = [closing(text) for text in tokenizer.batch_decode([[token] for token in range(vocabulary_size(tokenizer))])]
    found = []
    for row in torch.randperm(len(rows.lengths), generator=generator).tolist():
        ids = rows.input_ids[row, : rows.lengths[row]].tolist()
        kind = list(ENDS)[len(found) % len(ENDS)]
        between = ENDS[kind] if kind == "sentences" else "".join(ENDS.values())
        ends = [place + 1 for place, token in enumerate(ids) if last[token] and last[token] in between]
        stretches = [
            (start, stop) for start, stop in pairwise(ends)
            if last[ids[stop - 1]] in ENDS[kind] and stop - start <= MOST and text_of(tokenizer, ids[stop:]).strip()
        ]  # fmt: skip
        if stretches:
            start, stop = stretches[int(torch.randint(len(stretches), (), generator=generator))]
            before, behind = text_of(tokenizer, ids[:start]), decode_behind(tokenizer, ids[stop:])
            filled = decode_behind(tokenizer, ids[start:stop])
            found.append(Blank(kind, before, filled, behind, ids[start:stop]))
        if len(found) == count:
            return found
    raise ValueError(f"the held-out text has {len(found)} such blanks, fewer than the {count} that are wanted")


def closing(text: str) -> str:
    """The last character, quotation marks aside; nothing if there is none."""
    return text.rstrip(QUOTES)[-1:]


def trained(model, tokenizer, blocks: data.Blocks, config: TrainConfig, folder: Path) -> dict:
    """Train the model in place, or go on; how much it has seen, and the seconds it took."""
    end = data.empty_token(tokenizer, model.get_input_embeddings().weight)
    last = train(model, AnyOrder(CURRICULUM, empty_token_id=end), blocks, config, folder, quiet=True)[-1]
    return {name: last[name] for name in ("tokens", "seconds", "loss")}


def without_end(blocks: data.Blocks, config: TrainConfig, end: int) -> dict:
    """Of the training's blanks that took up about as many positions as a room has: the share that had no end."""
    recipe, examples = AnyOrder(CURRICULUM, empty_token_id=end), torch.arange(config.steps * config.batch_size)
    rows = blocks.rows(data.Order(len(blocks.lengths), config.seed).rows(examples))
    drawn = recipe.group_ids(rows, 0.0, examples, config.seed)
    room = CURRICULUM.stages[0].room(uniform(config.seed, examples, CHOICES))
    ids, group_ids = recipe.with_room(rows, drawn, 0.0, examples, config.seed)
    taken = (drawn > 0).sum(-1) + draw_spare(room, examples, config.seed)
    like_a_room = (room > 0) & ((taken - MOST).abs() <= NEAR)
    ended = ((ids == end) & (group_ids > 0)).any(-1)
    return {"blanks": int(like_a_room.sum()), **intervals.proportion(~ended[like_a_room]).rounded(3)}


def nats(model, tokenizer, blanks: list[Blank]) -> dict[str, list[float]]:
    """Of what stood in each blank: its length known; and, if the model ends blanks, not known."""
    found = {"known": [known_length(model, tokenizer, blank) for blank in blanks]}
    if model.config.empty_token_id is not None:
        score = partial(decode.infill_log_likelihood, model, tokenizer, most=MOST)
        found["unknown"] = [-score(blank.text, [blank.tokens]).item() for blank in blanks]
    return found


def known_length(model, tokenizer, blank: Blank) -> float:
    """Nats of the tokens of a blank that has exactly so many."""
    given = Given.of(model, tokenizer, blank.text, "____", None)
    ids, number, _ = given.rows([[len(blank.tokens)]])
    ids[number > 0] = torch.tensor(blank.tokens)
    group_ids, known = groups.read_given(in_blanks(number), given.known_order)
    return -objective.log_likelihood(model, ids, group_ids, known).item()


def ways_to_fill(mean_length: int) -> dict[str, dict]:
    """The arguments of ``decode.infill``."""
    return {
        "the model ends it": {"most": MOST},
        f"{mean_length} tokens": {"tokens_per_blank": mean_length},
    }


def filled(model, tokenizer, blanks: list[Blank], seed: int, **how) -> dict[str, list]:
    """What goes into each blank, drawn once; how many tokens, and whether the model ended it."""
    found = {"texts": [], "tokens": [], "ended": []}
    for number, blank in enumerate(blanks):
        out = decode.infill(model, tokenizer, blank.text, generator=generator_for(seed, number), **how)
        found["texts"].append(out.blanks[0])
        found["tokens"].append(int((out.group_ids[~out.known] > 0).sum()) - out.ended[0])  # the end is no token of it
        found["ended"].append(out.ended[0])
    return found


def costs(blanks: list[Blank], before: dict, after: dict) -> dict[str, dict]:
    """By kind, and for all: nats per token, with and without the length, and what not knowing it costs a blank."""
    found = {}
    for kind in (*ENDS, "all"):
        which = torch.tensor([kind in ("all", blank.kind) for blank in blanks])
        tokens = torch.tensor([len(blank.tokens) for blank in blanks])[which]
        untrained, known, unknown = (
            torch.tensor(values)[which] for values in (before["known"], after["known"], after["unknown"])
        )
        found[kind] = {
            "blanks": len(tokens),
            "tokens": round(tokens.double().mean().item(), 1),
            "before": intervals.bootstrap(untrained / tokens, tokens).rounded(3),
            "known": intervals.bootstrap(known / tokens, tokens).rounded(3),
            "unknown": intervals.bootstrap(unknown / tokens, tokens).rounded(3),
            "cost": intervals.paired(unknown, known).rounded(2),
        }
    return found


def endings(blanks: list[Blank], made: dict[str, list], can_end: bool) -> dict:
    """How long the fillings are, how many ended by themselves, and which end as what stood there did."""
    tokens = torch.tensor(made["tokens"], dtype=torch.float64)
    true = torch.tensor([len(blank.tokens) for blank in blanks])
    closes = {
        kind: torch.tensor([closing(text) in list(ENDS[kind])
                            for blank, text in zip(blanks, made["texts"], strict=True) if blank.kind == kind])
        for kind in ENDS
    }  # fmt: skip
    return {
        "ended": intervals.proportion(torch.tensor(made["ended"])).rounded(3) if can_end else None,
        "tokens": intervals.bootstrap(tokens).rounded(1),
        "off": intervals.bootstrap((tokens - true).abs()).rounded(1),
        "closes": {kind: intervals.proportion(hits).rounded(3) for kind, hits in closes.items()},
        "texts": made["texts"],
        "drawn": made["tokens"],
        "drawn_ends": made["ended"],
    }


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of the training, 16 rows each")
    parser.add_argument("--blanks", type=int, default=400, help="that are scored; half of them clauses")
    parser.add_argument("--filled", type=int, default=40, help="of them, how many are filled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="two steps of four rows, four blanks; writes nothing")
    options = parser.parse_args(arguments)
    steps, rows, count, few = (2, 4, 4, 2) if options.smoke else (options.steps, 16, options.blanks, options.filled)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.smoke else FOLDER
        model, tokenizer, called = pretrained.compact_model()
        training, held_out = corpus.split_documents(corpus.documents("bible-bbe", "andersen"))
        some = 40 if options.smoke else None
        blanks = cut(data.pack(held_out[:some], tokenizer, CUT), tokenizer, count, options.seed)
        mean_length = round(statistics.mean(len(blank.tokens) for blank in blanks))
        settings = {"blanks": blanks, "most": MOST, "seed": options.seed}

        def keep(name: str, make, **more) -> dict:
            done = kept(folder, name, settings | {"weights": weights_of(model)} | more, make)
            print(name, {key: value for key, value in done.items() if key != "settings"}, flush=True)
            return done

        before = keep("before", partial(nats, model, tokenizer, blanks))
        config = TrainConfig(
            steps=steps, batch_size=rows, learning_rate=1e-3, warmup_steps=30, seed=options.seed, save_every=25
        )
        with torch.enable_grad():
            run = folder / f"steps-{steps}-seed-{options.seed}"
            blocks = data.pack(training[:some], tokenizer, LENGTH)
            seen = trained(model, tokenizer, blocks, config, run)
        seen["without_end"] = without_end(blocks, config, model.config.empty_token_id)
        after = keep("after", partial(nats, model, tokenizer, blanks))
        ways = {
            name: keep(name, partial(filled, model, tokenizer, blanks[:few], options.seed, **how), how=how)
            for name, how in ways_to_fill(mean_length).items()
        }
    scored = costs(blanks, before, after)
    shown = [
        {"kind": one.kind, "before": one.before, "filled": one.filled, "behind": one.behind, "tokens": len(one.tokens)}
        for one in blanks[:few]
    ]
    by_way = {name: endings(blanks[:few], made, "most" in made["settings"]["how"]) for name, made in ways.items()}
    print(scored, {name: {**way, "texts": None} for name, way in by_way.items()}, flush=True)
    if options.smoke:
        return
    spent = seen["seconds"] + sum(one["wall_seconds"] for one in (before, after, *ways.values()))
    record(
        "blanks", seed=options.seed, wall_seconds=spent, model=called, steps=steps, rows=rows, length=LENGTH,
        most=MOST, alike=round(math.log(MOST), 2), training=seen, curriculum=CURRICULUM.to_dict(),
        filled=few, shown=SHOWN, costs=scored, ways=by_way, blanks=shown,
    )  # fmt: skip


if __name__ == "__main__":
    main()
