"""The tables and the samples of book/rewriting.md."""

from .common import plain, source, table


def rewriting(rewriting: dict) -> str:
    """How long what each way to rank puts first is, and whether it is the original."""
    return table(
        "model: {name} | tokens, the original: {mean_tokens[original]:.1f} "
        "| all alternatives: {mean_tokens[drawn]:.1f} | first by nats: {mean_tokens[nats]:.1f} "
        "| first by nats per token: {mean_tokens[nats_per_token]:.1f} "
        "| the original is first, by nats: {original_is_first[nats]} "
        "| by nats per token: {original_is_first[nats_per_token]}",
        {name: one["rewriting"] for name, one in rewriting["models"].items()},
        source(rewriting, "Means over {texts} texts with {many} alternatives each; tokens of the whole text."),
        _called(rewriting),
    )


def rewriting_samples(rewriting: dict) -> str:
    """Each text with its alternatives, the best first."""
    names, parts = list(rewriting["models"]), []
    for number, text in enumerate(rewriting["models"][names[0]]["rewriting"]["texts"]):
        original = next(one["words"] for one in text["alternatives"] if one["original"])
        space = " " if text["behind"].startswith(" ") else ""  # ``plain`` takes it away
        parts.append(f"{plain(text['before'])} **{plain(original)}**{space}{plain(text['behind'])}")
        for name in names:
            made = rewriting["models"][name]["rewriting"]["texts"][number]["alternatives"]
            cells = [
                f"*as it was* ({_nats(one['score'])} nats)" if one["original"]
                else f"{plain(one['words'])} ({_nats(one['gain'], '+')})"
                for one in made
            ]  # fmt: skip
            parts[-1] += f"\n- {name}: {' · '.join(cells)}"
    return "\n\n".join(parts)


def revising(rewriting: dict) -> str:
    """What becomes of a wrong word, and of a text without one."""
    rows = [
        {"name": name, "least": float(least), **row}
        for name, one in rewriting["models"].items()
        for least, row in one["revising"].items()
    ]
    return table(
        "model: {name} | least gain, nats: {least:.0f} | the wrong word goes first: {first} | it is changed: {changed} "
        "| the right word comes back: {mended} | the whole text does: {restored} | other tokens changed: {elsewhere} "
        "| nats gained: {gain:.1f} | right texts that are changed: {intact_changed}",
        rows,
        source(rewriting, "Of {sentences} sentences; other tokens and nats in all of them, the latter on average."),
        _called(rewriting),
    )


def revising_samples(rewriting: dict) -> str:
    """Each sentence with its wrong word, and what was done about it, where a change must gain the most."""
    least = max(next(iter(rewriting["models"].values()))["revising"], key=float)
    names, parts = list(rewriting["models"]), []
    for number, row in enumerate(rewriting["models"][names[0]]["revising"][least]["rows"]):
        parts.append(f"*{plain(row['text'])}*")
        for name in names:
            lines = rewriting["models"][name]["revising"][least]["rows"][number]["lines"]
            said = " · ".join(plain(line).replace("-\\>", "→") for line in lines)
            parts[-1] += f"\n- {name}: {said or 'nothing'}"
    return "\n\n".join(parts)


def _nats(value: float, sign: str = "") -> str:
    return format(value, f"{sign}.1f").replace("-", "−")


def _called(rewriting: dict) -> str:
    return f"Models: {'; '.join(one['model'] for one in rewriting['models'].values())}."
