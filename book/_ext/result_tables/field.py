"""The tables of book/field.md: what others published, from book/field.json, beside what we measured."""

from math import log

from .common import fill, table

_STORIES = "tinystories_next4m_truecased"
_READ = {"paper": "", "abstract": " (read: the abstract)", "code": " (read: its code)"}
_LAB = "[SmolLM2, six million tokens](adaptation.md#six-million-tokens-on-a-large-gpu)"
_ORDERS = "[SmolLM2](decoding.md#measured-on-smollm2)"
_COMPACT = "[the compact model](compact.md#losses-in-every-way)"
_DRAFTS = "[SmolLM2](decoding.md#speculative-decoding)"


def field_works(field: dict) -> str:
    rows = [row | {"mark": _READ[row["read"]]} for row in field["works"]]
    columns = "work: **{name}** {{cite}}`{cite}`, {when}; {where}{mark} | what it is: {what} | "
    return table(columns + "it has, and A3 has not: {has} | A3 has, and it has not: {lacks}", rows)


def _apart(high: list[float], low: list[float]) -> str:
    """How much more nats a token the first costs than the second, over the texts, from perplexities."""
    found = sorted(log(one / other) for one, other in zip(high, low, strict=True))
    return f"{found[0]:+.2f} to {found[-1]:+.2f} nats".replace("-", "−")


def _line(question: str, theirs: str, ours: str) -> dict:
    return {"question": question, "theirs": theirs, "ours": ours}


def _ours(*parts: tuple[str, dict]) -> str:
    return "; ".join(f"{fill('{found:+.2f} nats', {'found': found})}, {where}" for where, found in parts)


def field_orders(field: dict, gpu_lab: dict, compact: dict, orders: dict) -> str:
    """What an order costs, in nats a token."""
    shot, eso = field["zero_shot"], field["esoteric"]["perplexity"]
    small = compact["differences"][compact["judged_text"]]
    more = orders["systems"]["smollm2-a3-warm"]["losses"]
    random = compact["losses"][compact["judged_text"]]["a3"]
    lab = gpu_lab["differences"]
    averaged = shot["any order"]["AO-GPT, 64 orders averaged"]
    between = random["random order"]["mean"] - random["left to right"]["mean"]
    rows = [
        _line("Any order, read causally, against masked diffusion, which reads both ways",
              f"AO-GPT against RADD: {_apart(shot['any order']['AO-GPT'], shot['any order']['RADD'])}",
              _ours((_LAB, lab["warm - diffusion"][_STORIES]["random order"]),
                    (_COMPACT, small["a3, random order - diffusion, random order (bound)"]))),
        _line("The same, with clean tokens that see each other both ways",
              f"Eso-LM against its variant (A): {_apart(*eso.values())}; AO-GPT, 64 orders averaged, against RADD: "
              f"{_apart(averaged, shot['any order']['RADD'])}",
              "not trained by us with both ways"),
        _line("Any order against left to right, the same model",
              f"AO-GPT: {_apart(shot['any order']['AO-GPT'], shot['left to right']['AO-GPT'])}",
              f"{_ours((_ORDERS, more['random, one at a time']['more']))}; {between:+.2f} nats, {_COMPACT}"),
        _line("Left to right, against a model that learned nothing else",
              f"AO-GPT against GPT-2: {_apart(shot['left to right']['AO-GPT'], shot['left to right']['GPT-2'])}",
              _ours((_LAB, lab["warm - autoregressive"][_STORIES]["left to right"]),
                    (_COMPACT, small["a3, left to right - ar, left to right"]))),
    ]  # fmt: skip
    about = (
        f"Nats a token; plus is worse. Theirs: the lowest and the highest of {len(shot['texts'])} texts (AO-GPT; "
        f"{shot['source']}) and of {', '.join(field['esoteric']['texts'])} (Eso-LM; {field['esoteric']['source']}), "
        "the logarithms of quotients of their perplexities. Ours: means with 95 % intervals."
    )
    return table("question: {question} | theirs: {theirs} | ours: {ours}", rows, about)


def field_parallel(field: dict, orders: dict, compact: dict, drafts: dict) -> str:
    """Several tokens in a pass."""
    generated, exact = field["esoteric"]["generated"], field["speculative"]
    more = orders["systems"]["smollm2-a3-warm"]["losses"]
    small = compact["differences"][compact["judged_text"]]
    strided = next(
        row for row in drafts["systems"]["smollm2-a3-warm"]["speed"]
        if (row["together"], row["size"]) == ("strided", 8)
    )["plain"]  # fmt: skip
    (before, after), (slow, fast) = exact["passes"], exact["seconds"]
    rows = [
        _line("Neighbours together",
              f"BD3-LM, 4 a step: a judge's perplexity {generated['BD3-LM, 4 neighbours a step']}",
              "4 a pass: " + _ours((_ORDERS, more["neighbours, 4"]["more"]),
                                   (_COMPACT, small["a3, neighbours 4 - a3, left to right"]))),
        _line("Far apart together",
              f"MDLM, 64 a step, scattered: {generated['MDLM, 64 scattered tokens a step']} by the same judge",
              "4 a pass: " + _ours((_ORDERS, more["far apart, 4"]["more"]),
                                   (_COMPACT, small["a3, strided 4 - a3, left to right"]))),
        _line("Drafts that are checked: the samples stay exact",
              f"any-subset speculative decoding: {before} passes become {after}, {slow} s become {fast} s",
              fill(f"{drafts['new_tokens']} tokens in {{passes:.0f}} passes, {{ratio:.1f}} times as fast, {_DRAFTS}",
                   strided)),
    ]  # fmt: skip
    about = (
        f"Theirs: {field['esoteric']['source']} and {exact['source']}. Ours: what a token costs more than one at a "
        "time, in nats, and the speed, with 95 % intervals."
    )
    return table("what is drawn: {question} | theirs: {theirs} | ours: {ours}", rows, about)


def field_order_of_training(field: dict) -> str:
    found = field["order_of_training"]
    rows = {name: {"fid": fid} for name, fid in found["fid"].items()}
    return table("training: {name} | FID (lower is better): {fid:.2f}", rows, f"Published: {found['source']}.")


def field_text8(field: dict) -> str:
    found = field["text8"]
    rows = {name: {"bits": bits} for name, bits in found["bits"].items()}
    about = f"Published: {found['source']}. Ours: not measured."
    return table("model: {name} | bits a character: {bits:.2f}", rows, about)
