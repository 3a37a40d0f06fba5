"""The tables of book/choose.md: each line is a figure that another page measures, and says which."""

from .common import fill, table

_STORIES = "tinystories_next4m_truecased"
_LAB = "[six million tokens, one GPU](adaptation.md#six-million-tokens-on-a-large-gpu)"
_ORDERS = "[orders of SmolLM2](decoding.md#measured-on-smollm2)"
_GROUPS = "[groups](decoding.md#groups-against-one-by-one)"
_CACHE = "[the cache](decoding.md#with-and-without-the-cache)"
_SETS = "[sets that the model chooses](decoding.md#bounded-by-what-is-lost)"
_DRAFTS = "[speculative decoding](decoding.md#speculative-decoding)"
_ROC = "[a missing sentence](paper_results.md#infilling-all-systems)"
_MORE = "{more:+.2f} nats a token"
_COMPACT = "[the compact model](compact.md#losses-in-every-way)"
_COST = "[the second stream](results.md#what-the-second-stream-costs)"


def _line(what: str, figure: str, row: dict, page: str) -> dict:
    return {"what": what, "figure": fill(figure, row), "page": page}


def _table(lines: list[dict]) -> str:
    return table(
        "what: {what} | figure: {figure} | measured in: {page}", lines, "Brackets, and what follows ±: 95 % intervals."
    )


def _tokens(gpu_lab: dict) -> str:
    return f"{gpu_lab['arms']['warm']['curve'][-1]['tokens'] / 1e6:.1f} million tokens"


def _seconds(decoding: dict) -> dict[str, float]:
    """Of one text of 512 new tokens in float32, by way."""
    wanted = {"batch": 1, "new_tokens": 512, "dtype": "float32"}
    return {cell["what"]: cell["seconds"] for cell in decoding["cells"] if wanted.items() <= cell.items()}


def _solved(arms: dict[str, list[dict]]) -> dict:
    """Whole sudokus right: a share of [mean, half of the interval, steps], so in percent its first two."""
    found = {
        "own": arms["A3, random order"][-1]["by confidence"], "left": arms["A3, random order"][-1]["left to right"],
        "ar": arms["autoregression"][-1]["left to right"], "other": arms["masked diffusion"][-1]["by confidence"],
    }  # fmt: skip
    return _line(
        "whole sudokus right, after the same training rows",
        "A3 in the order that it chooses {own:.0f} %, left to right {left:.0f} %; AR {ar:.0f} %; masked diffusion in "
        "the order that it chooses {other:.0f} %",
        {name: [100 * share, 100 * half] for name, (share, half, _) in found.items()}, "[puzzles](puzzles.md)",
    )  # fmt: skip


def _compact(compact: dict | None, lines: dict[str, str]) -> list[dict]:
    """Differences between the compact model and its twins, as far as they are measured."""
    found = compact["differences"][compact["judged_text"]] if compact else {}
    return [
        _line(f"{what}, trained from scratch", "{more:+.2f} nats a token", {"more": found[key]}, _COMPACT)
        for what, key in lines.items() if key in found
    ]  # fmt: skip


