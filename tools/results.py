"""Write the tables of book/results.md from book/results/*.json. No number there is typed by hand.

python tools/results.py            write
python tools/results.py --check    change nothing; fail if something would change
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "results.md"


def load(name: str) -> dict:
    return json.loads((ROOT / "book" / "results" / f"{name}.json").read_text())


def source(result: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"Measured by `{result['command']}` on {result['date']}: {result['hardware']}, {result['threads']} threads, "
        f"{versions}, seed {result['seed']}, {result['wall_seconds']:.0f} s."
    )


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def two_stream() -> str:
    result = load("two_stream")
    header = [
        "T",
        "AR, ms",
        "A3, ms",
        "ratio",
        "limit",
        "ratio / limit",
        "kept for backward, AR to A3, MiB",
        "peak, AR to A3, MiB",
    ]
    rows = [
        [
            row["length"],
            f"{row['ar_ms']:.0f}",
            f"{row['a3_ms']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['limit']:.2f}",
            f"{row['ratio'] / row['limit']:.2f}",
            f"{row['ar_kept_mib']:.0f} to {row['a3_kept_mib']:.0f}",
            f"{row['ar_peak_mib']:.0f} to {row['a3_peak_mib']:.0f}",
        ]
        for row in result["rows"]
    ]
    return f"{table(header, rows)}\n\n{source(result)} Batch {result['batch']}, median of {result['rounds']} rounds."


def query_init() -> str:
    result = load("query_init")
    orders = list(next(iter(result["rows"].values()))["untouched"])
    rows = [
        [f"{initial}, {when}", *(f"{row[when][order]:.2f}" for order in orders)]
        for when in ("untouched", "adapted")
        for initial, row in result["rows"].items()
    ]
    return (
        f"{table(['initial w', *orders], rows)}\n\n"
        f"The source model scores the same text left to right at {result['autoregressive']:.2f}. "
        f"*Adapted*: after {result['steps']} left-to-right steps, {result['tokens']:,} tokens. "
        f"Model: {result['model']}. Text: {result['text']}, last 40 tales held out.\n\n{source(result)}"
    )


def notebook_times() -> str:
    result = load("notebook_times")
    rows = [[f"`{name}`", f"{seconds:.0f}"] for name, seconds in result["seconds"].items()]
    return f"{table(['notebook', 'seconds'], rows)}\n\n{source(result)}"


def page(text: str) -> str:
    for make in (two_stream, query_init, notebook_times):
        begin, end = f"<!-- {make.__name__}:begin -->", f"<!-- {make.__name__}:end -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{PAGE.name} lacks the markers {begin} ... {end}")
        start, stop = pattern.search(text).span()
        text = f"{text[:start]}{begin}\n\n{make()}\n\n{end}{text[stop:]}"
    return text


def main(arguments: list[str]) -> None:
    text = PAGE.read_text()
    made = page(text)
    if arguments == ["--check"]:
        if made != text:
            sys.exit("book/results.md is out of date: run `make results`")
    else:
        PAGE.write_text(made)


if __name__ == "__main__":
    main(sys.argv[1:])
