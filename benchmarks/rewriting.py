"""What does a model put into a marked stretch, and does it find and mend a wrong word?

Rewriting: each text with its marked stretch gets four alternatives, ranked; the first that are drawn, none is chosen.
With twelve more the two ways to rank are compared: how long is what each puts first? Lengths are near that of the
original, for the stretches stand inside a sentence, where no model here has learned to end a blank.

Revising: in each sentence one word is swapped for another that makes no sense there. ``decode.revise_text`` is not told
where, and does it twice: every change that gains anything stays, or only one that gains enough. Counted is whether it
changes the word, whether the right word comes back, and what else it changes; and what it does to the sentences as they
were, where there is nothing to mend. The words are one token each in both tokenizers.

All texts were made up for this file, once, before any model had seen them.

    python benchmarks/rewriting.py              about twelve minutes on one core
    python benchmarks/rewriting.py --only compact    this model anew; the rest of the stored result stays
    python benchmarks/rewriting.py --smoke      two texts of each kind, the compact model alone; writes nothing
"""

import argparse
import statistics
from functools import partial

from record import record, renew

from a3mini import decode, pretrained
from a3mini.train import generator_for
from a3mini.train.tokens import encode

MODELS = {"compact": pretrained.compact_model, "smollm2-a3-warm": partial(pretrained.adapted_model, "smollm2-a3-warm")}
SHOWN, MANY = 4, 12  # alternatives
LEAST_GAINS = (0, 4)  # nats
TEXTS = [  # the stretch is in brackets
    "The old man went down to the river and [sat by the water].",
    "The king had three sons, and the youngest was [not afraid of anything].",
    "In the morning the girl opened the door and saw [a little bird] in the snow.",
    "They had no bread, so the mother [went to the market] with her last coin.",
    "The boy ran to the house [because the rain was coming].",
    "At night the wind was so strong that the ship [came back to the land].",
]
SENTENCES = [  # the right word, and the wrong one
    ("The king gave his daughter a ring of {}.", "gold", "morning"),
    ("He opened the {} and went into the house.", "door", "song"),
    ("The mother put the child to {} and gave him a kiss.", "bed", "king"),
    ("They sat by the fire because it was {}.", "cold", "three"),
    ("The sun went down and the night was {}.", "dark", "hands"),
    ("She gave the poor man some {} and water.", "bread", "years"),
    ("The bird sat in the {} and would not come down.", "tree", "word"),
    ("The ship came over the {} with a hundred men.", "sea", "eyes"),
    ("The old woman had {} sons and no daughter.", "two", "water"),
    ("He took off his {} and put it on the table.", "hat", "night"),
    ("The boy took his father's {} and they went home.", "hand", "year"),
    ("In the winter the {} was on all the fields.", "snow", "mouth"),
]


def rewritten(model, tokenizer, texts: list[str], seed: int) -> dict:
    """Alternatives of each text, and what each way to rank puts first."""
    shown, tokens = [], {name: [] for name in ("original", "drawn", "nats", "nats_per_token")}
    first = {"nats": 0, "nats_per_token": 0}
    for marked in texts:
        start, end = marked.index("["), marked.index("]") - 1
        text = marked.replace("[", "").replace("]", "")
        options = {"tokens_per_blank": "near", "generator": generator_for(seed)}
        draw = partial(decode.rewrite, model, tokenizer, text, (start, end), **options)
        shown.append({
            "before": text[:start], "behind": text[end:],
            "alternatives": [
                {"words": one.replacement, "score": round(one.score, 2), "gain": round(one.gain, 2),
                 "tokens": one.tokens, "original": one.original} for one in draw(n=SHOWN)
            ],
        })  # fmt: skip
        many = draw(n=MANY)
        mean = sorted(many, key=lambda one: one.score / one.tokens, reverse=True)
        tokens["original"] += [one.tokens for one in many if one.original]
        tokens["drawn"].append(statistics.mean(one.tokens for one in many if not one.original))
        for name, ranked in (("nats", many), ("nats_per_token", mean)):
            tokens[name].append(ranked[0].tokens)
            first[name] += ranked[0].original
    return {"texts": shown, "mean_tokens": {name: round(statistics.mean(n), 2) for name, n in tokens.items()},
            "original_is_first": first}  # fmt: skip


def revised(model, tokenizer, sentences: list[tuple[str, str, str]], least_gain: float) -> dict:
    """What becomes of each sentence with its wrong word, and of the sentence as it was."""
    rows, revise = [], partial(decode.revise_text, model, tokenizer, least_gain=least_gain)
    for sentence, right, wrong in sentences:
        one, other = (encode(tokenizer, [sentence.format(word)])[0] for word in (right, wrong))
        differing = [at for at, pair in enumerate(zip(one, other, strict=False), start=1) if pair[0] != pair[1]]
        if len(one) != len(other) or len(differing) != 1:
            raise ValueError(f"{right!r} and {wrong!r} must be one token each in {sentence!r}")
        (at,) = differing
        planted = revise(sentence.format(wrong))
        intact = revise(sentence.format(right))
        places = {position for change in planted.changes[0] for position in change.positions}
        now = planted.sequences[0].tolist()
        rows.append({
            "text": sentence.format(wrong), "right": sentence.format(right), "revised": planted.text,
            "lines": list(planted.lines), "intact_lines": list(intact.lines),
            "first": bool(planted.changes[0]) and planted.changes[0][0].positions == (at,), "changed": at in places,
            "mended": now[at] == one[at - 1], "restored": now[1:] == one,
            "elsewhere": sum(new != old for n, (new, old) in enumerate(zip(now[1:], one, strict=True), 1) if n != at),
            "gain": round((planted.after - planted.before).item(), 2),
            "intact_gain": round((intact.after - intact.before).item(), 2), "tokens": len(one),
        })  # fmt: skip
        print(rows[-1], flush=True)
    counts = {name: sum(row[name] for row in rows) for name in ("first", "changed", "mended", "restored", "elsewhere")}
    means = {name: round(statistics.mean(row[name] for row in rows), 2) for name in ("gain", "intact_gain", "tokens")}
    return {**counts, **means, "intact_changed": sum(bool(row["intact_lines"]) for row in rows), "rows": rows}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--smoke", action="store_true", help="the compact model, two texts of each kind; writes nothing"
    )
    parser.add_argument("--only", choices=MODELS, help="measure this one anew, in the stored result")
    options = parser.parse_args(arguments)
    count = 2 if options.smoke else None
    found = {}
    for name in ["compact"] if options.smoke else [options.only] if options.only else MODELS:
        model, tokenizer, called = MODELS[name]()
        found[name] = {
            "model": called,
            "rewriting": rewritten(model, tokenizer, TEXTS[:count], options.seed),
            "revising": {str(least): revised(model, tokenizer, SENTENCES[:count], least) for least in LEAST_GAINS},
        }
        print(name, found[name]["rewriting"], flush=True)
    if options.only and not options.smoke:
        renew("rewriting", f"*{options.only}* was measured anew", seed=options.seed, models=found)
    elif not options.smoke:
        record("rewriting", seed=options.seed, alternatives=SHOWN, many=MANY, texts=len(TEXTS),
               sentences=len(SENTENCES), models=found)  # fmt: skip


if __name__ == "__main__":
    main()
