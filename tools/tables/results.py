"""Write the tables and figures of the result pages from book/results/*.json. No number there is typed by hand.

python -m tools.tables.results            write
python -m tools.tables.results --check    change nothing; fail if something would change
"""

import re
import sys

import matplotlib
import matplotlib.pyplot as plt

from a3mini.notebook import plots
from tools.tables import results_adaptation as adaptation
from tools.tables import results_decoding as decoding
from tools.tables import results_scaling as scaling
from tools.tables import results_study as study
from tools.tables import results_tasks as tasks
from tools.tables import results_versions as versions
from tools.tables.results_common import BOOK, load, source, table


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


PAGES = {
    "adaptation.md": (adaptation.adaptation_arms, adaptation.adaptation_losses, adaptation.adaptation_search),
    "decoding.md": (
        decoding.decoding_groups,
        decoding.decoding_cache,
        decoding.decoding_dynamic,
        decoding.decoding_speculative,
        decoding.decoding_bounds,
        decoding.tradeoff,
        decoding.known_order,
    ),
    "paper_results.md": (
        tasks.tasks_main,
        tasks.tasks_likelihood,
        tasks.tasks_infilling,
        tasks.tasks_samples,
        tasks.tasks_quality_paper,
        tasks.tasks_quality,
        tasks.tasks_curriculum_paper,
        tasks.tasks_curriculum,
    ),
    "scaling.md": (scaling.scaling_memory, scaling.scaling_measured, scaling.scaling_flex, scaling.scaling_gpu),
    "results.md": (two_stream, query_init, notebook_times),
    "study.md": (
        study.study_setup,
        study.study_losses,
        study.study_differences,
        study.study_infilling,
        study.study_samples,
        study.study_compute,
    ),
    "versions.md": (versions.versions_matrix, versions.versions_colab),
}
FIGURES = {
    "adaptation_curves.svg": adaptation.adaptation_curves,
    "study_curves.svg": study.study_curves,
    "study_tradeoff.svg": study.study_tradeoff,
}


def page(name: str) -> str:
    text = (BOOK / name).read_text()
    for make in PAGES[name]:
        begin, end = f"<!-- {make.__name__}:begin -->", f"<!-- {make.__name__}:end -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{name} lacks the markers {begin} ... {end}")
        start, stop = pattern.search(text).span()
        text = f"{text[:start]}{begin}\n\n{make()}\n\n{end}{text[stop:]}"
    return text


def main(arguments: list[str]) -> None:
    matplotlib.use("svg")
    plots.use_style()
    plt.rcParams["svg.hashsalt"] = "a3"
    made = {BOOK / name: page(name) for name in PAGES}
    made |= {BOOK / "_static" / name: make() for name, make in FIGURES.items()}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        pins = (BOOK.parent / "constraints.txt").read_text().splitlines()
        if f"matplotlib=={matplotlib.__version__}" not in pins:  # another one writes the same curves in other words
            stale = [path for path in stale if path.suffix != ".svg"]
        if stale:
            sys.exit(f"out of date: {', '.join(path.name for path in stale)}; run `make results`")
    else:
        for path in stale:
            path.write_text(made[path])


if __name__ == "__main__":
    main(sys.argv[1:])
