"""What the tables and figures of all result pages share."""

import io
import json
from pathlib import Path

import matplotlib.pyplot as plt

NARROW = "\u202f"  # a narrow space that does not break
BOOK = Path(__file__).resolve().parents[2] / "book"


def load(name: str) -> dict:
    return json.loads((BOOK / "results" / f"{name}.json").read_text())


def source(result: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"Measured by `{result['command']}` on {result['date']}: {result['hardware']}, {result['threads']} threads, "
        f"{versions}, seed {result['seed']}, {result['wall_seconds']:.0f} s."
    )


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def plus_minus(pair: list[float] | None, digits: int = 3) -> str:
    return "" if pair is None else f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def tight(pair: list[float] | None, digits: int = 2) -> str:
    """The same without a line break inside."""
    return plus_minus(pair, digits).replace(" ", NARROW)


def svg(figure) -> str:
    """The same text for the same figure."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return text.getvalue()