def choose_gains(
    gpu_lab: dict,
    infilling: dict,
    bounded: dict,
    decoding: dict,
    drafts: dict,
    orders: dict,
    puzzles: dict | None = None,
    compact: dict | None = None,
) -> str:
    """What A3 is better at than a rival, or has alone."""
    ar_gap = gpu_lab["differences"]["warm - autoregressive"][_STORIES]["left to right"]
    right = infilling["systems"]["a3-1"]["minus"]["ar"]["nats_per_token"]
    speed, longest = bounded["speed"], max(bounded["speed"], key=int)
    far = speed[longest]["far apart, 4"]
    apart = orders["systems"]["smollm2-a3-warm"]["losses"]["far apart, 4"]
    times = _seconds(decoding)
    cached = times["groups of 1, no cache"] / times["groups of 1"]
    draft = next(
        row for row in drafts["systems"]["smollm2-a3-warm"]["speed"]
        if (row["together"], row["size"]) == ("strided", 8)
    )  # fmt: skip
    solved = [_solved(puzzles["curves"]["sudoku"])] if puzzles else []
    return _table([
        *solved,
        _line("exact likelihood of any part given any other part", "one pass; masked diffusion needs one per token for "
              "its chain, or has a bound", {}, "[a fair race](study.md#two-names-for-one-number)"),
        _line("left to right, behind AR after the same tokens", "{gap:+.2f} nats a token", {"gap": ar_gap}, _LAB),
        _line("a sentence with both sides given, against AR with its left side", "{right:+.2f} nats a token",
              {"right": right}, _ROC),
        *_compact(compact, {
            "left to right, against AR": "a3, left to right - ar, left to right",
            "random order, against masked diffusion's bound": "a3, random order - diffusion, random order (bound)",
            "four far-apart tokens a pass, against one": "a3, strided 4 - a3, left to right",
            "a sentence with both sides given, against AR with its left side":
                "a3, a sentence, both sides - ar, a sentence, left side",
        }),
        _line("an exact cache, 512 new tokens", f"{cached:.0f} times as fast as without", {}, _CACHE),
        _line(f"four far-apart tokens a pass, {longest} new tokens, against AR in transformers",
              f"{far['ratio']:.1f} times as fast, {{more:+.2f}} nats a token", {"more": apart["more"]}, _ORDERS),
        _line("eight far-apart tokens drafted and checked: the samples are exactly those of one at a time",
              "{ratio:.1f} times as fast as one at a time", {"ratio": draft["plain"]["ratio"]}, _DRAFTS),
    ])  # fmt: skip


def choose_costs(two_stream: dict, gpu_lab: dict, infilling: dict, bounded: dict, decoding: dict, orders: dict) -> str:
    """What A3 costs, and where a rival is better."""
    steps = [row["ratio"] for row in two_stream["rows"]]
    kept = [row["a3_kept_mib"] / row["ar_kept_mib"] for row in two_stream["rows"]]
    random = gpu_lab["differences"]["warm - diffusion"][_STORIES]["random order"]
    orders = orders["systems"]["smollm2-a3-warm"]["losses"]
    longest = max(bounded["speed"], key=int)
    asks, fewer = (bounded["speed"][longest][way]["ratio"] for way in ("confidence, 4", "confidence, 4, shortlist 16"))
    times = _seconds(decoding)
    slower = times["transformers generate, our products"] / times["groups of 1"]
    rouge = {name: infilling["systems"][name]["rouge"]["rougeL"] for name in ("a3-1", "diffusion", "copy-before")}
    return _table([
        _line("a training step, against AR's", f"{min(steps):.1f} to {max(steps):.1f} times the time, "
              f"{min(kept):.1f} to {max(kept):.1f} times what is kept for the backward pass", {}, _COST),
        _line(f"random order, against masked diffusion, after {_tokens(gpu_lab)}, two in five of A3's in random order",
              "{random:+.2f} nats a token", {"random": random}, _LAB),
        _line("random order, against left to right", _MORE, orders["random, one at a time"], _ORDERS),
        _line("four neighbours a pass, against one", _MORE, orders["neighbours, 4"], _ORDERS),
        _line("one at a time left to right, against AR with the same products",
              f"{slower:.2f} times the speed", {}, _GROUPS),
        _line("the next position by confidence, four a pass, against AR in transformers",
              f"{asks:.2f} times the speed; {fewer:.2f} with a shortlist of 16", {}, _SETS),
        _line("a missing sentence by ROUGE-L",
              "A3 {a3-1:.1f}; masked diffusion {diffusion:.1f}; copying the sentence before {copy-before:.1f}", rouge,
              _ROC),
    ])  # fmt: skip
