"""The table of book/playground.md: how fast the model is in the page."""

from .common import source, table

_MODELS = {"compact": "the compact model, {:.1f} million weights", "larger": "an untrained one, {:.1f} million weights"}


def page_speed(page: dict) -> str:
    """Milliseconds of a step by model and by way, in Chromium; Node beside it; what a reader waits."""
    rows = []
    for model, called in _MODELS.items():
        for way, found in page["chromium"][model].items():
            row = {"model": called.format(page["weights"][model] / 1e6), "way": way, "mb": found["bytes"] / 1e6}
            row["node"] = page["node"][model][way]["ms_per_step"]["1+1"]
            rows.append(row | {f"n{size}": ms for size, ms in found["ms_per_step"].items()})
    columns = (
        "model: {model} | computed in: {way} | 1 + 1 rows, ms: {n1+1:.1f} | 4 + 4: {n4+4:.1f} | 8 + 8: {n8+8:.1f} "
    )
    columns += "| 64 + 64: {n64+64:.0f} | the same in Node, 1 + 1: {node:.1f} | memory, MB: {mb:.1f}"
    chromium, waits = page["engines"]["chromium"].split(".")[0], page["playground"]
    about = (
        f"A step takes n tokens in and asks for n others, behind {page['before']} tokens; one thread of Chromium "
        f"{chromium}. Memory: the numbers of the model and of its cache. In the playground, from a server on the same "
        f"machine: {waits['ms_to_load']:.0f} ms from the click until the model is there, and "
        f"{waits['ms_from_click_to_token']:.0f} ms from a click on *Step* until the token is shown."
    )
    return table(columns, rows, about, source(page))
