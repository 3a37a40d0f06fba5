"""The tables of book/decoding.md."""

from collections.abc import Iterable
from itertools import product

from .common import across, fill, measured, models, plain, source, table

_AR, _GROUPS = "transformers generate", [f"groups of {size}" for size in (1, 2, 4, 8)]
_BATCHES, _LENGTHS, _ORDERS = (1, 8), (128, 512), ("left to right", "random order")
_TOGETHER = {"left to right": "neighbours", "strided": "strided", "random order": "random"}
_SPEEDS = (
    "$ tokens: tokens/s: {n$[mark]}{n$[tokens_per_second]:.1f} | ms per sample: {n$[ms_per_sample]:,.0f} "
    "| times AR: {n$[times]:.2f}"
)


_MATTERS = 0.05  # nats: a share of less says nothing


def _called(name: str) -> str:
    return {"compact": "compact", "smollm2-a3-warm": "SmolLM2, adapted"}.get(name, name)


def _by_model(drafts: dict, part: str) -> list[dict]:
    """The lines of a part, model by model."""
    orders = {"neighbours": "left to right"} if part == "speed" else {}
    return [
        {**line, "name": _called(name), "order": orders.get(line["together"], line["together"])}
        for name, one in drafts["systems"].items()
        for line in one[part]
    ]


def _cells(result: dict, dtype: str = "float32") -> dict[tuple[str, int, int], dict]:
    """By strategy, batch and length; with its speed against ``generate``, and against itself without the cache."""
    cells = {(c["what"], c["batch"], c["new_tokens"]): c for c in result["cells"] if c["dtype"] == dtype}
    for (name, *size), cell in cells.items():
        anew = cells.get((f"{name}, no cache", *size), cell)
        cell |= {"mark": "≈ " * cell["extrapolated"], "anew": anew["ms_per_sample"]}
        cell["gain"] = anew["seconds"] / cell["seconds"]
        cell["times"] = cell["tokens_per_second"] / cells[_AR, *size]["tokens_per_second"]
    return cells


def _table(first: str, columns: str, cells: dict, which: Iterable[tuple[int, str]], *below: str) -> str:
    """A line for each batch and strategy, the columns once for each length."""
    rows = [
        {"name": name.replace(_AR, "AR"), "batch": batch} | {f"n{new}": cells[name, batch, new] for new in _LENGTHS}
        for batch, name in which
    ]
    return table(f"{first}: {{name}} | batch: {{batch}} | " + across(columns, _LENGTHS), rows, *below)


def decoding_groups(decoding: dict) -> str:
    about = source(decoding, "Load average before the run {load_before}. Prompt of {prompt_tokens} tokens.")
    half = _table("how", _SPEEDS, _cells(decoding, "bfloat16"), product((1,), [_AR, *_GROUPS]), about)
    which = product(_BATCHES, [_AR, f"{_AR}, our products", *_GROUPS])
    return _table("how", _SPEEDS, _cells(decoding), which, f"The same in bfloat16:\n\n{half}")


def decoding_cache(decoding: dict) -> str:
    which = [(batch, groups) for groups in ("groups of 1", "groups of 4") for batch in _BATCHES]
    columns = "$ tokens: cached, ms per sample: {n$[ms_per_sample]:,.0f} | uncached: ≈ {n$[anew]:,.0f} "
    return _table("groups", columns + "| ratio: {n$[gain]:.1f}", _cells(decoding), which)


def decoding_dynamic(decoding: dict) -> str:
    names = ["groups of 4", *(f"confidence, 4 a step, {context}" for context in ("committed", "refreshed"))]
    return _table("how", _SPEEDS, _cells(decoding), product(_BATCHES, names))


def drafts(drafts: dict) -> str:
    """Passes and time of speculative decoding, with independent drafts and with the joint head's."""
    columns = "model: {name} | order: {order} | drafted at a time: {size} | passes per row: {plain[passes]:.0f} "
    columns += "| times one by one: {plain[ratio]:.2f} | passes with the head: {head[passes]:.0f} "
    columns += "| times one by one: {head[ratio]:.2f}"
    timed = ", ".join(f"{one['timed_rows']} of {_called(name)}" for name, one in drafts["systems"].items())
    about = "{new_tokens} tokens after {given} given ones, batch 1, temperature 1, 95 % intervals over few rows: "
    about += f"{timed}. Others used "
    about += "the machine (load average {load_before}): times are ratios of processor times, taken in turns."
    return table(columns, _by_model(drafts, "speed"), source(drafts, about), models(drafts["systems"]))


