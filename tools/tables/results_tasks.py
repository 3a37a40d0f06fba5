"""The tables of book/paper_results.md: the paper's, from book/paper.json, and ours beside them.

A result that is not there yet gives one line that says which command makes it.
"""

import json

from tools.tables.results_common import BOOK, NARROW, load, plus_minus, source, table
from tools.tables.results_study import ARMS

COMMANDS = {
    "likelihood": "python benchmarks/likelihood.py",
    "adaptation_search": "python benchmarks/adaptation.py search",
    "infilling": "python benchmarks/infilling.py --stories FILE",
    "quality": "python benchmarks/quality.py",
    "adaptation": "python benchmarks/adaptation.py losses",
}
SYSTEMS = {
    "copy-before": "copy the sentence before",
    "copy-after": "copy the sentence after",
    "ar": "AR, left side",
    "ar-best": "AR, best of several",
    "a3-left": "A3, left side only",
    "a3-1": "A3, 1 at a time",
    "a3-2": "A3, 2 at a time",
    "a3-4": "A3, 4 at a time",
    "a3-dynamic": "A3, by confidence, 1 at a time",
    "a3-dynamic-2": "A3, by confidence, 2 at a time",
    "a3-dynamic-4": "A3, by confidence, 4 at a time",
    "diffusion": "masked diffusion, by confidence, 1 at a time",
    "diffusion-4": "masked diffusion, by confidence, 4 at a time",
    "diffusion-random": "masked diffusion, random order",
}
ROUGE = ("rouge1", "rouge2", "rougeL")
TASKS = {
    "triviaqa": "TriviaQA",
    "hellaswag": "HellaSwag",
    "winogrande": "WinoGrande",
    "siqa": "SIQA",
    "piqa": "PIQA",
}
LIKELIHOOD = {
    "source": "AR, the source, untouched",
    "ar": "AR, trained on",
    "a3-content": "A3, content stream",
    "a3": "A3, left to right",
    "a3-random": "A3, random order",
    "a3-4": "A3, groups of 4",
    "a3-both": "A3, both sides given",
    "diffusion": "masked diffusion, by its bound",
    "diffusion-both": "masked diffusion, by its bound, both sides given",
}
# one line of the main table for what two results call by different names
MAIN = {
    "source": LIKELIHOOD["source"],
    "ar": LIKELIHOOD["ar"],
    "a3": "A3, 1 at a time",
    "a3-1": "A3, 1 at a time",
    "a3-4": "A3, 4 at a time",
    "diffusion": "masked diffusion",
}
# of the main table, in order; what else was measured stands in the full tables
LINES = (
    "guessing",
    SYSTEMS["copy-before"],
    MAIN["source"],
    MAIN["ar"],
    SYSTEMS["ar-best"],
    MAIN["diffusion"],
    SYSTEMS["diffusion-4"],
    LIKELIHOOD["diffusion-both"],
    LIKELIHOOD["a3-content"],
    MAIN["a3"],
    SYSTEMS["a3-2"],
    MAIN["a3-4"],
    SYSTEMS["a3-dynamic"],
    LIKELIHOOD["a3-both"],
)


def paper() -> dict:
    return json.loads((BOOK / "paper.json").read_text())


def found(name: str) -> dict | None:
    """A result of ours, or None where it has not been measured."""
    return load(name) if (BOOK / "results" / f"{name}.json").exists() else None


def not_yet(name: str) -> str:
    return f"Not measured yet: run `{COMMANDS[name]}`."


