"""evaluate/questions.py and local_tasks.py: the questions of every format, the protocol's prompts, the three accuracies
against a model whose answers are known, and lm-eval running the tasks offline."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import lm_eval
import pytest
from laws import strong_model
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager

from a3mini.evaluate import questions
from a3mini.evaluate.harness import A3LM
from a3mini.evaluate.local_tasks import ANSWER_METRICS, CHOICE_METRICS, build
from a3mini.evaluate.questions import HUB, TASKS, documents, sample
from a3mini.train import corpus, data

METRICS = (*CHOICE_METRICS, *ANSWER_METRICS)
FILES = {
    "hellaswag": (
        "swag.txt",
        "Baking: [header] A man has flour. he\n2\nflies away.\nsings  loud.\nbakes bread.\nsleeps.\n",
    ),
    "piqa": ("piqa.tsv", '1\t{"goal": "cool tea ", "sol1": "put it on the fire", "sol2": "add cold milk "}\n'),
    "siqa": (
        "siqa.jsonl",
        '{"context": "Kim fell.", "question": "How is Kim?", "options": ["hurt", "glad", "tall"], "answer": "glad"}',
    ),
    "winogrande": (
        "wino.jsonl",
        "\n".join(
            json.dumps({"context_options": list(options), "continuation": behind, "gold": gold})
            for options, behind, gold in [
                (("Ann met Bea so Ann", "Ann met Bea so Bea"), "smiled.", 1),
                (("I sat by the old oak", "I sat by the old oak tree"), ".", 0),
            ]
        ),
    ),
    "triviaqa": (
        "trivia.jsonl",
        json.dumps({"context": "Question: Who?\nAnswer:", "answer": "The Cat", "aliases": ["Cat", "Tom Cat"]}),
    ),
}  # fmt: skip


@pytest.fixture
def local(tmp_path):
    """A function from a task to its local file."""

    def write(name: str, text: str | None = None):
        file, right = FILES[name]
        path = tmp_path / file
        path.write_text(right if text is None else text, encoding="utf-8")
        return path

    return write


class Fixed(TemplateLM):
    """Tokens are words; the score of a continuation is looked up."""

    eot_token_id, tokenizer_name = 0, "words"

    def __init__(self, scores: dict[str, float] | None = None, answers: dict[str, str] | None = None):
        super().__init__()
        self.scores, self.answers, self.asked = scores or {}, answers or {}, []

    def tok_encode(self, string, add_special_tokens=None, **_):
        return string.split()

    def loglikelihood(self, requests, disable_tqdm=False):
        self.asked += [request.args for request in requests]
        return [(self.scores.get(request.args[1], -99.0), False) for request in requests]

    def _loglikelihood_tokens(self, requests, **_):
        raise AssertionError

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise AssertionError

    def generate_until(self, requests, disable_tqdm=False):
        self.asked += [request.args for request in requests]
        return [self.answers[request.args[0]] for request in requests]


def run(lm, task) -> dict[str, float]:
    found = lm_eval.evaluate(lm, {"tasks": {task.task_name: task}}, bootstrap_iters=0)["results"][task.task_name]
    return {name.removesuffix(",none"): found[name] for name in found if name.removesuffix(",none") in METRICS}


# --- questions ------------------------------------------------------------------------------------------------

EXPECTED = {
    "hellaswag": {
        "query": "Baking: A man has flour. he",
        "choices": ["flies away.", "sings loud.", "bakes bread.", "sleeps."],
        "suffix": "",
        "gold": 2,
    },
    "piqa": {
        "query": "Question: cool tea\nAnswer:",
        "choices": ["put it on the fire", "add cold milk"],
        "suffix": "",
        "gold": 1,
    },
    "siqa": {
        "query": "Question: Kim fell. How is Kim?\nAnswer:",
        "choices": ["hurt", "glad", "tall"],
        "suffix": "",
        "gold": 1,
    },
    "winogrande": {"query": "Ann met Bea so", "choices": ["Ann", "Bea"], "suffix": " smiled.", "gold": 1},
    "triviaqa": {"query": "Question: Who?\nAnswer:", "aliases": ["The Cat", "Cat", "Tom Cat"]},
}
HUB_ROWS = {
    "hellaswag": {
        "activity_label": "Baking",
        "ctx_a": "[header] A man has flour.",
        "ctx_b": "he",
        "endings": ["flies away.", "sings  loud.", "bakes bread.", "sleeps."],
        "label": "2",
    },
    "piqa": {"goal": "cool tea", "sol1": "put it on the fire", "sol2": "add cold milk", "label": 1},
    "siqa": {
        "context": "Kim fell.",
        "question": "How is Kim?",
        "answerA": "hurt",
        "answerB": "glad",
        "answerC": "tall",
        "label": "2",
    },
    "winogrande": {"sentence": "Ann met Bea so _ smiled.", "option1": "Ann", "option2": "Bea", "answer": "2"},
    "triviaqa": {"question": "Who?", "answer": {"aliases": ["The Cat", "Cat", "Tom Cat"]}},
}


@pytest.mark.parametrize("name", TASKS)
def test_local_files(name, local):
    assert documents(name, local(name))[0] == EXPECTED[name]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1d"])
@pytest.mark.parametrize("name", TASKS)
def test_what_is_no_end_of_a_line_stays_in_the_text(name, mark, local, tmp_path):
    """Python's ``splitlines`` cuts there. Editors put a byte order mark first, and Windows ends lines with two."""
    word = {"hellaswag": "sleeps", "piqa": "fire", "siqa": "tall", "winogrande": "smiled", "triviaqa": "Who"}[name]
    text = re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), FILES[name][1])
    inside = mark if name == "hellaswag" else json.dumps(mark, ensure_ascii=ord(mark) < 32)[1:-1]
    path = local(name, "")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace(word, f"x{inside}{word}").replace("\n", "\r\n").encode())
    found, plain = json.dumps(documents(name, path)[0]), json.dumps(EXPECTED[name])
    assert found.replace(json.dumps(f"x{mark}")[1:-1], "") == plain and found != plain
    assert len(documents(name, path)) == len(documents(name, local(name)))