def joint_head(drafts: dict) -> str:
    """What drawing a group at once loses, without the head and with it."""
    columns = "model: {name} | together: {order} | at a time: {size} | one at a time: {one[mean]:.2f} "
    columns += "| at once, more: {lost:+.3f} | with the head, more: {lost_with_head:+.3f} | won back: {won_back:.0%}"
    head = "{name}: {head[weights]:,} weights, trained on {head[batches]} batches of {head[batch]} rows in "
    head += "{head[wall_seconds]:,} s"
    heads = [head.format(name=_called(name), **one) for name, one in drafts["systems"].items() if one["head"]]
    about = (
        "Nats per token of held-out rows, exact; *more*: than one at a time in the same order, paired, 95 % intervals "
    )
    about += f"over rows. From the run above. The head of {'; of '.join(heads)}."
    about += f" *Won back*: where {_MATTERS:g} nats or more are lost."
    lines = _by_model(drafts, "losses")
    lines = [line | {"won_back": line.get("won_back") if line["lost"]["mean"] >= _MATTERS else None} for line in lines]
    return table(columns, lines, about)


def decoding_bounds(decoding: dict) -> str:
    columns = "groups: groups of {group_size} | ms per pass: {ms_per_pass} | ms to read all weights once: "
    columns += "{ms_to_read_the_weights} | " + across("$: {share[$]:.0%}", decoding["bounds"][0]["share"])
    return table(columns, decoding["bounds"])


def lighter(lighter: dict) -> str:
    orders = next(row["more"] for row in lighter["ways"] if "more" in row)
    columns = "weights: {way} | " + across("ms per pass, $ at a time: {ms$:.0f}", ("1", "4")) + " | "
    columns += across("more nats per token, $: {more[$]:+.4f}", orders)
    compiled = next(row for row in lighter["ways"] if "passes_to_pay_back" in row)
    said = " ".join(
        f"{passes or 'never'} with {size} at a time;" for size, passes in compiled["passes_to_pay_back"].items()
    )
    about = "Model: {model}; {rows} rows; processor time of one thread. Reading all weights in float32 takes "
    about += "{ms_to_read_the_weights:.0f} ms. "
    about += (
        f"Compiling costs {compiled['seconds_before']:.0f} s before the first token; passes until they are won again: "
    )
    rows = [row | {f"ms{size}": ms for size, ms in row["ms_per_pass"].items()} for row in lighter["ways"]]
    return table(columns, rows, source(lighter, about + said.rstrip(";") + "."))


def bounded(bounded: dict) -> str:
    """What is lost by tokens a pass: fixed orders, and those that the model chooses; the ways that all models have."""
    by_system = {name: {row["way"]: row for row in system["ways"]} for name, system in bounded["systems"].items()}
    ways = [way for way in next(iter(by_system.values())) if all(way in rows for rows in by_system.values())]
    rows = {way: {name: rows[way] for name, rows in by_system.items()} for way in ways}
    columns = "which, how many at a time: {name} | " + across(
        "$, tokens a pass: {$[tokens_per_pass]:.2f} | more nats per token: {$[more]:+.2f}", bounded["systems"]
    )
    used = ", ".join(f"{name}: {system['rows']} rows" for name, system in bounded["systems"].items())
    about = f"{used} of {{length}} tokens, {{given}} of them given; 95 % intervals over rows, paired. "
    about += "More ways, of the compact model alone, are in `book/results/bounded.json`."
    return table(columns, rows, source(bounded, about))


def bounded_samples(bounded: dict) -> str:
    columns = (
        "which, how many at a time: {name} | tokens a pass: {tokens_per_pass} | judge's perplexity: {perplexity:.0f} "
    )
    columns += "| entropy of words, bits: {entropy:.2f} | distinct pairs: {distinct_pairs:.2f}"
    below = (
        f"{bounded['texts']} texts for each of three seeds, mean ± 95 % interval over seeds. Judge: {bounded['judge']}."
    )
    return table(columns, bounded["judged"], below)