def within(interval: dict[str, float] | None, digits: int = 1, scale: float = 1, sign: str = "") -> str:
    """12.3 [11.0, 13.5], without a line break inside; nothing where nothing was measured."""
    if interval is None:
        return ""
    mean, low, high = (f"{scale * interval[key]:{sign}.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean}{NARROW}[{low},{NARROW}{high}]".replace("-", "−")


def tasks_main() -> str:
    """The paper's main table, then ours."""
    theirs = paper()
    rows = [[f"{name} (paper)", *(f"{value:.1f}" for value in values)] for name, values in theirs["main"].items()]
    rows += [[f"**{name}** (ours)", *cells] for name, cells in ours(theirs["columns"]).items()]
    lacking = [not_yet(name) for name in ("likelihood", "infilling") if found(name) is None]
    return "\n\n".join([table(["model", *theirs["columns"]], rows), *sources("likelihood", "infilling"), *lacking])


def ours(columns: list[str]) -> dict[str, list[str]]:
    """By model: the cells of the main table, empty where nothing was measured."""
    cells: dict[str, dict[str, str]] = {}
    likelihood, infilling = found("likelihood"), found("infilling")
    if likelihood:
        chance = {TASKS[task]: one["chance"] for task, one in likelihood["tasks"].items() if one["chance"]}
        cells["guessing"] = {task: f"{100 * value:.1f}" for task, value in chance.items()}
        for name, one in likelihood["systems"].items():
            label = MAIN.get(name, LIKELIHOOD.get(name, name))
            for task, row in one["tasks"].items():
                value = row["metrics"][likelihood["paper_metric"][task]]
                cells.setdefault(label, {})[TASKS[task]] = within(value, scale=100)
    for name, one in (infilling["systems"] if infilling else {}).items():
        # without an adapter, AR is the untouched source
        key = "source" if name == "ar" and not one["model"].endswith("tokens)") else name
        label = MAIN.get(key, SYSTEMS.get(name, name))
        scores = {f"ROUGE-{kind.removeprefix('rouge')}": within(one["rouge"].get(kind)) for kind in ROUGE}
        cells[label] = cells.get(label, {}) | scores
    rows = {name: [row.get(column, "") for column in columns] for name, row in cells.items()}
    return {name: rows[name] for name in LINES if name in rows}


def sources(*names: str) -> list[str]:
    return [source(result) for name in names if (result := found(name))]


def tasks_likelihood() -> str:
    """All systems on the tasks that are scored, with their differences from the source, question by question."""
    result = found("likelihood")
    if result is None:
        return not_yet("likelihood")
    rows = []
    for name, one in result["systems"].items():
        row = [LIKELIHOOD.get(name, name)]
        for task in TASKS:
            metric = result["paper_metric"].get(task)
            cell = one["tasks"].get(task)
            minus = cell["minus"].get("source", {}).get(metric) if cell else None
            row.append(within(cell["metrics"][metric], scale=100) if cell else "")
            row[-1] += f"; {within(minus, scale=100, sign='+')}" if minus else ""
        rows.append(row)
    counts = ", ".join(f"{TASKS[task]} {one['questions']:,}" for task, one in result["tasks"].items())
    models = dict.fromkeys(one["model"] for one in result["systems"].values())
    about = (
        f"Questions: {counts}. Behind the semicolon: minus the source, paired. 95 % intervals over questions. "
        f"Models: {'; '.join(models)}."
    )
    if result["parity"]:
        choices = sum(one["choices"] for one in result["parity"].values())
        largest = max(one["largest_difference_nats"] for one in result["parity"].values())
        about += (
            f" With the source's weights, A3's content stream and lm-eval's own class differ by at most {largest:.1e} "
            f"nats over {choices:,} choices."
        )
    return f"{table(['system', *TASKS.values()], rows)}\n\n{source(result)} {about}"


def tasks_infilling() -> str:
    """All systems on ROCStories, with their differences from AR."""
    result = found("infilling")
    if result is None:
        return not_yet("infilling")
    rows = []
    for name, one in result["systems"].items():
        minus = one["minus"].get("ar", {})
        rows.append(
            [
                SYSTEMS.get(name, name),
                *(within(one["rouge"].get(kind)) for kind in ROUGE),
                within(minus.get("rouge1"), sign="+"),
                within(one.get("nats_per_token"), 2),
                within(one["minus"].get("a3-left", {}).get("nats_per_token"), 2, sign="+"),
                f"{one['passes_per_story']:.1f}",
            ]
        )
    header = [
        "system",
        *("ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-1 minus AR, paired"),
        *("loss of the true sentence, nats per token", "loss minus A3 without the right side, paired"),
        "passes per story",
    ]
    models = dict.fromkeys(one["model"] for one in result["systems"].values() if one["model"])
    about = (
        f"{result['count']} stories, drawn from the first {result['first']:,}; 95 % intervals over stories. "
        f"Models: {'; '.join(models)}."
    )
    return f"{table(header, rows)}\n\n{source(result)} {about}"


def tasks_samples() -> str:
    """What each system puts into stories of our own."""
    result = found("infilling")
    if result is None:
        return not_yet("infilling")
    parts = []
    for number, story in enumerate(result["our_stories"]):
        lines = [f"*{story['prefix']}* **[...]** *{story['suffix']}*", "", f"- our sentence: {story['middle']}"]
        for name, one in result["systems"].items():
            lines.append(f"- {SYSTEMS.get(name, name)}: {' '.join(one['ours'][number].split())}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def tasks_quality() -> str:
    """Ours: perplexity under the judge, beside entropy and distinct-n."""
    result = found("quality")
    if result is None:
        return not_yet("quality")
    rows = []
    for name, row in result["rows"].items():
        one = row["measured"]
        rows.append(
            [
                f"{KINDS[row['kind']]}, {row['order']}" if "kind" in row else name,
                row.get("tokens_per_step", ""),
                f"{row['passes']:.0f}" if "passes" in row else "",
                within(one["perplexity"]),
                within(one["entropy"], 2),
                *(within(one[f"distinct_{n}"], 2) for n in (1, 2, 3)),
            ]
        )
    header = ["text", "at a time", "passes", "perplexity under the judge", "entropy, nats",
              "distinct-1", "distinct-2", "distinct-3"]  # fmt: skip
    models = dict.fromkeys(row["model"] for row in result["rows"].values() if "model" in row)
    about = (
        f"{result['count']} beginnings of {result['given']} tokens ({result['text']}), {result['new']} tokens each, "
        f"temperature {result['temperature']:g}; 95 % intervals over texts. Judge: {result['judge']}. "
        f"Models: {'; '.join(models)}."
    )
    return f"{table(header, rows)}\n\n{source(result)} {about}"


KINDS = {"any-order": "A3", "diffusion": "masked diffusion", "autoregressive": "AR"}


def tasks_quality_paper() -> str:
    theirs = paper()["quality"]
    steps = " / ".join(map(str, theirs["steps"]))
    models = list(next(iter(theirs["perplexity"].values())))
    rows = [
        [order, *(" / ".join(f"{value:.1f}" for value in row[model]) for model in models)]
        for order, row in theirs["perplexity"].items()
    ]
    header = ["order", *(f"{model}, {steps} steps" for model in models)]
    return f"{table(header, rows)}\n\nPerplexity under {theirs['judge']}. {paper()['source']}."


def tasks_curriculum_paper() -> str:
    theirs = paper()
    rows = [[name, *(f"{value:.1f}" for value in values)] for name, values in theirs["curriculum"].items()]
    return table(["curriculum (paper, 2 billion tokens)", *theirs["columns"]], rows)


def tasks_curriculum() -> str:
    """Ours: the arms of the study that differ in the curriculum alone."""
    result = load("study")
    columns = ["left to right", "a span", "a sentence", "blocks of 4", "random order"]
    rows = [
        [ARMS[arm], *(plus_minus(row["nats"].get(name), 2).replace(" ", NARROW) for name in columns)]
        for arm, row in result["arms"].items()
        if arm.startswith("a3_")
    ]
    return f"{table(['curriculum (ours)', *columns], rows)}\n\n{source(result)} Nats per token, lower is better."
