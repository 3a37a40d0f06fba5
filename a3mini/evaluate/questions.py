"""The questions of the paper's five tasks, from local files or from the hub, in one form::

    hellaswag    text, six lines a question: "activity: context", number of the right ending, four endings
    piqa         a line a question: number of the right solution, TAB, {"goal": ..., "sol1": ..., "sol2": ...}
    siqa         jsonl: context, question, options, answer (the text of the right option)
    winogrande   jsonl: context_options (the text up to the option, with each), continuation, gold
    triviaqa     jsonl: context (the prompt), answer, aliases

From the hub come the data sets that lm-eval's tasks read. The prompts are the protocol's (DiffuLLaMA's, which the paper
follows), without the space at their end: lm-eval puts it before each choice, and the tokens are the same.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from a3mini import groups
from a3mini.train.corpus import check_text, json_lines, lines
from a3mini.train.curriculum import generator_for

try:
    from datasets import load_dataset
    from lm_eval.tasks.hellaswag.utils import preprocess
except ImportError as error:
    raise ImportError('the likelihood tasks come with a package of their own: pip install "a3mini[eval]"') from error

HUB = {  # task: data set, configuration, as lm-eval's tasks of these names (siqa: social_iqa) have them
    "hellaswag": ("Rowan/hellaswag", None),
    "piqa": ("baber/piqa", None),
    "siqa": ("lighteval/siqa", None),
    "winogrande": ("allenai/winogrande", "winogrande_xl"),
    "triviaqa": ("mandarjoshi/trivia_qa", "rc.nocontext"),
}
TASKS = tuple(HUB)
SPLIT = "validation"  # of the hub's data sets
CLOSING = tuple(".,;:!?'’)")  # what follows a word without a space


def documents(name: str, source: str | os.PathLike | None = None) -> list[dict]:
    """The questions of a task.

    Args:
        name: one of ``TASKS``.
        source: a local file, as the top of this file has it; None: the hub, validation split.

    Returns:
        for a task with choices, one dict a question: query, choices, suffix (what stands behind every choice, its space
        included, or ""), gold (number of the right choice). For triviaqa: query, aliases.

    Raises:
        ValueError: an unknown task, or a question that is not as the top of this file has it.
        FileNotFoundError: there is no such file.
        OSError: the hub cannot be reached.
    """
    check_name(name)
    if source is None:
        rows, read, where = _hub(name), HUB_READERS[name], HUB[name][0]
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}; without one, {name} is read from the hub")
        rows, read, where = LOCAL_ROWS[name](path), LOCAL_READERS[name], path.name
    found: list[dict] = []
    try:
        found.extend(_checked(read(row)) for row in rows)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"question {len(found) + 1} of {where} is not as {name} has it: {error!r}") from error
    if not found:
        raise ValueError(f"there are no questions in {where}")
    return found


def sample(questions: list[dict], count: int | None, seed: int = 0) -> list[dict]:
    """At most ``count`` questions, drawn with ``seed``, in their order; a larger count holds those of a smaller one."""
    if count is None:
        return questions
    groups.check_integer("count", count, 1)
    order = torch.randperm(len(questions), generator=generator_for(seed, 0))
    return [questions[n] for n in sorted(order[:count].tolist())]


def check_name(name: str) -> None:
    """Raise a ValueError for a task that is not there."""
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r} here; there are {', '.join(TASKS)}")


def _checked(question: dict) -> dict:
    texts = [question["query"], *question.get("choices", question.get("aliases"))]
    if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"a text is missing or empty in {texts}")
    for text in (*texts, question.get("suffix", "")):
        check_text(text)
    if len(question.get("choices", texts)) < 2:
        raise ValueError(f"there is one choice, {question['choices'][0]!r}; a question has two or more")
    if "choices" in question and not 0 <= question["gold"] < len(question["choices"]):
        raise ValueError(f"the right choice is number {question['gold']}, of {len(question['choices'])}")
    return question


def _choices(query: str, choices: Iterable[str], gold: int, suffix: str = "") -> dict:
    return {"query": query, "choices": list(choices), "suffix": suffix, "gold": int(gold)}


def _question(text: str) -> str:
    return f"Question: {text.strip()}\nAnswer:"


def _blocks_of_six(path: Path) -> Iterable[list[str]]:
    whole = list(lines(path))
    return (whole[start : start + 6] for start in range(0, len(whole), 6))


def _labelled(path: Path) -> Iterable[dict]:
    rows = (line.split("\t", 1) for line in lines(path) if line.strip())
    return ({"label": label, **json.loads(fields)} for label, fields in rows)


def _hellaswag(block: list[str]) -> dict:
    query, label, *endings = block
    if len(endings) != 4:
        raise ValueError(f"there are {len(endings)} endings, not 4")
    return _choices(preprocess(query), map(preprocess, endings), int(label))


def _piqa(row: dict) -> dict:
    return _choices(_question(row["goal"]), (row["sol1"].strip(), row["sol2"].strip()), int(row["label"]))


def _siqa(row: dict) -> dict:
    return _choices(
        _question(f"{row['context']} {row['question']}"), row["options"], row["options"].index(row["answer"])
    )


def _winogrande(row: dict) -> dict:
    """Cut the two beginnings where they differ: what they share is given, the rest of each is the option."""
    words = [text.split(" ") for text in row["context_options"]]
    shared = 0
    # each option keeps a word at least
    while shared < min(map(len, words)) - 1 and len({one[shared] for one in words}) == 1:
        shared += 1
    options = [" ".join(one[shared:]) for one in words]
    behind = row["continuation"].strip()
    # the files have lost the space before the continuation, or that there was none
    suffix = behind if behind.startswith(CLOSING) else f" {behind}"
    return _choices(" ".join(words[0][:shared]), options, row["gold"], suffix)


def _hub(name: str) -> Iterable[dict]:
    try:
        return load_dataset(*HUB[name], split=SPLIT)
    except Exception as error:  # datasets raises whatever its transport raises
        raise OSError(
            f"cannot read {HUB[name][0]} from the hub; is there a network? Offline: give {name} a local file. "
            f"What went wrong: {error}"
        ) from error


def _hub_hellaswag(row: dict) -> dict:
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"  # as lm-eval
    return _choices(preprocess(context), map(preprocess, row["endings"]), int(row["label"]))


def _hub_siqa(row: dict) -> dict:
    options = [row["answerA"], row["answerB"], row["answerC"]]
    return _choices(_question(f"{row['context']} {row['question']}"), options, int(row["label"]) - 1)


def _hub_winogrande(row: dict) -> dict:
    before, behind = row["sentence"].split("_", 1)
    return _choices(before.rstrip(), (row["option1"], row["option2"]), int(row["answer"]) - 1, behind.rstrip())


LOCAL_ROWS: dict[str, Callable] = {
    "hellaswag": _blocks_of_six,
    "piqa": _labelled,
    "siqa": json_lines,
    "winogrande": json_lines,
    "triviaqa": json_lines,
}
LOCAL_READERS: dict[str, Callable] = {
    "hellaswag": _hellaswag,
    "piqa": _piqa,
    "siqa": _siqa,
    "winogrande": _winogrande,
    "triviaqa": lambda row: {"query": row["context"], "aliases": [row["answer"], *row["aliases"]]},
}
HUB_READERS: dict[str, Callable] = {
    "hellaswag": _hub_hellaswag,
    "piqa": _piqa,
    "siqa": _hub_siqa,
    "winogrande": _hub_winogrande,
    "triviaqa": lambda row: {"query": _question(row["question"]), "aliases": row["answer"]["aliases"]},
}
