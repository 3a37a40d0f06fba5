"""What does it cost not to know how long a blank is, and does a model end its blanks where they should end?

The compact model that ships has learned to end blanks. On stories that it has not seen, single blanks of 1 to 24
tokens are cut: whole sentences, and clauses (a stretch between two punctuation marks that ends with a comma, a
semicolon or a colon). A sentence is a kind of blank that it was trained on, a clause is not.

The cost: the log-likelihood of what stood there where its length is known, minus that where it is not, with its end,
in a room of 24 tokens. To draw the length first, all alike, would cost ln 24 = 3.18 nats.

The endings: some of the blanks are filled, at temperature 1 with no tail cut off, so that lengths are those of the
distribution that is scored. Beside it the same model with the blanks' mean length for all. The first ten blanks are
shown; none is chosen.

    python benchmarks/blanks.py --tinystories FILE    some minutes on one core
    python benchmarks/blanks.py --smoke               four blanks, two of them filled; writes nothing

What is finished is kept in checkpoints/blanks.
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
from adaptation import HELD_OUT, tinystories
from kept import kept, weights_of
from record import record

from a3mini import decode, groups, objective, pretrained
from a3mini.decode.blanks import in_blanks
from a3mini.decode.infilling import Given
from a3mini.evaluate import intervals
from a3mini.train import data, generator_for
from a3mini.train.tokens import decode as text_of
from a3mini.train.tokens import decode_behind, vocabulary_size

FOLDER = Path("checkpoints/blanks")
MOST = 24  # the room of a blank
CUT = 96  # tokens of a row that a blank is cut from
ENDS = {"sentences": ".!?", "clauses": ",;:"}  # with what a blank of each kind ends
QUOTES = " \"'”’)\n"  # may stand behind it
SHOWN = 10


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


def nats(model, tokenizer, blanks: list[Blank]) -> dict[str, list[float]]:
    """Of what stood in each blank: its length known, and not known."""
    score = partial(decode.infill_log_likelihood, model, tokenizer, most=MOST)
    return {
        "known": [known_length(model, tokenizer, blank) for blank in blanks],
        "unknown": [-score(blank.text, [blank.tokens]).item() for blank in blanks],
    }


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


def costs(blanks: list[Blank], nats: dict) -> dict[str, dict]:
    """By kind, and for all: nats per token, with and without the length, and what not knowing it costs a blank."""
    found = {}
    for kind in (*ENDS, "all"):
        which = torch.tensor([kind in ("all", blank.kind) for blank in blanks])
        tokens = torch.tensor([len(blank.tokens) for blank in blanks])[which]
        known, unknown = (torch.tensor(nats[name])[which] for name in ("known", "unknown"))
        found[kind] = {
            "blanks": len(tokens),
            "tokens": round(tokens.double().mean().item(), 1),
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
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    parser.add_argument("--blanks", type=int, default=200, help="that are scored; half of them clauses")
    parser.add_argument("--filled", type=int, default=100, help="of them, how many are filled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="four blanks, two of them filled; writes nothing")
    options = parser.parse_args(arguments)
    count, few = (4, 2) if options.smoke else (options.blanks, options.filled)
    model, tokenizer, called = pretrained.compact_model()
    stories = tinystories(options.tinystories)[-HELD_OUT:]
    blanks = cut(data.pack(stories, tokenizer, CUT), tokenizer, count, options.seed)
    mean_length = round(statistics.mean(len(blank.tokens) for blank in blanks))
    settings = {"blanks": blanks, "most": MOST, "seed": options.seed, "weights": weights_of(model)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.smoke else FOLDER

        def keep(name: str, make, **more) -> dict:
            done = kept(folder, name, settings | more, make)
            print(name, {key: value for key, value in done.items() if key != "settings"}, flush=True)
            return done

        scored = keep("scored", partial(nats, model, tokenizer, blanks))
        ways = {
            name: keep(name, partial(filled, model, tokenizer, blanks[:few], options.seed, **how), how=how)
            for name, how in ways_to_fill(mean_length).items()
        }
    shown = [
        {"kind": one.kind, "before": one.before, "filled": one.filled, "behind": one.behind, "tokens": len(one.tokens)}
        for one in blanks[:few]
    ]
    by_way = {name: endings(blanks[:few], made, "most" in made["settings"]["how"]) for name, made in ways.items()}
    by_kind = costs(blanks, scored)
    print(by_kind, {name: {**way, "texts": None} for name, way in by_way.items()}, flush=True)
    if not options.smoke:
        record(
            "blanks", seed=options.seed, wall_seconds=sum(one["wall_seconds"] for one in (scored, *ways.values())),
            model=called, most=MOST, alike=round(math.log(MOST), 2), filled=few, shown=SHOWN, costs=by_kind,
            ways=by_way, blanks=shown,
        )  # fmt: skip


if __name__ == "__main__":
    main()
