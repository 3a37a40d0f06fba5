"""The paper's five tasks for lm-eval, by its protocol::

    task = build("piqa", lm, "piqa_valid.tsv", count=250)
    lm_eval.simple_evaluate(lm, tasks=[task])

    task         given                                     scored
    hellaswag    "ACTIVITY: CONTEXT"                       each ending
    piqa         "Question: GOAL\\nAnswer:"                each solution
    siqa         "Question: CONTEXT QUESTION\\nAnswer:"    each answer
    winogrande   what stands before the option             each option, with what stands behind it
    triviaqa     "Question: QUESTION\\nAnswer:"            nothing: an answer is generated

By the protocol the choice of the lowest mean loss wins. lm-eval has no such number: its ``acc`` compares sums of
log-probabilities, and its ``acc_norm`` divides them by the characters of the choice. So these tasks report::

    acc         by the sum of the log-probabilities of a choice
    acc_token   by their mean over its tokens: the paper's
    acc_bytes   by their sum over its bytes, which does not depend on a tokenizer

of the same scores. WinoGrande can also be asked with both sides given, P(option | what stands before and behind), of
models that take a suffix: A3 and masked diffusion.

TriviaQA's answer ends with the line, a full stop or a comma, as in lm-eval's task. It is compared with every alias, by
exact match and F1, both after SQuAD's normalisation: case, punctuation and articles do not count.
"""

import os
from collections.abc import Callable, Iterable

import torch

from a3mini.evaluate.questions import SPLIT, check_name, documents, sample

try:
    from datasets import Dataset, DatasetDict
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks.qasper.metrics import f1_abstractive, normalize_answer
except ImportError as error:
    raise ImportError('the likelihood tasks come with a package of their own: pip install "a3mini[eval]"') from error

CHOICE_METRICS = ("acc", "acc_token", "acc_bytes")
ANSWER_METRICS = ("exact_match", "f1")
ANSWER = {"until": ["\n", ".", ","], "max_gen_toks": 24, "do_sample": False}


def build(
    name: str,
    lm: TemplateLM,
    source: str | os.PathLike | None = None,
    count: int | None = None,
    seed: int = 0,
    both_sides: bool = False,
) -> ConfigurableTask:
    """A task for ``lm_eval.simple_evaluate``.

    Args:
        name: one of ``questions.TASKS``.
        lm: the model that will answer; its tokens are counted for ``acc_token``.
        source: a local file; None: the hub. See ``questions``.
        count, seed: at most so many questions, drawn with the seed; None: all.
        both_sides: winogrande alone: score each option given both sides.

    Raises:
        ValueError: ``both_sides`` of a task where nothing follows the choice; else as ``questions.documents``.
        FileNotFoundError, OSError: as ``questions.documents``.
    """
    check_name(name)
    if both_sides and name != "winogrande":
        raise ValueError(f"in {name} nothing stands behind the choices; both_sides is for winogrande")
    questions = sample(documents(name, source), count, seed)
    if name == "triviaqa":
        return ConfigurableTask(config=_answer_config(name, questions))
    if both_sides:
        return BothSides(config=_choice_config(f"{name}_both_sides", questions, lm, lambda doc: doc["choices"]))
    whole = lambda doc: [choice + doc["suffix"] for choice in doc["choices"]]  # noqa: E731
    return ConfigurableTask(config=_choice_config(name, questions, lm, whole))


class BothSides(ConfigurableTask):
    """Multiple choice with a suffix behind every choice, which is given; see ``row_lm``."""

    def construct_requests(self, doc, ctx, **options):
        requests = super().construct_requests(doc, ctx, **options)
        for request in requests:
            request.arguments = (*request.arguments, {"suffix": doc["suffix"]})
        return requests


def _config(name: str, questions: list[dict], metrics: Iterable[str], **more) -> dict:
    # functions, not methods: lm-eval copies a task's settings, and would copy the model with them
    return {
        "task": name,
        "custom_dataset": lambda **_: DatasetDict({SPLIT: Dataset.from_list(questions)}),
        "validation_split": SPLIT,
        "doc_to_text": "query",
        "num_fewshot": 0,
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in metrics],
        **more,
    }


def _choice_config(name: str, questions: list[dict], lm: TemplateLM, texts: Callable[[dict], list[str]]) -> dict:
    def results(doc: dict, found: list[tuple[float, bool]]) -> dict[str, float]:
        sums = torch.tensor([log_probs for log_probs, _ in found], dtype=torch.float64)
        tokens = torch.tensor([len(lm._encode_pair(doc["query"], f" {text}")[1]) for text in texts(doc)])
        size = torch.tensor([len(text.encode()) for text in texts(doc)])
        scores = {"acc": sums, "acc_token": sums / tokens, "acc_bytes": sums / size}
        return {metric: float(scores[metric].argmax().item() == doc["gold"]) for metric in CHOICE_METRICS}

    return _config(
        name, questions, CHOICE_METRICS, output_type="multiple_choice", doc_to_choice=texts, doc_to_target="gold",
        process_results=results,
    )  # fmt: skip


def _answer_config(name: str, questions: list[dict]) -> dict:
    def results(doc: dict, found: list[str]) -> dict[str, float]:
        exact = any(normalize_answer(found[0]) == normalize_answer(alias) for alias in doc["aliases"])
        return {"exact_match": float(exact), "f1": max(f1_abstractive(found, [alias]) for alias in doc["aliases"])}

    return _config(
        name, questions, ANSWER_METRICS, output_type="generate_until", doc_to_target="aliases",
        generation_kwargs={**ANSWER}, process_results=results,
    )  # fmt: skip
