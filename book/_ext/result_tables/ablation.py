"""The tables about the recipe in book/training.md: what each choice changes, and in which order of generation."""

from .common import across, fill, measured, source, table

_TEXTS = {
    "tinystories_next4m_truecased": "TinyStories", "gutenberg_children": "old books",
    "andersen": "Andersen", "bible-bbe": "the Bible",
}  # fmt: skip
_ORDERS = (
    "left to right", "a span", "a sentence", "random order", "strided 2", "strided 4", "strided 8", "neighbours 4",
)  # fmt: skip
_MEAN = "mean of what is used"


def recipe(recipe: dict) -> str:
    rows = {}
    for arm, found in recipe["arms"].items():
        own = found.get("difference")
        rows[arm] = found | {"loss": found["losses"][_MEAN], "own": own[_MEAN] if own else None, "each": None}
        if own:
            rows[arm]["each"] = ", ".join(f"{one:+.3f}" for one in found["by_seed"][_MEAN]).replace("-", "−")
        rows[arm] |= {text: by.get("difference") for text, by in found["by_text"].items()}
    texts = list(next(iter(recipe["arms"].values()))["by_text"])
    by_text = " | ".join(f"{_TEXTS.get(text, text)}: {{{text}:+.3f}}" for text in texts)
    columns = (
        "arm: {name} | what it changes: {changes} | loss: {loss:.3f} | difference: {own:+.3f} "
        f"| each seed: {{each}} | {by_text} | predicted tokens: {{predicted_tokens:,}} "
        "| operations: {operations:.2f}"
    )
    about = (
        "Nats per predicted token, the mean of left to right, a sentence, random order and four strided, on {rows} "
        "held-out rows of {length} tokens, half of each text. Differences: the arm minus the base, paired by rows, the "
        "mean of {seeds} seeds, with 95 % intervals over rows; beside them that of each seed, then of each text. Every "
        "arm: {steps} steps of up to {batch_tokens:,} tokens, learning rate {muon:g} (AdamW {adamw:g}). Operations: "
        "those of the matrices in training, relative to the base. Text: {text}."
    ).format(**recipe | recipe["rates"])
    if recipe["not_run"]:
        about += f" Not run: {', '.join(recipe['not_run'])}."
    return table(columns, rows, f"{about}\n\n{source(recipe)}")


def recipe_orders(recipe: dict) -> str:
    """By order of generation: losses of the base, and differences to them, bold where they are certain."""
    arms = recipe["arms"]
    orders = measured(_ORDERS, [found["losses"] for found in arms.values()])
    rows = {}
    for arm, found in arms.items():
        rows[arm] = {order: f"{found['losses'][order]:.2f}" for order in orders}
        if "difference" in found:
            rows[arm] = {order: _difference(found["difference"][order], found["by_seed"][order]) for order in orders}
    return table("arm: {name} | " + across("$: {$}", orders), rows)


def _difference(own: dict, by_seed: list[float]) -> str:
    """Bold where the interval over rows leaves out zero, and all seeds lie on the same side of it."""
    text = fill("{x:+.3f}", {"x": [own["mean"], (own["high"] - own["low"]) / 2]})
    certain = own["low"] * own["high"] > 0 and all(one * own["mean"] > 0 for one in by_seed)
    return f"**{text}**" if certain else text