@pytest.mark.parametrize("name", TASKS)
def test_the_hub_gives_the_same_questions(name, monkeypatch):
    """A row of each data set as the hub has it; no network."""
    asked = []

    def load(*arguments, split):
        asked.append((arguments, split))
        return [HUB_ROWS[name]]

    monkeypatch.setattr(questions, "load_dataset", load)
    found = documents(name)[0]
    if name == "hellaswag":  # lm-eval begins the second part of the context with a capital
        found["query"] = found["query"].replace("He", "he")
    assert found == EXPECTED[name] and asked == [(HUB[name], "validation")]


def test_the_hub_is_where_lm_eval_looks():
    """lm-eval's own tasks of these names say where their data is."""
    folder = Path(lm_eval.__file__).parent / "tasks"
    for name, (path, configuration) in HUB.items():
        file = folder / name / f"{'default' if name in ('winogrande', 'triviaqa') else name}.yaml"
        said = dict(re.findall(r"^(dataset_path|dataset_name): (\S+)$", file.read_text(), re.MULTILINE))
        assert said["dataset_path"] == path
        assert said["dataset_name"] == (configuration or "null") if "dataset_name" in said else configuration is None


def test_an_option_keeps_a_word_and_punctuation_has_no_space(local):
    second = documents("winogrande", local("winogrande"))[1]
    assert second == {"query": "I sat by the old", "choices": ["oak", "oak tree"], "suffix": ".", "gold": 0}


def test_sample():
    asked = [{"query": str(n)} for n in range(50)]
    few, more = sample(asked, 5, seed=1), sample(asked, 20, seed=1)
    assert len(few) == 5 and all(one in more for one in few) and few == sorted(few, key=asked.index)
    assert sample(asked, 5, seed=1) == few != sample(asked, 5, seed=2)
    assert sample(asked, None) == asked == sample(asked, 80)
    with pytest.raises(ValueError, match="count must be an integer, at least 1; got 0"):
        sample(asked, 0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "hellaswag",
            "Baking: a man\n2\nflies away.\n",
            "question 1 of swag.txt is not as hellaswag .*1 endings, not 4",
        ),
        ("hellaswag", "Baking: a man\n4\na\nb\nc\nd\n", "the right choice is number 4, of 4"),
        ("piqa", "1 no tab\n", "question 1 of piqa.tsv is not as piqa has it"),
        ("piqa", FILES["piqa"][1] + '0\t{"goal": "x", "sol1": "y"}\n', "question 2 of piqa.tsv .*KeyError.'sol2'"),
        ("piqa", '0\t{"goal": "x", "sol1": "y", "sol2": " "}\n', "a text is missing or empty"),
        ("siqa", '{"context": "a", "question": "b", "options": ["c"], "answer": "d"}', "'d' is not in list"),
        ("siqa", "not json", "question 1 of siqa.jsonl is not as siqa has it: .*line 1 of siqa.jsonl is not JSON"),
        ("siqa", FILES["siqa"][1].replace("glad", "a\\ud83d"), "question 1 of siqa.jsonl .* half of a pair"),
        (
            "winogrande",
            FILES["winogrande"][1].replace("smiled", "\\udc00"),
            "question 1 of wino.jsonl .* half of a pair",
        ),
        ("winogrande", '{"context_options": ["a b"], "continuation": "c", "gold": 0}', "there is one choice, 'b'"),
        ("triviaqa", "\n", "there are no questions in trivia.jsonl"),
    ],
)
def test_bad_files(name, text, message, local):
    with pytest.raises(ValueError, match=message):
        documents(name, local(name, text))


