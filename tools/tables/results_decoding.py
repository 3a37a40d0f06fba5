"""The tables and the figure of book/decoding.md."""

from tools.tables.results_common import load, source, table, tight

GENERATE = "transformers generate"


def _cells(result: dict, dtype: str = "float32") -> dict[tuple[str, int, int], dict]:
    return {(c["what"], c["batch"], c["new_tokens"]): c for c in result["cells"] if c["dtype"] == dtype}


def _speeds(result: dict, names: list[str], dtype: str = "float32", batches: tuple[int, ...] = (1, 8)) -> str:
    """One line per strategy and batch: tokens per second and milliseconds per sample, and against ``generate``."""
    cells, lines = _cells(result, dtype), []
    lengths = sorted({new for _, _, new in cells})
    for batch in batches:
        for name in names:
            line: list = [name.replace(GENERATE, "AR"), batch]
            for new in lengths:
                cell, rival = cells[name, batch, new], cells[GENERATE, batch, new]
                mark = "≈ " if cell["extrapolated"] else ""
                ratio = cell["tokens_per_second"] / rival["tokens_per_second"]
                line += [f"{mark}{cell['tokens_per_second']:.1f}", f"{cell['ms_per_sample']:,.0f}", f"{ratio:.2f}"]
            lines.append(line)
    header = ["how", "batch"]
    for new in lengths:
        header += [f"{new} tokens: tokens/s", "ms per sample", "times AR"]
    return table(header, lines)


def decoding_groups() -> str:
    result = load("decoding")
    names = [GENERATE, *(f"groups of {size}" for size in (1, 2, 4, 8))]
    both = [GENERATE, f"{GENERATE}, our products", *names[1:]]
    about = f"Load average before the run {result['load_before']}. Prompt of {result['prompt_tokens']} tokens."
    half = _speeds(result, names, "bfloat16", (1,))
    return f"{_speeds(result, both)}\n\nThe same in bfloat16:\n\n{half}\n\n{source(result)} {about}"


def decoding_cache() -> str:
    cells, lines = _cells(load("decoding")), []
    for size in (1, 4):
        for batch in (1, 8):
            line: list = [f"groups of {size}", batch]
            for new in sorted({new for _, _, new in cells}):
                with_cache, without = (
                    cells[f"groups of {size}", batch, new],
                    cells[f"groups of {size}, no cache", batch, new],
                )
                line += [f"{with_cache['ms_per_sample']:,.0f}", f"≈ {without['ms_per_sample']:,.0f}",
                         f"{without['seconds'] / with_cache['seconds']:.1f}"]  # fmt: skip
            lines.append(line)
    header = ["groups", "batch"]
    for new in (128, 512):
        header += [f"{new} tokens: cached, ms per sample", "uncached", "ratio"]
    return table(header, lines)


def decoding_dynamic() -> str:
    names = [f"confidence, 4 a step, {context}" for context in ("committed", "refreshed")]
    return _speeds(load("decoding"), ["groups of 4", *names])


def decoding_speculative() -> str:
    result = load("decoding")
    cells, lines = _cells(result), []
    for batch in (1, 8):
        for new in (128, 512):
            for order in ("left to right", "random order"):
                cell, one = cells[f"speculative, {order}, drafts of 8", batch, new], cells["groups of 1", batch, new]
                lines.append(["SmolLM2, not adapted", order, batch, 8, new, cell["mean_passes"],
                              f"{cell['ms_per_sample']:,.0f}", f"{one['seconds'] / cell['seconds']:.2f}"])  # fmt: skip
    compact = {(c["what"]): c for c in result["compact_cells"]}
    for order in ("left to right", "random order"):
        one = compact[f"compact model, {order}, drafts of 1"]
        for draft in (1, 2, 4, 8, 16):
            cell = compact[f"compact model, {order}, drafts of {draft}"]
            lines.append(["compact", order, cell["batch"], draft, cell["new_tokens"], cell["mean_passes"],
                          f"{cell['ms_per_sample']:,.0f}", f"{one['seconds'] / cell['seconds']:.2f}"])  # fmt: skip
    return table(
        [
            "model",
            "order",
            "batch",
            "drafted at a time",
            "tokens",
            "passes per row",
            "ms per sample",
            "times one by one",
        ],
        lines,
    )


def decoding_bounds() -> str:
    lines = []
    for bound in load("decoding")["bounds"]:
        shares = [f"{share:.0%}" for share in bound["share"].values()]
        lines.append(
            [f"groups of {bound['group_size']}", bound["ms_per_pass"], bound["ms_to_read_the_weights"], *shares]
        )
    kinds = list(load("decoding")["bounds"][0]["share"])
    return table(["groups", "ms per pass", "ms to read all weights once", *kinds], lines)


def known_order() -> str:
    result, lines = load("known_order"), []
    for model, losses in result["losses"].items():
        for order, loss in losses.items():
            difference = f"{loss['minus_the_first']:+.3f} ± {1.96 * loss['standard_error']:.3f}"
            lines.append([model, order, f"{loss['nats_per_token']:.3f}", difference])
    header = ["model", "what is known, and how", "nats per token", "minus the first (95 % interval over rows)"]
    return f"{table(header, lines)}\n\n{source(result)} {result['rows']} rows of {result['length']} tokens."


def tradeoff() -> str:
    result, lines = load("tradeoff"), []
    for name, row in result["strategies"].items():
        judged = row["judged"]
        about = [row.get(key, "") for key in ("family", "tokens_per_step", "passes", "ms_per_sample")]
        measured = (("perplexity", 0), ("entropy", 1), ("distinct_pairs", 2))
        lines.append(
            [
                about[0] or name,
                *about[1:],
                *(tight(judged[what], digits) for what, digits in measured),
                tight(row["own_loss"], 2),
            ]
        )
    header = ["order", "at a time", "passes", "ms per sample", "judge's perplexity",
              "entropy of words, bits", "distinct pairs", "own loss, nats"]  # fmt: skip
    about = (
        f"{result['samples']} samples for each of {len(result['seeds'])} seeds, {result['new_tokens']} tokens after "
        f"{result['given']} held-out ones, temperature 1, mean ± 95 % interval over seeds. Judge: {result['judge']}."
    )
    return f"{table(header, lines)}\n\n{source(result)} {about}"
