"""The tables of book/paper_results.md: the paper's, from book/paper.json, and ours beside them."""

from .common import across, fill, models, not_yet, source, table

_TASKS = {"triviaqa": "TriviaQA", "hellaswag": "HellaSwag", "winogrande": "WinoGrande", "siqa": "SIQA", "piqa": "PIQA"}
_KINDS = {"any-order": "A3", "diffusion": "masked diffusion", "autoregressive": "AR"}
_LIKELIHOOD = {
    "source": "AR, the source, untouched",
    "ar": "AR, trained on",
    "a3-content": "A3, content stream",
    "a3": "A3, left to right",
    "a3-both": "A3, both sides given",
    "diffusion": "masked diffusion, by its bound",
    "diffusion-both": "masked diffusion, by its bound, both sides given",
}
_INFILLING = {
    "copy-before": "copy the sentence before",
    "copy-after": "copy the sentence after",
    "ar": "AR, left side",
    "ar-best": "AR, best of several",
    "a3-left": "A3, left side only",
    "a3-1": "A3, 1 at a time",
    "a3-2": "A3, 2 at a time",
    "a3-4": "A3, 4 at a time",
    "a3-strided-2": "A3, 2 at a time, strided",
    "a3-strided-4": "A3, 4 at a time, strided",
    "a3-dynamic": "A3, by confidence, 1 at a time",
    "diffusion": "masked diffusion, by confidence, 1 at a time",
    "diffusion-4": "masked diffusion, by confidence, 4 at a time",
}
# The main table: its lines in order, and their names where the two results have the same model in the same order.
_LINES = ["guessing", "copy-before", "source", "ar", "ar-best", "diffusion", "diffusion-4", "diffusion-both"]
_LINES += ["a3-content", "a3-1", "a3-2", "a3-4", "a3-strided-2", "a3-strided-4", "a3-dynamic", "a3-both"]
_MAIN = _LIKELIHOOD | _INFILLING | {"guessing": "guessing", "ar": "AR, trained on", "diffusion": "masked diffusion"}


def _theirs(title: str, columns: list[str], rows: dict[str, list[float]], ours: dict[str, dict]) -> str:
    """A table of the paper, and our rows below."""
    rows = {name: dict(zip(columns, row, strict=True)) for name, row in rows.items()}
    return table(f"{title}: {{name}} | " + across("$: {$:.1f}", columns), rows | ours)


def tasks_main(paper: dict, likelihood: dict | None = None, infilling: dict | None = None) -> str:
    """The paper's main table, then ours."""
    rows = {name: {} for name in _LINES}
    if likelihood:
        tasks = likelihood["tasks"].items()
        rows["guessing"] = {_TASKS[task]: 100 * one["chance"] for task, one in tasks if one["chance"]}
        for name, one in likelihood["systems"].items():
            for task, row in one["tasks"].items():
                score = row["metrics"][likelihood["paper_metric"][task]]
                cells = rows.setdefault("a3-1" if name == "a3" else name, {})
                cells[_TASKS[task]] = {key: 100 * value for key, value in score.items()}
    for name, one in infilling["systems"].items() if infilling else ():
        untouched = name == "ar" and not one["model"].endswith("tokens)")  # without an adapter it is the source
        cells = rows.setdefault("source" if untouched else name, {})
        cells |= {f"ROUGE-{kind[-1]}": score for kind, score in one["rouge"].items()}
    ours = {f"**{_MAIN[name]}** (ours)": rows[name] for name in _LINES if rows[name]}
    theirs = {f"{name} (paper)": row for name, row in paper["main"].items()}
    both = {"likelihood": likelihood, "infilling": infilling}
    below = [source(one) for one in both.values() if one] + [not_yet(name) for name, one in both.items() if not one]
    return _theirs("model", paper["columns"], theirs, ours) + "\n\n".join(below)