def bounded_speed(bounded: dict) -> str:
    speed = bounded["speed"]
    rows = {name: {f"n{new}": by[name] for new, by in speed.items()} for name in next(iter(speed.values()))}
    columns = "how: {name} | " + across(
        "$ tokens, seconds of one core: {n$[seconds]:.0f} | times AR: {n$[ratio]:.2f}", speed
    )
    return table(columns, rows)


def known_order(known_order: dict) -> str:
    losses = [(model, *item) for model, by_order in known_order["losses"].items() for item in by_order.items()]
    return table(
        "model: {model} | what is known, and how: {order} | nats per token: {nats_per_token:.3f} "
        "| minus the first (95 % interval over rows): {minus_the_first:+.3f} ± {half:.3f}",
        [loss | {"model": m, "order": order, "half": 1.96 * loss["standard_error"]} for m, order, loss in losses],
        source(known_order, "{rows} rows of {length} tokens."),
    )


def tradeoff(tradeoff: dict) -> str:
    about = f"{{samples}} samples for each of {len(tradeoff['seeds'])} seeds, {{new_tokens}} tokens after {{given}} "
    about += "held-out ones, temperature 1, mean ± 95 % interval over seeds; processor time. Judge: {judge}."
    return table(
        "order: {family} | at a time: {tokens_per_step} | passes: {passes} | ms per sample: {ms_per_sample} "
        "| judge's perplexity: {judged[perplexity]:.0f} | entropy of words, bits: {judged[entropy]:.1f} "
        "| distinct pairs: {judged[distinct_pairs]:.2f} | own loss, nats: {own_loss:.2f}",
        [{"family": name, **row} for name, row in tradeoff["strategies"].items()],
        source(tradeoff, about),
        *(
            fill("Added on {date} by `{command}`: ", one)
            + ", ".join(one["families"])
            + "; its times come from a ratio, "
            "measured side by side with *left to right*."
            for one in tradeoff.get("added", ())
        ),
    )


def _by_size(quality_orders: dict) -> list[dict]:
    """A line for each number of tokens at a time: the rows of A3 by which tokens are drawn together."""
    lines = {}
    for row in quality_orders["rows"].values():
        if row.get("kind") == "any-order" and row["order"] in _TOGETHER:
            line = lines.setdefault(row["tokens_per_step"], {"at_a_time": row["tokens_per_step"]})
            line |= {_TOGETHER[row["order"]]: row, "passes": row["passes"]}
    return list(lines.values())


def quality_orders(quality_orders: dict) -> str:
    """Which tokens are drawn together: perplexity under the judge with its interval, and entropy, the mean."""
    lines = _by_size(quality_orders)
    names = measured(_TOGETHER.values(), lines)
    columns = "at a time: {at_a_time} | passes: {passes:.0f} | "
    columns += across("$, perplexity: {$[measured][perplexity]:.0f}", names) + " | "
    columns += across("$, entropy: {$[measured][entropy][mean]:.2f}", names)
    beside = {row.get("kind", name): row for name, row in quality_orders["rows"].items()}
    said = "perplexity {measured[perplexity]:.1f} and entropy {measured[entropy]:.2f}"
    others = {"The stories themselves": "the stories themselves", "AR": "autoregressive"}
    found = [f"{name}: {fill(said, beside[key])}." for name, key in others.items() if key in beside]
    about = "{count} beginnings of {given} tokens ({text}), {new} tokens each, temperature {temperature:g}; "
    about += "entropy in nats; 95 % intervals over texts. Judge: {judge}."
    below = source(quality_orders, " ".join([about, *found]))
    return table(columns, lines, below, models(quality_orders["rows"]))


def quality_orders_samples(quality_orders: dict) -> str:
    """How A3 goes on with the first two beginnings of ours, a table each; what is compared stands in adjacent lines."""
    parts = []
    for number, text in enumerate(quality_orders["beginnings"][:2]):
        rows = [
            {"at_a_time": line["at_a_time"], "together": name, "text": plain(line[name]["ours"][number])}
            for line in _by_size(quality_orders)
            for name in _TOGETHER.values()
            if name in line and line["at_a_time"] in (1, 2, 4)
        ]
        columns = "at a time: {at_a_time} | drawn together: {together} | text: {text}"
        parts.append(f"*{text}* **...**\n\n{table(columns, rows)}")
    return "\n\n".join(parts)
