"""cli.py: the commands end to end on tiny models, config files, and one line for every error of the user's."""

import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hub_rows import Rows
from places import ROOT
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from a3mini import A3ForCausalLM, adapter, cli, decode, groups, rows, runs, sources, using
from a3mini.decode import blanks, infilling, rewriting
from a3mini.train import Curriculum, TrainConfig, corpus, curriculum, data, mixture

TINY = ["--vocab-size=300", "--hidden-size=16", "--layers=1", "--heads=2"]
SHORT = ["--length=32", "--batch-size=4", "--held-out-rows=8", "--precision=fp32", "--quiet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a text, and an autoregressive and an any-order model trained on it."""
    folder = tmp_path_factory.mktemp("cli")
    sentences = [f"Cat {n} sat on mat number {7 * n}. It was {'warm' if n % 2 else 'cold'} there." for n in range(40)]
    (folder / "text.txt").write_text("\n\n".join(sentences))
    text = f"--text={folder / 'text.txt'}"
    for objective in ("any-order", "autoregressive", "diffusion"):
        run = [f"--objective={objective}", "--steps=4", f"--folder={folder / objective}"]
        assert cli.main(["train", text, *TINY, *SHORT, *run]) == 0
    return folder


def train(made: Path, *more: str) -> list[str]:
    return ["train", f"--text={made / 'text.txt'}", *TINY, *SHORT, "--steps=4", *more]


def the_error(capsys) -> str:
    """The one line on standard error."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_train_leaves_a_model_and_its_record(made):
    run = made / "any-order"
    model = A3ForCausalLM.from_pretrained(run / "model")
    assert (model.config.hidden_size, model.config.max_position_embeddings) == (16, 32)
    record = json.loads((run / "run.json").read_text())
    assert record["command"]["options"]["vocab_size"] == 300
    assert record["command"]["options"]["column"] == "text"  # those that were not given as well
    assert record["command"]["arguments"][0] == "train"
    assert record["training"]["seed"] == 0 and record["versions"]["torch"] and record["hardware"]
    first, last = runs.read_metrics(run)
    assert last["random order"] < first["random order"]
    assert not list(run.glob(f"{runs.PARTIAL}*"))


def test_rows_are_kept_and_large_files_streamed(made, tmp_path, monkeypatch):
    """The same run each time: from memory, from the cache, and from a text that is read one document at a time."""
    monkeypatch.setenv("A3MINI_CACHE", str(tmp_path / "cache"))
    encoded, right, ids = [], data.encode_each, {}
    monkeypatch.setattr(data, "encode_each", lambda *arguments: encoded.append(1) or right(*arguments))
    for name, streamed, more in (
        ("no cache", False, ["--no-cache"]), ("first", False, []), ("again", False, []),
        ("stream", True, []), ("no stream", True, ["--no-cache"]),
    ):  # fmt: skip
        monkeypatch.setattr(using, "STREAMED", 0 if streamed else 2**26)
        encoded.clear()
        assert cli.main(train(made, f"--folder={tmp_path / name}", "--steps=1", *more)) == 0
        ids[name] = runs.read_json(tmp_path / name / "run.json")["run"], len(encoded)
        found = len(list((tmp_path / "cache").glob("rows-*")))
        assert found == {"no cache": 0, "first": 2, "again": 2, "stream": 4, "no stream": 4}[name]
    assert len({run for run, _ in ids.values()}) == 1
    assert [count for _, count in ids.values()] == [2, 2, 0, 2, 2], "training and held-out rows"
    monkeypatch.setattr(using, "STREAMED", 0)
    other = tmp_path / "other.txt"
    other.write_text("Cat 0 sat on mat number 0. It was cold there.\n\nA dog ran far away, and nobody saw it again.")
    assert cli.main(train(made, f"--folder={tmp_path / 'v'}", "--steps=1", f"--validation-text={other}")) == 0
    assert (
        cli.main(train(made, f"--folder={tmp_path / 'w'}", "--steps=1", "--validation-text", str(made / "text.txt")))
        == 2
    )


def test_a_whole_hub_set_is_streamed(tmp_path, monkeypatch):
    """Nobody knows how large it is; with --limit it is read into memory. The same run each time."""
    monkeypatch.setenv("A3MINI_CACHE", str(tmp_path / "cache"))
    there = SimpleNamespace(load_dataset=lambda name, **_: Rows(400, []))
    monkeypatch.setitem(sys.modules, "datasets", there)
    monkeypatch.setattr(corpus, "revision_of", lambda name: "a commit")
    monkeypatch.setattr(sources, "hub_answers", lambda: True)
    streamed, right, runs_made = [], using.Mixture.split, []
    monkeypatch.setattr(
        using.Mixture, "split", lambda *args, **how: streamed.append(how["streamed"]) or right(*args, **how)
    )
    for name, more, wanted in (
        ("whole", [], True),
        ("limited", ["--limit=400"], False),
        ("no cache", ["--no-cache"], False),
    ):
        streamed.clear()
        command = ["train", "--text=owner/name", *TINY, *SHORT, "--steps=1", f"--folder={tmp_path / name}", *more]
        assert cli.main(command) == 0
        assert streamed == [wanted], name
        runs_made.append(runs.read_json(tmp_path / name / "run.json")["run"])
    assert len(set(runs_made)) == 1


@pytest.fixture
def stories(tmp_path):
    """Two sources of sixteen documents, the name of one with a "=", and an evaluation set like the other."""
    (tmp_path / "lr=3.txt").write_text("\n\n".join(f"Dog {n} ran to house number {9 * n} by night." for n in range(16)))
    shared = [f"There stood a table of oak with {n} legs and on it lay a letter, red as wax." for n in (3, 4)]
    others = [f"Fish {n} swam in pond number {5 * n}, alone." for n in range(14)]
    (tmp_path / "fish.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in (*others, *shared)))
    (tmp_path / "items.csv").write_text('id,one,two\n1,"There stood a TABLE of oak; with 3 legs","and on it, lay"\n')
    return tmp_path


def test_weights_of_texts(stories, made, capsys):
    """The training sees each source as often as its weight says, and goes on only with the same mixture."""
    texts = [f"{stories / 'fish.jsonl'}=0.5", f"{stories / 'lr=3.txt'}=3"]
    rest = [*TINY, *SHORT, "--steps=2", "--limit=14", "--validation=0", "--save-every=1", f"--folder={stories / 'run'}"]
    assert cli.main(["train", "--text", *texts, *rest]) == 0
    printed = capsys.readouterr().out
    assert f"0.5 times {stories / 'fish.jsonl'}: " in printed and f"  3 times {stories / 'lr=3.txt'}: " in printed
    record = runs.read_json(stories / "run" / "run.json")
    assert record["about"]["mixture"] == {"fish.jsonl": 0.5, "lr=3.txt": 3.0} and record["data"]["visits"]
    assert record["data"]["rows"] == 7 + 14
    assert record["command"]["options"]["text"] == texts
    assert cli.main(["train", "--text", *texts, *rest]) == 0  # the same goes on
    assert "nothing was trained" in capsys.readouterr().out
    for text, what in (("=2", "about.mixture.lr=3.txt: 3.0, now 2.0"), ("", "about.mixture.lr=3.txt: 3.0, now 1.0")):
        assert cli.main(["train", "--text", texts[0], f"{stories / 'lr=3.txt'}{text}", *rest]) == 2
        error = the_error(capsys)
        assert "holds a run of another configuration" in error and what in error
    # without weights a record is what it was before there were any
    plain = [
        "train",
        "--text",
        str(stories / "lr=3.txt"),
        *TINY,
        *SHORT,
        "--steps=1",
        "--validation=0",
        f"--folder={stories / 'plain'}",
    ]
    assert cli.main(plain) == 0
    record = runs.read_json(stories / "plain" / "run.json")
    assert "visits" not in record["data"] and list(record["about"]) == ["tokenizer"]
    assert "times" not in capsys.readouterr().out


@pytest.mark.parametrize("streamed", [False, True])
def test_evaluation_sets_are_kept_out(stories, monkeypatch, capsys, streamed):
    monkeypatch.setenv("A3MINI_CACHE", str(stories / "cache"))
    monkeypatch.setattr(using, "STREAMED", 0 if streamed else 2**26)
    fish = ["train", "--text", str(stories / "fish.jsonl"), *TINY, *SHORT, "--steps=1", "--validation=0"]
    kept = [f"--folder={stories / 'kept'}", "--keep-out", str(stories / "items.csv")]
    assert cli.main([*fish, *kept]) == 0
    assert "1 documents were left out: they share 12 words in a row with --keep-out" in capsys.readouterr().out
    record = runs.read_json(stories / "kept" / "run.json")
    assert record["about"]["kept_out"] == {"files": ["items.csv"], "documents": 1} and record["data"]["rows"] == 14 + 2
    assert cli.main([*fish, kept[0]]) == 2
    assert "about.kept_out" in the_error(capsys)
    # both documents: the second shares its words with a row of nested JSON
    (stories / "more.jsonl").write_text(
        '{"story": {"parts": ["a table of oak with 4 legs,", "AND on it lay a letter"]}}\n'
    )
    both = [f"--folder={stories / 'both'}", "--keep-out", str(stories / "items.csv"), str(stories / "more.jsonl")]
    assert cli.main([*fish, *both]) == 0
    assert runs.read_json(stories / "both" / "run.json")["data"]["rows"] == 14


def test_held_out_documents_do_not_depend_on_weights(stories):
    """So ``evaluate`` holds out what ``train`` did, whatever is said of weights and evaluation sets."""
    names = stories / "fish.jsonl", stories / "lr=3.txt"
    parser, found = cli._parser(), []
    for command, weights, more in (
        ("evaluate", ("", ""), []), ("evaluate", ("=0.5", "=4"), []),
        ("train", ("=2", ""), ["--keep-out", str(stories / "items.csv")]),
    ):  # fmt: skip
        texts = [f"{name}{weight}" for name, weight in zip(names, weights, strict=True)]
        found.append(using.documents(parser.parse_args([command, "--text", *texts, "--validation=0.25", *more]))[1])
    assert len(found[0]) == 8 and found[0] == found[1] == found[2]


def test_the_same_command_goes_on(made, tmp_path, monkeypatch):
    """Stopped in the middle by an error, and started again: the same weights as without."""
    command = train(made, f"--folder={tmp_path / 'run'}", "--save-every=2")
    save = runs.save_checkpoint

    def full(folder, step, *rest):
        if step > 2:
            raise OSError("No space left on device")
        return save(folder, step, *rest)

    monkeypatch.setattr(runs, "save_checkpoint", full)
    assert cli.main(command) == 2
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    for _ in range(2):  # a finished run may be started again, too
        assert cli.main(command) == 0
        weights = A3ForCausalLM.from_pretrained(tmp_path / "run" / "model").state_dict()
        whole = A3ForCausalLM.from_pretrained(made / "any-order" / "model").state_dict()
        assert all(torch.equal(weights[name], value) for name, value in whole.items())


def test_a_full_disk_keeps_the_old_model(made, tmp_path, monkeypatch, capsys):
    command = train(made, f"--folder={tmp_path / 'run'}")
    assert cli.main(command) == 0
    before = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()

    def full(model, folder, **_):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(A3ForCausalLM, "save_pretrained", full)
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "could not be written" in the_error(capsys)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == before
    assert [path.name for path in (tmp_path / "run").glob(".*")] == [".lock"]


def test_another_configuration_is_refused(made, capsys):
    assert cli.main(train(made, f"--folder={made / 'any-order'}", "--learning-rate=0.5")) == 2
    error = the_error(capsys)
    assert "another configuration" in error and "learning_rate" in error


def test_a_finished_run_says_so(made, capsys):
    assert cli.main(train(made, f"--folder={made / 'any-order'}")) == 0
    assert "was finished: nothing was trained" in capsys.readouterr().out


def files(folder: Path) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_source_inside_the_folder_is_not_replaced_by_the_result(made, tmp_path, capsys):
    shutil.copytree(made / "autoregressive" / "model", tmp_path / "mine" / "model")
    shutil.copytree(made / "autoregressive", tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    for folder in (tmp_path / "mine", tmp_path / "run"):
        before = files(folder)
        command = ["adapt", f"--source={folder / 'model'}", f"--folder={folder}", f"--text={made / 'text.txt'}", *SHORT]
        assert cli.main([*command, "--steps=1"]) == 2
        assert "choose another folder" in the_error(capsys)
        assert {path: data for path, data in files(folder).items() if path.name != ".lock"} == before


def test_a_model_that_is_a_link_is_followed(made, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(tmp_path / "disk" / "model")
    for _ in range(2):
        assert cli.main(train(made, f"--folder={tmp_path / 'run'}", "--steps=1")) == 0
    assert (tmp_path / "run" / "model").is_symlink()
    assert {"model.safetensors", "config.json"} <= {path.name for path in (tmp_path / "disk" / "model").iterdir()}


def test_nothing_is_left_of_a_run_that_could_not_begin(made, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    assert (
        cli.main(["train", f"--text={tmp_path / 'empty.txt'}", *TINY, *SHORT, f"--folder={tmp_path / 'a' / 'b'}"]) == 2
    )
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_two_runs_in_one_folder(made, tmp_path, capsys):
    """The second, a process of its own, is told of the first; a folder whose process died is free."""
    with runs.held(tmp_path / "run"):
        command = [sys.executable, "-m", "a3mini", *train(made, f"--folder={tmp_path / 'run'}")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 2
        assert f"is in use: process {os.getpid()} on {socket.gethostname()}" in done.stderr.splitlines()[-1]
    assert cli.main(train(made, f"--folder={tmp_path / 'run'}")) == 0
    assert len(runs.read_metrics(tmp_path / "run")) == 2


def test_an_interrupt_saves_and_the_command_goes_on(made, tmp_path):
    command = [sys.executable, "-m", "a3mini", *train(made, f"--folder={tmp_path / 'run'}"), "--steps=100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while not (tmp_path / "run" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == 130, error
    last = runs.latest_checkpoint(tmp_path / "run" / "checkpoints")
    step = last.name.removeprefix("step-")
    assert f"stopped after step {step} of 100000" in error.splitlines()[-1]
    assert "the same command goes on from there" in error.splitlines()[-1]


def test_a_model_is_trained_further(made, tmp_path, capsys):
    command = ["adapt", f"--text={made / 'text.txt'}", *SHORT, "--steps=2", f"--folder={tmp_path / 'run'}"]
    source = f"--source={made / 'any-order' / 'model'}"
    assert cli.main([*command, source, "--lora-rank=2"]) == 2
    assert "--lora-rank 0" in the_error(capsys)
    assert cli.main([*command, source]) == 0
    first, last = (json.loads((made / "any-order" / "metrics.jsonl").read_text().splitlines()[-1]),
                   runs.read_metrics(tmp_path / "run"))  # fmt: skip
    assert last[0]["random order"] == pytest.approx(first["random order"], abs=1e-5)


def test_adapt(made, tmp_path, capsys):
    Curriculum.preset("spans").save(tmp_path / "own.yaml")
    command = ["adapt", f"--source={made / 'autoregressive' / 'model'}", f"--text={made / 'text.txt'}", *SHORT]
    command += ["--steps=3", "--lora-rank=2", f"--curriculum={tmp_path / 'own.yaml'}", f"--folder={tmp_path / 'run'}"]
    assert cli.main(command) == 0
    assert "random order" in capsys.readouterr().out
    adapted = A3ForCausalLM.from_pretrained(tmp_path / "run" / "model").state_dict()
    source = A3ForCausalLM.from_pretrained(made / "any-order" / "model").state_dict()
    assert adapted.keys() == source.keys()  # the low-rank additions are merged
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["lora_rank"] == 2
    # the additions by themselves: used as a model, and as a start
    ask = ["infill", f"--model={tmp_path / 'run' / 'adapter'}", "--tokens-per-blank=2", "the ____ of"]
    assert cli.main(ask) == 2  # its record names a folder, which might be anybody's
    assert "a path, which is not followed" in the_error(capsys)
    assert cli.main([*ask, f"--source={made / 'autoregressive' / 'model'}"]) == 0
    assert "the" in capsys.readouterr().out
    again = [option for option in command if not option.startswith("--folder")]
    again += [f"--folder={tmp_path / 'again'}", f"--adapter={tmp_path / 'run' / 'adapter'}"]
    assert cli.main(again) == 0
    assert cli.main([*again, f"--folder={tmp_path / 'run'}"]) == 2  # the adapter that it would replace
    assert "another configuration (start: None" in the_error(capsys)
    assert cli.main([*again, "--lora-rank=0", f"--folder={tmp_path / 'third'}"]) == 2
    assert "is an adapter; set lora_rank" in the_error(capsys)


@pytest.mark.parametrize("kind", [Qwen2Config, Qwen3Config, SmolLM3Config, MistralConfig])
def test_adapt_what_is_like_a_llama(kind, made, tmp_path, capsys):
    """To any order, whole and by additions, and autoregressively; what masked diffusion does not take, it says."""
    config = json.loads((made / "autoregressive" / "model" / "config.json").read_text())
    shape = {name: value for name, value in config.items() if hasattr(kind, name) and name != "model_type"}
    shape |= {"pad_token_id": None, "sliding_window": None, "vocab_size": config["vocab_size"] + 1}  # Qwen2's own eos
    source = tmp_path / "source"
    AutoModelForCausalLM.from_config(kind(**shape)).save_pretrained(source)
    sources.tokenizer(made / "autoregressive" / "model").save_pretrained(source)
    command = ["adapt", f"--source={source}", f"--text={made / 'text.txt'}", *SHORT, "--steps=2"]
    for name, more in {"whole": [], "additions": ["--lora-rank=2"], "ar": ["--objective=autoregressive"]}.items():
        assert cli.main([*command, *more, f"--folder={tmp_path / name}"]) == 0
    capsys.readouterr()
    ask = ["infill", "--tokens-per-blank=2", "--quiet", "Cat 1 ____ on mat"]
    assert cli.main([*ask, f"--model={tmp_path / 'whole' / 'model'}"]) == 0
    assert cli.main([*ask, f"--model={tmp_path / 'additions' / 'adapter'}", f"--source={source}"]) == 0
    read = ["evaluate", f"--text={made / 'text.txt'}", "--held-out-rows=4", "--length=32", "--quiet"]
    for model in (source, tmp_path / "ar" / "model"):
        assert cli.main([*read, f"--model={model}"]) == 0
    assert "left to right" in capsys.readouterr().out
    assert cli.main([*command, "--objective=diffusion", f"--folder={tmp_path / 'diffusion'}"]) == 2
    assert "masked diffusion starts from a LlamaForCausalLM, got" in the_error(capsys)
    assert not (tmp_path / "diffusion").exists()


def start_of(folder: Path) -> str:
    """What query rows start from, in the model that a run has left."""
    return A3ForCausalLM.from_pretrained(folder / "model").config.query_start


def known_order_of(folder: Path) -> tuple[str, str]:
    """How known tokens are read: in the run's record, and in its model."""
    record = json.loads((folder / "run.json").read_text())
    return record["known_order"], A3ForCausalLM.from_pretrained(folder / "model").config.known_order


def test_how_known_tokens_read_each_other(made, tmp_path):
    """A new model takes the paper's way, one made of an autoregressive source the source's; the model keeps it."""
    text = [f"--text={made / 'text.txt'}", *SHORT, "--steps=1"]
    adapt = ["adapt", f"--source={made / 'autoregressive' / 'model'}", *text]
    assert known_order_of(made / "any-order") == ("together",) * 2
    ordered, told = f"--folder={tmp_path / 'ordered'}", "--known-order=left_to_right"
    assert cli.main(train(made, ordered, "--steps=1", told)) == 0
    for name, more, wanted in (
        ("default", [], "left_to_right"),
        ("told", ["--known-order=together"], "together"),
        ("lora", ["--known-order=together", "--lora-rank=2"], "together"),
        ("on", ["--lora-rank=2", f"--adapter={tmp_path / 'lora' / 'adapter'}"], "together"),
        ("further", [f"--source={tmp_path / 'ordered' / 'model'}"], "left_to_right"),
        ("changed", [f"--source={tmp_path / 'ordered' / 'model'}", "--known-order=together"], "together"),
    ):
        assert cli.main([*adapt, *more, f"--folder={tmp_path / name}"]) == 0
        assert known_order_of(tmp_path / name) == (wanted, wanted), name
        if "--lora-rank=2" in more:
            assert json.loads((tmp_path / name / "adapter" / adapter.RECORD).read_text())["known_order"] == wanted


def test_what_query_rows_start_from(made, tmp_path, capsys):
    """By default a new model has the paper's start, one made of an autoregressive source the warm one."""
    assert start_of(made / "any-order") == "vector"
    assert cli.main(train(made, f"--folder={tmp_path / 'new'}", "--steps=1", "--query-start=previous")) == 0
    assert start_of(tmp_path / "new") == "previous"
    text = [f"--text={made / 'text.txt'}", *SHORT, "--steps=1"]
    adapt = ["adapt", f"--source={made / 'autoregressive' / 'model'}", *text]
    for name, more in (("warm", []), ("cold", ["--query-start=vector"])):
        assert cli.main([*adapt, *more, "--lora-rank=2", f"--folder={tmp_path / name}"]) == 0
        wanted = "previous" if name == "warm" else "vector"
        record = json.loads((tmp_path / name / "adapter" / adapter.RECORD).read_text())
        assert start_of(tmp_path / name) == record["query_start"] == wanted
    # a folder of one start is not gone on with from the other
    capsys.readouterr()
    assert cli.main([*adapt, "--lora-rank=2", f"--folder={tmp_path / 'cold'}"]) == 2
    assert "another configuration (model.query_start: None, now 'previous')" in the_error(capsys)
    # an adapter is gone on with from its own start
    again = [*adapt, "--lora-rank=2", f"--adapter={tmp_path / 'cold' / 'adapter'}", f"--folder={tmp_path / 'more'}"]
    assert cli.main(again) == 0 and start_of(tmp_path / "more") == "vector"
    capsys.readouterr()
    assert cli.main([*again, "--query-start=previous", f"--folder={tmp_path / 'other'}"]) == 2
    assert 'start from "vector", but those of this model start from "previous"' in the_error(capsys)
    # a model is trained further as it is
    further = ["adapt", f"--source={tmp_path / 'new' / 'model'}", *text, f"--folder={tmp_path / 'further'}"]
    assert cli.main([*further, "--query-start=vector"]) == 2
    assert f'does not fit {tmp_path / "new" / "model"}, whose query rows start from "previous"' in the_error(capsys)
    assert cli.main(further) == 0 and start_of(tmp_path / "further") == "previous"
    assert cli.main([*further, "--query-start=previous"]) == 0  # the same run


def test_a_warm_model_fills_blanks_as_decode_infill(made, tmp_path, capsys):
    """Far-apart tokens at a time, from an adapter and its source."""
    run = [f"--text={made / 'text.txt'}", *SHORT, "--steps=1", "--lora-rank=2", f"--folder={tmp_path / 'run'}"]
    assert cli.main(["adapt", f"--source={made / 'autoregressive' / 'model'}", *run]) == 0
    ask = ["--order=strided", "--size=2", "--tokens-per-blank=4", "--temperature=0", "Cat ____ on the ____."]
    capsys.readouterr()
    adapted = [f"--model={tmp_path / 'run' / 'adapter'}", f"--source={made / 'autoregressive' / 'model'}"]
    assert cli.main(["infill", *adapted, *ask]) == 0
    filled = capsys.readouterr().out
    model = A3ForCausalLM.from_pretrained(tmp_path / "run" / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    right = decode.infill(model, tokenizer, ask[-1], tokens_per_blank=4, size=2, order="strided", temperature=0)
    assert filled == f"{right}\n" and right.trace.passes == [4]


def test_a_head_that_the_config_denies_is_kept(made, tmp_path):
    """Trained further by either rival, and saved: a head of its own stays one."""
    source = tmp_path / "source"
    shutil.copytree(made / "autoregressive" / "model", source)
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    for objective in ("autoregressive", "diffusion", "any-order"):
        run = [f"--folder={tmp_path / objective}", f"--objective={objective}", "--steps=1", "--learning-rate=1e-9"]
        assert cli.main(["adapt", f"--source={source}", f"--text={made / 'text.txt'}", *SHORT, *run]) == 0
        saved = load_file(tmp_path / objective / "model" / "model.safetensors")
        torch.testing.assert_close(saved["lm_head.weight"], tensors["lm_head.weight"], rtol=0, atol=1e-6)
        assert json.loads((tmp_path / objective / "model" / "config.json").read_text())["tie_word_embeddings"] is False


def test_adapt_to_diffusion(made, tmp_path, capsys):
    command = ["adapt", f"--source={made / 'autoregressive' / 'model'}", f"--text={made / 'text.txt'}", *SHORT]
    assert cli.main([*command, "--steps=2", "--objective=diffusion", f"--folder={tmp_path / 'run'}"]) == 0
    assert "(bound)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind, groupings", [("any-order", 6), ("autoregressive", 2), ("diffusion", 1)], ids=lambda value: str(value)
)
def test_evaluate_agrees_with_the_run(made, tmp_path, capsys, kind, groupings):
    file = tmp_path / "losses.json"
    command = ["evaluate", f"--model={made / kind / 'model'}", f"--text={made / 'text.txt'}", "--length=32"]
    assert cli.main([*command, "--held-out-rows=8", "--batch-size=3", f"--json={file}"]) == 0
    found = json.loads(file.read_text())
    assert found["kind"] == kind and len(found["losses"]) == groupings
    last = runs.read_metrics(made / kind)[-1]
    if kind != "diffusion":  # its estimate depends on the batches
        for name, loss in found["losses"].items():
            assert loss["nats_per_token"] == pytest.approx(last[name], abs=1e-5)
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + groupings
    assert all(f"{loss['tokens']:,}" in line for line, loss in zip(table[1:], found["losses"].values(), strict=True))


def test_infill(made, capsys, monkeypatch, tmp_path):
    command = ["infill", f"--model={made / 'any-order' / 'model'}", "--tokens-per-blank=3", "--size=2", "--seed=5"]
    assert cli.main([*command, "--order=random", "Cat ____ on the ____."]) == 0
    filled = capsys.readouterr().out
    assert filled.startswith("Cat") and " on the" in filled and "____" not in filled
    (tmp_path / "in").write_text("Cat ____ on the ____.\n")
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert cli.main([*command, "--order=random"]) == 0
    assert capsys.readouterr().out == filled  # the same seed, from standard input


def test_infill_has_the_options_of_decode_infill(made, capsys, tmp_path):
    """Every option reaches ``decode.infill``, and the trace says what it printed."""
    folder, file, text = made / "any-order" / "model", tmp_path / "trace.json", "Cat ____ on the ____."
    options = {"size": 2, "order": "entropy", "known_order": "left_to_right", "temperature": 0.8, "top_k": 9}
    options |= {"top_p": 0.9, "repetition_penalty": 1.3, "tokens_per_blank": 5}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["infill", f"--model={folder}", "--seed=3", *arguments, f"--trace={file}", text]) == 0
    model, tokenizer = A3ForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    right = decode.infill(model, tokenizer, text, generator=torch.Generator().manual_seed(3), **options)
    assert capsys.readouterr().out == f"{right}\n"
    assert file.read_text() == right.trace.to_json(tokenizer) + "\n"
    assert torch.equal(decode.Trace.from_json(file.read_text()).replay(), right.sequences)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]  # nothing half-written
    for name, value in options.items():  # each of them matters: without it another text or another trace
        rest = [argument for argument in arguments if not argument.startswith(f"--{name.replace('_', '-')}=")]
        assert cli.main(["infill", f"--model={folder}", "--seed=3", *rest, f"--trace={file}", text]) == 0
        assert capsys.readouterr().out != f"{right}\n" or file.read_text() != right.trace.to_json(tokenizer) + "\n", (
            name
        )
        assert value != cli.parse(["infill"]).__dict__[name]