def tasks_likelihood(likelihood: dict) -> str:
    """All systems on the tasks that are scored, with their differences from the source, question by question."""
    rows, parity = {}, ""
    for name, one in likelihood["systems"].items():
        cells = rows[_LIKELIHOOD.get(name, name)] = {}
        for task, row in one["tasks"].items():
            metric = likelihood["paper_metric"][task]
            minus = fill(f"{{source[{metric}]:+.1%}}", row["minus"])
            cells[_TASKS[task]] = fill(f"{{{metric}:.1%}}", row["metrics"]) + (f"; {minus}" if minus else "")
    questions = ", ".join(f"{_TASKS[task]} {one['questions']:,}" for task, one in likelihood["tasks"].items())
    about = f"Questions: {questions}. Behind the semicolon: minus the source, paired. 95 % intervals over questions."
    if found := likelihood["parity"].values():
        choices, largest = sum(one["choices"] for one in found), max(one["largest_difference_nats"] for one in found)
        parity = (
            f"With the source's weights, A3's content stream and lm-eval's own class differ by at most {largest:.1e} "
            f"nats over {choices:,} choices."
        )
    columns = "system: {name} | " + across("$: {$}", _TASKS.values())
    return table(columns, rows, source(likelihood, about), models(likelihood["systems"]), parity)


def tasks_infilling(infilling: dict) -> str:
    """All systems on ROCStories, with their differences from AR."""
    return table(
        "system: {name} | ROUGE-1: {rouge[rouge1]:.1f} | ROUGE-2: {rouge[rouge2]:.1f} | ROUGE-L: {rouge[rougeL]:.1f} "
        "| ROUGE-1 minus AR, paired: {minus[ar][rouge1]:+.1f} "
        "| loss of the true sentence, nats per token: {nats_per_token:.2f} | loss minus A3 without the right side, "
        "paired: {minus[a3-left][nats_per_token]:+.2f} | passes per story: {passes_per_story:.1f}",
        {_INFILLING.get(name, name): one for name, one in infilling["systems"].items()},
        source(infilling, "{count} stories, drawn from the first {first:,}; 95 % intervals over stories."),
        models(infilling["systems"]),
    )


def tasks_infilling_elsewhere(paper: dict, infilling: dict) -> str:
    """What others published for the same task, beside what copying gets here."""
    copied = infilling["systems"]["copy-before"]["rouge"]
    rows = {name: dict(zip(("rouge1", "rouge2", "rougeL"), row, strict=True))
            for name, row in paper["infilling_elsewhere"]["rows"].items()}  # fmt: skip
    return table(
        "system: {name} | ROUGE-1: {rouge1:.1f} | ROUGE-2: {rouge2:.1f} | ROUGE-L: {rougeL:.1f}",
        rows | {"copying the sentence before, our stories": copied},
        f"{paper['infilling_elsewhere']['source']}. Their stories are not ours.",
    )


def tasks_samples(infilling: dict) -> str:
    """What each system puts into stories of our own."""
    parts = []
    for number, story in enumerate(infilling["our_stories"]):
        parts.append("*{prefix}* **[...]** *{suffix}*\n\n- our sentence: {middle}".format(**story))
        for name, one in infilling["systems"].items():
            parts[-1] += f"\n- {_INFILLING.get(name, name)}: {' '.join(one['ours'][number].split())}"
    return "\n\n".join(parts)


def tasks_quality(quality: dict) -> str:
    """Perplexity under the judge, beside entropy and distinct-n."""
    rows = [{"kind": name, **row} for name, row in quality["rows"].items()]
    for row in rows:
        row["text"] = f"{_KINDS[row['kind']]}, {row['order']}" if "order" in row else row["kind"]
    about = "{count} beginnings of {given} tokens ({text}), {new} tokens each, temperature {temperature:g}; "
    about += "95 % intervals over texts. Judge: {judge}."
    return table(
        "text: {text} | at a time: {tokens_per_step} | passes: {passes:.0f} "
        "| perplexity under the judge: {measured[perplexity]:.1f} | entropy, nats: {measured[entropy]:.2f} | "
        + across("distinct-$: {measured[distinct_$]:.2f}", "123"),
        rows,
        source(quality, about),
        models(quality["rows"]),
    )


def tasks_quality_paper(paper: dict) -> str:
    quality, steps = paper["quality"], " / ".join(map(str, paper["quality"]["steps"]))
    columns = across(f"$, {steps} steps: {{$[0]:.1f}} / {{$[1]:.1f}}", ("Dream", "DiffuLLaMA", "A3"))
    about = f"Perplexity under {quality['judge']}. {paper['source']}."
    return table("order: {name} | " + columns, quality["perplexity"], about)


def tasks_curriculum_paper(paper: dict) -> str:
    return _theirs("curriculum (paper, 2 billion tokens)", paper["columns"], paper["curriculum"], {})