def test_bad_arguments(tmp_path, monkeypatch, local):
    with pytest.raises(ValueError, match="there is no task 'boolq' here; there are hellaswag, piqa"):
        documents("boolq", tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere; without one, piqa is read from the hub"):
        documents("piqa", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="in piqa nothing stands behind the choices; both_sides is for winogrande"):
        build("piqa", Fixed(), local("piqa"), both_sides=True)

    def unreachable(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(questions, "load_dataset", unreachable)
    with pytest.raises(OSError, match="cannot read baber/piqa from the hub.*Offline: give piqa a local file.*no route"):
        documents("piqa")


# --- tasks ----------------------------------------------------------------------------------------------------


def test_three_ways_to_compare_choices(local):
    """By the sum the short choice wins, by the mean over tokens the long one, over bytes a third one."""
    text = 'Cooking: a man\n1\nis.\nruns to the far end.\nincomprehensibilities.\nnobody ever knows why.\n'  # fmt: skip
    scores = {" is.": -3.0, " runs to the far end.": -5.5, " incomprehensibilities.": -4.0}
    lm = Fixed(scores)
    assert run(lm, build("hellaswag", lm, local("hellaswag", text))) == {"acc": 0, "acc_token": 1, "acc_bytes": 0}
    per_byte = {text: score / (len(text) - 1) for text, score in scores.items()}
    assert max(per_byte, key=per_byte.get) == " incomprehensibilities."
    assert lm.asked[0] == ("Cooking: a man", " is.")
    for right, found in (
        (0, {"acc": 1, "acc_token": 0, "acc_bytes": 0}),
        (2, {"acc": 0, "acc_token": 0, "acc_bytes": 1}),
    ):
        assert run(lm, build("hellaswag", lm, local("hellaswag", text.replace("\n1\n", f"\n{right}\n")))) == found


def test_winogrande_scores_the_option_with_the_rest(local):
    lm = Fixed({" Bea smiled.": -1.0, " Ann smiled.": -2.0, " oak tree.": -1.0, " oak.": -3.0})
    found = run(lm, build("winogrande", lm, local("winogrande")))
    assert lm.asked == [
        ("Ann met Bea so", " Ann smiled."), ("Ann met Bea so", " Bea smiled."),
        ("I sat by the old", " oak."), ("I sat by the old", " oak tree."),
    ]  # fmt: skip
    assert found == {"acc": 0.5, "acc_token": 0.5, "acc_bytes": 0.5}


def test_winogrande_with_both_sides_given(local):
    lm = Fixed({" Bea": -1.0, " Ann": -2.0, " oak": -1.0, " oak tree": -2.0})
    found = run(lm, build("winogrande", lm, local("winogrande"), both_sides=True))
    assert lm.asked[1] == ("Ann met Bea so", " Bea", {"suffix": " smiled."})
    assert lm.asked[2] == ("I sat by the old", " oak", {"suffix": "."})
    # "oak tree" has twice the tokens, so their mean does not tell it from "oak"; the first of equals wins
    assert found == {"acc": 1, "acc_token": 1, "acc_bytes": 0.5}


@pytest.mark.parametrize(
    ("answer", "exact", "f1"),
    [(" the cat!", 1, 1), (" Tom", 0, 2 / 3), (" A big cat", 0, 2 / 3), (" dog", 0, 0), ("", 0, 0)],
)
def test_triviaqa(answer, exact, f1, local):
    lm = Fixed(answers={"Question: Who?\nAnswer:": answer})
    found = run(lm, build("triviaqa", lm, local("triviaqa")))
    assert found == {"exact_match": exact, "f1": pytest.approx(f1)}
    assert lm.asked[0][1]["until"] == ["\n", ".", ","] and lm.asked[0][1]["do_sample"] is False


def test_lm_eval_runs_all_tasks_on_a3(local):
    """On a model with random weights: what counts is that every request is understood, and answered as asked alone."""
    stories = [corpus.Story("", " ".join(text for _, text in FILES.values()))]
    tokenizer = data.train_tokenizer(stories, vocab_size=300)
    lm = A3LM(strong_model(vocab_size=len(tokenizer), max_position_embeddings=256), tokenizer)
    tasks = [build(name, lm, local(name)) for name in TASKS]
    tasks.append(build("winogrande", lm, local("winogrande"), both_sides=True))
    manager = TaskManager(include_defaults=False)  # it need not read the thousands of lm-eval's own
    found = lm_eval.simple_evaluate(lm, tasks=tasks, bootstrap_iters=0, task_manager=manager)
    assert found["results"].keys() == {*TASKS, "winogrande_both_sides"}
    for name in ("piqa", "winogrande", "winogrande_both_sides"):
        for one in found["samples"][name]:
            alone = lm.loglikelihood([SimpleNamespace(args=tuple(args)) for args in one["arguments"]], True)
            assert [score for score, _ in one["filtered_resps"]] == pytest.approx([score for score, _ in alone])
            best = max(range(2), key=lambda n: alone[n][0])
            assert one["acc"] == float(best == one["doc"]["gold"])
    one_side, both_sides = (
        found["samples"][name][0]["filtered_resps"] for name in ("winogrande", "winogrande_both_sides")
    )
    assert one_side != both_sides