def test_infill_lets_the_model_end_its_blanks(made, capsys, tmp_path):
    """Where the model has a token for that; the options of such blanks reach ``decode.infill``, and each matters."""
    folder, file, text = tmp_path / "model", tmp_path / "trace.json", "Cat ____ on the ____."
    model = A3ForCausalLM.from_pretrained(made / "any-order" / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(made / "any-order" / "model")
    model.config.empty_token_id = end = tokenizer.pad_token_id
    with torch.no_grad():  # trained for four steps, it would never end a blank
        model.model.norm.weight.mul_(3)
        model.lm_head.weight[end] = model.lm_head.weight[5:].mean(0) * 4
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    options = {"most": 7, "least": 3, "blank_order": "together"}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = ["infill", f"--model={folder}", "--seed=3", f"--trace={file}"]
    assert cli.main([*command, *arguments, text]) == 0
    right = decode.infill(model, tokenizer, text, generator=torch.Generator().manual_seed(3), **options)
    assert capsys.readouterr().out == f"{right}\n" and file.read_text() == right.trace.to_json(tokenizer) + "\n"
    assert json.loads(file.read_text())["settings"]["end"] == end and "<pad>" not in right.text
    for name in options:
        rest = [argument for argument in arguments if not argument.startswith(f"--{name.replace('_', '-')}=")]
        assert cli.main([*command, *rest, text]) == 0
        assert file.read_text() != right.trace.to_json(tokenizer) + "\n", name
    # a model that cannot: it tries lengths, up to the most
    first = ["infill", f"--model={made / 'any-order' / 'model'}", "--seed=3", "--most=3"]
    capsys.readouterr()
    assert cli.main([*first, text]) == cli.main([*first, "--tokens-per-blank=auto", text]) == 0
    once, again = capsys.readouterr().out.splitlines()
    assert once == again


def test_blanks_with_spare_room(made, tmp_path, capsys):
    """A new model and an adapted one learn which token ends a blank, and keep it."""
    ends = {}
    for name, more in (("new", []), ("named", ["--empty-token=<pad>"])):
        assert cli.main(train(made, "--curriculum=blanks", f"--folder={tmp_path / name}", "--steps=1", *more)) == 0
        ends[name] = A3ForCausalLM.from_pretrained(tmp_path / name / "model").config.empty_token_id
        assert runs.read_json(tmp_path / name / "run.json")["empty_token_id"] == ends[name]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new" / "model")
    assert ends["new"] == ends["named"] == tokenizer.pad_token_id
    adapt = ["adapt", f"--source={made / 'autoregressive' / 'model'}", f"--text={made / 'text.txt'}", *SHORT]
    adapt += ["--steps=1", "--lora-rank=2", "--curriculum=blanks"]
    assert cli.main([*adapt, f"--folder={tmp_path / 'first'}"]) == 0
    assert cli.main([*adapt, f"--folder={tmp_path / 'first'}"]) == 0  # the same run
    first = tmp_path / "first" / "adapter"
    assert json.loads((first / adapter.RECORD).read_text())["empty_token_id"] == tokenizer.pad_token_id
    assert cli.main([*adapt, f"--adapter={first}", f"--folder={tmp_path / 'second'}"]) == 0
    assert A3ForCausalLM.from_pretrained(tmp_path / "second" / "model").config.empty_token_id == ends["new"]


def test_infill_and_its_defaults_are_those_of_the_package():
    parameters = inspect.signature(decode.infill).parameters
    defaults = vars(cli.parse(["infill"]))
    for name, parameter in parameters.items():
        if name in defaults and name != "model":
            assert defaults[name] == parameter.default, name
    left_out = parameters.keys() - defaults.keys()
    assert left_out == {
        "tokenizer",
        "text",
        "generator",
        "candidates",
        "banned",
        "use_cache",
        "runners_up",
        "considered",
    }


def test_rewrite_and_revise_and_their_defaults_are_those_of_the_package():
    own = {"model", "tokenizer", "text", "generator", "banned"}
    for command, functions, left_out in (
        ("rewrite", [decode.rewrite], {"tries", "batch_size", "span"}),
        ("revise", [decode.revise_text, decode.revise], {"options", "input_ids", "group_ids", "known", "keep_worse",
                                                         "runners_up", "batch_size"}),
    ):  # fmt: skip
        defaults, parameters = vars(cli.parse([command])), {}
        for function in reversed(functions):
            parameters |= inspect.signature(function).parameters
        for name in parameters.keys() - own - left_out:
            assert defaults[name] == parameters[name].default, name


def test_infill_with_the_compact_model(capsys, tmp_path):
    command = ["infill", "--model=compact", "--tokens-per-blank=auto", "--temperature=0"]
    (tmp_path / "options.yaml").write_text("model: compact\ntokens-per-blank: auto\ntemperature: 0\n")
    assert cli.main([*command, "The dog ____ and ran home."]) == 0
    filled = capsys.readouterr().out
    assert filled.startswith("The dog ") and filled.endswith(" and ran home.\n")
    assert cli.main(["infill", f"--config={tmp_path / 'options.yaml'}", "The dog ____ and ran home."]) == 0
    assert capsys.readouterr().out == filled


def test_a_full_disk_keeps_the_old_trace(made, capsys, monkeypatch, tmp_path):
    file = tmp_path / "trace.json"
    file.write_text("old")

    def full(path, *_, **__):
        path.touch()
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert cli.main(["infill", f"--model={made / 'any-order' / 'model'}", f"--trace={file}", "Cat ____."]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("Cat") and "No space left" in printed.err  # the text is not lost
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_config_file_and_overrides(made, tmp_path):
    config = {"text": [str(made / "text.txt")], "vocab-size": 300, "hidden_size": 16, "layers": 1, "heads": 2}
    config |= {"length": 32, "steps": 9, "learning-rate": "2e-3", "quiet": True, "validation": 0}
    config |= {"query-start": "previous", "curriculum": "mixed"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "run.json").write_text(json.dumps(config))
    for name in ("run.yaml", "run.json"):
        options = cli.parse(["train", "--config", str(tmp_path / name), "--steps", "2"])
        assert (options.steps, options.hidden_size, options.learning_rate) == (2, 16, 2e-3)
        assert options.quiet is True and options.text == config["text"]
    (tmp_path / "off.yaml").write_text("activation-checkpointing: false\nquiet: true\nlimit: null\n")
    options = cli.parse(["train", "--no-quiet", "--config", str(tmp_path / "off.yaml")])
    assert not options.quiet and not options.activation_checkpointing and options.limit is None
    assert cli.main(["train", "--config", str(tmp_path / "run.yaml"), "--steps=1", f"--folder={tmp_path / 'run'}"]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["command"]["options"]["steps"] == 1 and record["curriculum"]["name"] == "mixed"
    assert record["model"]["query_start"] == start_of(tmp_path / "run") == "previous"


def test_the_names_are_those_of_the_package():
    """They stand in cli once more, so that help needs nothing of it."""
    assert cli.ORDERS == infilling.ORDERS and cli.KNOWN_ORDERS == groups.KNOWN_ORDERS
    assert cli.BLANK_ORDERS == blanks.BLANK_ORDERS
    assert cli.RANKS == rewriting.RANKS
    assert cli.QUERY_STARTS == rows.QUERY_STARTS
    assert list(cli.CURRICULA) == list(curriculum.PRESETS)
    assert list(cli.TEXTS) == [*corpus.PACKAGED, *corpus.HUB] and list(cli.MIXTURES) == list(mixture.PRESETS)


def test_every_training_setting_is_an_option():
    options = vars(cli.parse(["adapt"]))
    assert {name: options[name] for name in vars(TrainConfig())} == vars(TrainConfig())


CONFIGS = {
    "typo": ("leraning-rate: 3", "did you mean learning-rate?"),
    "list": ("- steps", "must hold options"),
    "list for one value": ("steps: [1, 2]", "steps must be one value, got [1, 2]"),
    "list of one": ("steps: [1]", "steps must be one value, got [1]"),
    "values for a switch": ("quiet: [true]", "quiet must be one value"),
    "dictionary": ("steps: {a: 1}", "steps must be one value, got {'a': 1}"),
    "lists in a list": ("text: [[a], b]", "text must be a list of values"),
    "deep": ("steps: " + "[" * 5000, "nested too deeply"),
    "not YAML": ("steps: [", "not a valid config file"),
    "kind": ("steps: many", "invalid int value: 'many'"),
    "switch": ("quiet: perhaps", "quiet"),
    "no such choice": ("precision: fp8", "fp8"),
    "known order of no stream": (
        "{text: [t], folder: x, objective: diffusion, known-order: together}",
        "--known-order is for --objective any-order; diffusion has no known tokens",
    ),
    "no such start": ("query-start: warm", "invalid choice: 'warm'"),
    "a start without query rows": (
        "{text: [t], folder: x, objective: diffusion, query-start: previous}",
        "--query-start is for --objective any-order; diffusion has no query stream",
    ),
}


@pytest.mark.parametrize("text, message", CONFIGS.values(), ids=CONFIGS)
def test_bad_config_files(tmp_path, capsys, text, message):
    (tmp_path / "run.yaml").write_text(text)
    assert cli.main(["train", "--config", str(tmp_path / "run.yaml")]) == 2
    assert message in the_error(capsys)


def test_config_files_in_json_that_go_wrong(tmp_path, capsys):
    file = tmp_path / "run.json"
    for text, message in (("[" * 10**5, "nested too deeply"), ("{", "not a valid"), ('{"steps": [3]}', "one value")):
        file.write_text(text)
        assert cli.main(["train", f"--config={file}"]) == 2
        assert message in the_error(capsys)
    file.write_bytes(b"\xff\xfe")
    assert cli.main(["train", f"--config={file}"]) == 2
    assert "not a valid config file" in the_error(capsys)


ERRORS = {
    "no command": ([], "COMMAND"),
    "unknown command": (["trian"], "trian"),
    "no text": (["train", "--folder=x"], "--text is needed"),
    "no folder": (["train", "--text=TEXT"], "--folder is needed"),
    "typo": (["train", "--bacth-size=2"], "did you mean --batch-size?"),
    "first part": (["train", "--batch=2"], "did you mean --batch-size?"),
    "missing config": (["train", "--config=none.yaml"], "none.yaml"),
    "number": (["train", "--steps=many"], "invalid int value: 'many'"),
    "steps": (["train", "--text=TEXT", "--folder=x", "--steps=0"], "steps must be at least 1, got 0"),
    "heads": (["train", "--text=TEXT", "--folder=x", "--heads=5"], "multiple of twice --heads 5"),
    "layers": (["train", "--text=TEXT", "--folder=x", "--layers=0"], "must be positive"),
    "curriculum": (["train", "--text=TEXT", "--folder=x", "--curriculum=papers"], "no curriculum 'papers'"),
    "folder": (["train", "--text=TEXT", "--folder=TEXT"], "choose another --folder"),
    "missing text": (["train", "--text=none.txt", "--folder=x"], "no file none.txt"),
    "unknown text": (["train", "--text=none", "--folder=x"], "unknown text 'none'"),
    "one document": (["train", "--text=TEXT", "--separator=@", "--folder=x"], "one document"),
    "nothing left": (["train", "--text=TEXT", "--validation-text=TEXT", "--folder=x"], "nothing is left"),
    "no weight": (["train", "--text=TEXT=0", "--folder=x"], "must be a number above 0, at most 1,000, got 0"),
    "a weight below": (["train", "--text=TEXT=-1", "--folder=x"], "above 0, at most 1,000, got -1.0"),
    "no number": (["train", "--text=TEXT=nan", "--folder=x"], "above 0, at most 1,000, got nan"),
    "a word": (["train", "--text=TEXT=six", "--folder=x"], "must be a number, got 'six'"),
    "twice": (["train", "--text", "TEXT=2", "TEXT", "--folder=x"], "is named twice"),
    "unknown in a mixture": (["train", "--text", "TEXT=2", "nowhere=3", "--folder=x"], "unknown text 'nowhere'"),
    "too little": (["train", "--text=TEXT=0.001", "--folder=x"], "0.001 of its 36 documents is none"),
    "all kept out": (
        ["train", "--text=LONG", "--keep-out", "LONG", "--folder=x", "--validation=0"],
        "nothing is left to train on of",
    ),
    "nothing to keep out": (
        ["train", "--text=TEXT", "--keep-out", "TEXT", "OTHER", "--folder=x"],
        "is not the path of a .txt",
    ),
    "short items": (["train", "--text=TEXT", "--keep-out", "ITEM", "--folder=x"], "no item to keep out has 12 words"),
    "no items": (["adapt", "--source=x", "--text=TEXT", "--keep-out=no.csv", "--folder=x"], "there is no file no.csv"),
    "limit": (["train", "--text=TEXT", "--limit=0", "--folder=x"], "--limit must be at least 1"),
    "short": (["train", "--text=TEXT", "--length=4000", "--folder=x"], "less than one block"),
    "vocabulary": (["train", "--text=TEXT", "--vocab-size=9", "--folder=x"], "vocab_size must be at least"),
    "batch": (["train", "--text=TEXT", *TINY, "--length=16", "--micro-batch-size=3", "--folder=x"], "divided evenly"),
    "start": (["train", "--text=TEXT", "--folder=x", "--query-start=warm"], "invalid choice: 'warm'"),
    "start of another objective": (
        ["train", "--text=TEXT", "--folder=x", "--objective=autoregressive", "--query-start=vector"],
        "--query-start is for --objective any-order; autoregressive has no query stream",
    ),
    "start of an adaptation to diffusion": (
        ["adapt", "--source=LLAMA", "--text=TEXT", "--folder=x", "--objective=diffusion", "--query-start=previous"],
        "--query-start is for --objective any-order; diffusion has no query stream",
    ),
    "start of another source": (
        ["adapt", "--source=MODEL", "--text=TEXT", "--folder=x", "--query-start=previous"],
        'whose query rows start from "vector"; leave the option out',
    ),
    "no source": (["adapt", "--text=TEXT", "--folder=x"], "--source is needed"),
    "no model": (["evaluate", "--model=./none", "--text=TEXT"], "no folder ./none"),
    "empty model": (["evaluate", "--model=.", "--text=TEXT"], "holds no model"),
    "no blank": (["infill", "--model=MODEL", "nothing missing"], "no blank"),
    "half a character": (["infill", "--model=MODEL", "t\udce9 ____"], "holds '\\udce9' at character 2"),
    "not A3": (["infill", "--model=LLAMA", "a ____"], "is autoregressive"),
    "long": (["infill", "--model=MODEL", "a ____", "--tokens-per-blank=99"], "the model takes 32"),
    "size": (["infill", "--model=MODEL", "a ____", "--size=0"], "size must be"),
    "no tokens": (["infill", "--model=MODEL", "a ____", "--tokens-per-blank=0"], "at least 1; got 0"),
    "tokens": (["infill", "--model=MODEL", "a ____", "--tokens-per-blank=all"], "'all', must be a number or \"auto\""),
    "most": (["infill", "--model=MODEL", "a ____", "--most=0"], "most must be an integer, at least 1; got 0"),
    "least": (["infill", "--model=MODEL", "a ____", "--least=-1"], "least must be an integer, at least 0"),
    "most of a length": (["infill", "--model=MODEL", "a ____", "--most=4", "--tokens-per-blank=2"], "most=4 is for"),
    "blank order": (["infill", "--model=MODEL", "a ____", "--blank-order=in_turn", "--order=random"], "blank to blank"),
    "empty token without room": (
        ["train", "--text=TEXT", "--folder=x", "--empty-token=<pad>"],
        "--empty-token ends blanks early, but in the curriculum paper they have no spare room",
    ),
    "empty token of another objective": (
        ["train", "--text=TEXT", "--folder=x", "--objective=diffusion", "--empty-token=<pad>"],
        "--empty-token is for --objective any-order; diffusion fills no blanks",
    ),
    "empty token": (
        ["train", "--text=TEXT", *TINY, "--length=16", "--folder=x", "--curriculum=blanks", "--empty-token=cat"],
        "'cat' cannot end a blank: no special token that texts never have; ['<pad>'] can",
    ),
    "order": (["infill", "--model=MODEL", "a ____", "--order=spiral"], "spiral"),
    "known order": (["infill", "--model=MODEL", "a ____", "--known-order=random"], "random"),
    "top k": (["infill", "--model=MODEL", "a ____", "--top-k=0"], "top_k must be"),
    "top p": (["infill", "--model=MODEL", "a ____", "--top-p=2"], "top_p must be"),
    "penalty": (["infill", "--model=MODEL", "a ____", "--repetition-penalty=0"], "repetition_penalty must be"),
    "trace": (["infill", "--model=MODEL", "a ____", "--trace=none/x.json"], "no folder none for --trace none/x.json"),
    "adapted": (
        ["adapt", "--source=compact", "--text=TEXT", "--folder=x", "--objective=diffusion"],
        "compact is any-order already",
    ),
    "positions": (
        ["evaluate", "--model=MODEL", "--text=TEXT", "--length=33"],
        "--length 33 is more than the 32 positions",
    ),
}


@pytest.mark.parametrize("arguments, message", ERRORS.values(), ids=ERRORS)
def test_errors_are_one_line(made, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {
        "TEXT": made / "text.txt",
        "MODEL": made / "any-order" / "model",
        "LLAMA": made / "autoregressive" / "model",
        "LONG": tmp_path / "long.txt",
        "ITEM": tmp_path / "item.txt",
    }
    (tmp_path / "item.txt").write_text("Cat 3 sat on a mat.")
    (tmp_path / "long.txt").write_text(
        "\n\n".join(f"{n}: it was late and cold, and they had far to go yet." for n in "ab")
    )
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    assert cli.main(arguments) == 2
    error = the_error(capsys)
    assert error.startswith("a3mini") and message in error
    assert not list(tmp_path.glob("x/[!.]*"))  # before any work


def test_an_unreachable_hub_names_what_works_offline(made, monkeypatch, capsys, tmp_path):
    """What is tried is said before, and it is not tried for long."""
    monkeypatch.setattr(sources, "hub_answers", lambda: False)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("it takes half a minute to give up"))
    texts = [("tinystories", "roneneldan/TinyStories"), ("no-one/no-text", "no-one/no-text")]
    model = f"--model={made / 'any-order' / 'model'}"
    for text, name in texts:
        for command in (["train", f"--folder={tmp_path}"], ["evaluate", model]):
            assert cli.main([*command, f"--text={text}"]) == 2
            tried, error = capsys.readouterr().err.splitlines()
            assert tried == f"a3mini: looking for {name} on the hub" and '"andersen"' in error
    assert cli.main(["infill", "--model=no-one/no-model", "a ____"]) == 2
    tried, error = capsys.readouterr().err.splitlines()
    assert tried == "a3mini: looking for no-one/no-model on the hub" and "does not answer" in error


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help_shows_examples_that_parse(command, capsys):
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    for line in cli.EXAMPLES[command].replace("run.yaml", os.devnull).splitlines():
        if line.startswith(f"  a3mini {command}") and "--config" not in line:
            arguments = line.replace('"', "").split()[1:]
            cli.parse(arguments if command in ("train", "adapt", "evaluate") else arguments[:3])


def test_the_shell_completes(monkeypatch):
    """If argcomplete is there, it is given a parser with all options; else nothing happens."""
    seen = []
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setitem(sys.modules, "argcomplete", None)  # cannot be imported
    assert cli.main(["--version"]) == 0
    monkeypatch.setitem(sys.modules, "argcomplete", SimpleNamespace(autocomplete=seen.append))
    assert cli.main(["--version"]) == 0
    (commands,) = (action.choices for action in seen[0]._actions if isinstance(action.choices, dict))
    assert "--known-order" in commands["infill"]._option_string_actions
    assert tuple(commands["infill"]._option_string_actions["--order"].choices) == cli.ORDERS


def test_an_interrupted_command_says_what_can_be_done(monkeypatch, capsys, made):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("a3mini.using.run", interrupted)
    monkeypatch.setattr("a3mini.commands.run", interrupted)
    assert cli.main(["infill", "a ____"]) == 130
    assert the_error(capsys) == "a3mini infill: error: interrupted"
    assert cli.main(["train"]) == 130
    assert "goes on from the last checkpoint" in the_error(capsys)


def test_our_own_errors_keep_their_traceback(monkeypatch):
    def wrong(*_):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr("a3mini.using.run", wrong)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        cli.main(["infill", "a ____"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory: use a"),
        (MemoryError(), "out of memory: use a"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: use a"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (ModuleNotFoundError("No module named 'peft'"), "'peft'; install what the commands need: pip install"),
        (ImportError("x.gguf needs a package"), "error: x.gguf needs a package"),
    ],
    ids=["CPU", "Python", "GPU", "recursion", "module", "reader"],
)  # fmt: skip
@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_errors_from_anywhere_are_one_line(monkeypatch, capsys, command, error, message):
    def wrong(*_):
        raise error

    monkeypatch.setattr("a3mini.using.run", wrong)
    monkeypatch.setattr("a3mini.commands.run", wrong)
    assert cli.main([command]) == 2
    assert message in the_error(capsys)


def test_as_a_program(made):
    command = [sys.executable, "-m", "a3mini", "infill", f"--model={made / 'any-order' / 'model'}", "Cat"]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == 2
    assert ended.stderr.startswith("a3mini infill: error: there is no blank") and "Traceback" not in ended.stderr
