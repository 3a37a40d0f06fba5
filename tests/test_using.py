"""using.py and loading.py: where results go, what is said on the way, and lengths that fit the model."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import pytest
import torch

from a3mini import A3Config, A3ForCausalLM, adapter, cli, decode, from_autoregressive, using
from a3mini.evaluate import held_out
from a3mini.train import corpus, data, recipes

ASK = "Cat ____ on the ____."


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Texts, and a model of 24 positions."""
    folder = tmp_path_factory.mktemp("using")
    stories = [corpus.Story(str(n), f"Cat {n} sat on mat number {7 * n}. It was warm there.") for n in range(30)]
    (folder / "text.txt").write_text("\n\n".join(story.text for story in stories))
    tokenizer = data.train_tokenizer(stories, 300)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    model = A3ForCausalLM(A3Config(**sizes, **ids, max_position_embeddings=24))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def evaluate(made, *more: str) -> list[str]:
    return ["evaluate", f"--model={made / 'model'}", f"--text={made / 'text.txt'}", "--held-out-rows=6", *more]


def infill(made, *more: str) -> list[str]:
    return ["infill", f"--model={made / 'model'}", "--tokens-per-blank=2", *more, ASK]


# Rewriting and revising


def test_rewrite_has_the_options_of_decode_rewrite(made, capsys, monkeypatch):
    model, tokenizer = A3ForCausalLM.from_pretrained(made / "model").eval(), using.sources.tokenizer(made / "model")
    options = {"n": 3, "tokens_per_blank": 2, "rank": "nats_per_token", "size": 2, "order": "random", "top_k": 8}
    options |= {"temperature": 0.1, "known_order": "left_to_right", "top_p": 0.5, "repetition_penalty": 1.3}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = ["rewrite", f"--model={made / 'model'}", "--span=sat", "--seed=3", "Cat 1 (sat on"]
    right = decode.rewrite(
        model, tokenizer, command[-1], "sat", generator=torch.Generator().manual_seed(3), **options
    )  # fmt: skip
    seen, real = [], decode.rewrite
    monkeypatch.setattr(
        decode, "rewrite", lambda *args, generator, **how: seen.append(how) or real(*args, generator=generator, **how)
    )
    assert cli.main([*command, *arguments]) == 0
    shown = "".join(f"{one.gain:+8.1f} nats  {one}{'  (as it was)' * one.original}\n" for one in right)
    assert capsys.readouterr().out == shown and len(right) > 1 and shown.count("(as it was)") == 1
    assert cli.main([*command, *arguments, "--json=-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["alternatives"] == [dataclasses.asdict(one) for one in right]
    assert seen == [{**options, "most": None}] * 2  # not only those that this model happens to notice
    assert cli.main([*command, "--most=2"]) == 0
    assert (seen[-1]["most"], seen[-1]["tokens_per_blank"], seen[-1]["rank"]) == (2, None, "nats")


def test_revise(made, tmp_path, capsys, monkeypatch):
    model, tokenizer = A3ForCausalLM.from_pretrained(made / "model").eval(), using.sources.tokenizer(made / "model")
    options = {"reopen": 2, "rounds": 6, "least_gain": 0.02, "temperature": 0.5, "known_order": "left_to_right"}
    options |= {"top_k": 9, "top_p": 0.9, "repetition_penalty": 1.2}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    text, generator = "Cat 1 on on mat", torch.Generator().manual_seed(3)
    right = decode.revise_text(model, tokenizer, text, generator=generator, **options)
    assert right.lines
    file = tmp_path / "changes.json"
    command = ["revise", f"--model={made / 'model'}", "--seed=3", *arguments]
    assert cli.main([*command, f"--json={file}", text]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{right}\n" and printed.err.splitlines()[-len(right.lines) :] == list(right.lines)
    found = json.loads(file.read_text())
    assert found["text"] == right.text and found["after"] == right.after.item() > found["before"]
    assert [change["words"] for change in found["changes"]] == list(right.lines)
    assert [change["gain"] for change in found["changes"]] == [change.gain for change in right.changes[0]]
    monkeypatch.setattr(sys, "stdin", io.StringIO(text + "\n"))
    assert cli.main([*command, "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{right}\n" and not printed.err
    assert cli.main([*command, "--least-gain=99", text]) == 0
    assert capsys.readouterr() == (f"{text}\n", "nothing was changed\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["rewrite", "a b"], "--model is needed"),
        (["rewrite", "--model=MODEL", "a b"], "--span is needed"),
        (["rewrite", "--model=MODEL", "--span=c", "a b"], "the span 'c' is not in the text"),
        (["rewrite", "--model=MODEL", "--span=a", "a a"], "in the text 2 times"),
        (["rewrite", "--model=MODEL", "--span=b", "--n=0", "a b"], "n must be an integer, at least 1"),
        (["rewrite", "--model=MODEL", "--span=b", "--tokens-per-blank=x", "a b"], 'must be a number or "near"'),
        (["rewrite", "--model=MODEL", "--span=b", "--most=3", "--tokens-per-blank=2", "a b"], "most=3 is for"),
        (["rewrite", "--model=MODEL", "--span=b", "--json=none/x", "a b"], "no folder none"),
        (["revise", "a b"], "--model is needed"),
        (["revise", "--model=MODEL", ""], "the text is empty"),
        (["revise", "--model=MODEL", "--least-gain=-1", "a b"], "least_gain must be nats, 0 or more"),
    ],
)
def test_what_cannot_be_rewritten_or_revised(made, capsys, arguments, message):
    assert cli.main([one.replace("MODEL", str(made / "model")) for one in arguments]) == 2
    assert message in capsys.readouterr().err


# Lengths


def test_the_default_length_fits_the_model(made, tmp_path, capsys):
    """128 tokens a row are the default, but this model takes 24."""
    file = tmp_path / "losses.json"
    assert cli.main(evaluate(made, f"--json={file}")) == 0
    assert json.loads(file.read_text())["command"]["options"]["length"] == 24
    table = capsys.readouterr().out
    assert cli.main(evaluate(made, "--length=24")) == 0
    assert capsys.readouterr().out == table
    assert cli.main(evaluate(made, "--length=25")) == 2
    assert "--length 25 is more than the 24 positions" in capsys.readouterr().err


def test_the_default_length_fits_the_source_of_an_adaptation(made, tmp_path):
    tokenizer = using.sources.tokenizer(made / "model")
    config = A3ForCausalLM.from_pretrained(made / "model").config.to_dict() | {"model_type": "llama"}
    recipes.LlamaForCausalLM(recipes.LlamaConfig(**config)).save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    run = [f"--text={made / 'text.txt'}", "--steps=1", "--batch-size=4", "--precision=fp32", "--quiet"]
    assert cli.main(["adapt", f"--source={tmp_path / 'source'}", *run, f"--folder={tmp_path / 'run'}"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["command"]["options"]["length"] == 24


def test_a_large_model_has_rows_of_128(monkeypatch, made, tmp_path):
    model = A3ForCausalLM.from_pretrained(made / "model")
    model.config.max_position_embeddings = 4096
    options = cli.parse(["evaluate"])
    using.settle_length(options, model)
    assert options.length == 128
    assert cli.parse(["train"]).length == 128  # where there is no model yet


# Where results go


def test_json_to_standard_output(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(evaluate(made, f"--json={tmp_path / 'file'}")) == 0
    in_file = json.loads((tmp_path / "file").read_text())
    assert "nats per token" in capsys.readouterr().out
    assert cli.main(evaluate(made, "--json=-")) == 0
    printed = json.loads(capsys.readouterr().out)  # and nothing else
    assert printed["losses"] == in_file["losses"] and printed.keys() == in_file.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_infill_in_json(made, tmp_path, capsys, monkeypatch):
    assert cli.main(infill(made, "--seed=3", f"--json={tmp_path / 'file'}")) == 0
    text = capsys.readouterr().out.removesuffix("\n")
    found = json.loads((tmp_path / "file").read_text())
    assert found["text"] == text and len(found["blanks"]) == 2 and all(blank in text for blank in found["blanks"])
    assert found["ended"] == [False, False]
    assert found["command"]["options"]["seed"] == 3 and found["versions"]["torch"]
    assert cli.main(infill(made, "--seed=3", "--json=-")) == 0
    assert json.loads(capsys.readouterr().out)["blanks"] == found["blanks"]
    assert cli.main(infill(made, "--seed=3", "--trace=-")) == 0
    assert decode.Trace.from_json(capsys.readouterr().out).replay().shape[0] == 1
    real = decode.infill
    monkeypatch.setattr(decode, "infill", lambda *a, **how: dataclasses.replace(real(*a, **how), ended=(True, False)))
    assert cli.main(infill(made, "--json=-")) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == [True, False]


def test_what_cannot_be_written_is_noticed_before_any_work(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(using, "load", lambda *_: pytest.fail("the model was loaded"))
    for command in (evaluate, infill):
        assert cli.main(command(made, f"--json={tmp_path / 'none' / 'x.json'}")) == 2
        assert "there is no folder" in capsys.readouterr().err
    monkeypatch.setattr(using.os, "access", lambda *_: False)
    assert cli.main(infill(made, f"--trace={tmp_path / 'x.json'}")) == 2
    assert "cannot be written to, for --trace" in capsys.readouterr().err


class Broken(io.StringIO):
    encoding = "ascii"

    def write(self, text):
        raise UnicodeEncodeError("ascii", text, 0, 1, "a terminal that has no such letter")


def test_a_failed_print_keeps_the_trace(made, tmp_path, monkeypatch, capsys):
    """The results cannot be had again: whatever fails to be written, the others are."""
    trace, text = tmp_path / "trace.json", tmp_path / "text.json"
    monkeypatch.setattr(sys, "stdout", Broken())
    assert cli.main(infill(made, f"--trace={trace}", f"--json={text}")) == 2
    assert "no such letter" in capsys.readouterr().err
    assert decode.Trace.from_json(trace.read_text()) and json.loads(text.read_text())["blanks"]
    monkeypatch.undo()
    trace.unlink()
    monkeypatch.setattr(using, "_about", lambda *_: {}["nothing"])  # JSON fails
    with pytest.raises(KeyError):
        cli.main(infill(made, f"--trace={trace}", f"--json={text}"))
    assert trace.exists() and capsys.readouterr().out.startswith("Cat")


@pytest.mark.parametrize("more", [[], ["--json=-"]], ids=["text", "JSON"])
def test_nobody_reads_the_output(made, tmp_path, more):
    """As in ``a3mini infill ... | true``: no noise, and the trace is there."""
    command = [sys.executable, "-m", "a3mini", *infill(made, *more, f"--trace={tmp_path / 't.json'}")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(command, stdout=writer, stderr=-1, text=True, env=environment, check=False)
    os.close(writer)
    assert ended.returncode == 141 and "Error" not in ended.stderr, ended.stderr
    assert (tmp_path / "t.json").exists()


# Progress


@pytest.fixture
def bars(monkeypatch):
    """The bars that were shown, and how far they came; at once instead of after a second."""
    shown = []

    def recorded(real):
        def bar(*args, **how):
            assert how.pop("delay") == 1 and how["leave"] is False
            made = real(*args, **how)
            made.shown = not made.disable  # which closing it changes
            shown.append(made)
            return made

        return bar

    for module in (using, held_out):
        monkeypatch.setattr(module, "tqdm", recorded(module.tqdm))
    return shown


def test_progress_goes_to_standard_error(made, bars, capsys):
    assert cli.main(evaluate(made, "--batch-size=4", "--validation=0")) == 0
    printed = capsys.readouterr()
    (bar,) = bars
    assert bar.n == bar.total == len(held_out.GROUPINGS) * 2  # batches
    assert "held-out losses" in printed.err and "held-out losses" not in printed.out
    assert cli.main(infill(made)) == 0
    printed = capsys.readouterr()
    assert bars[1].n == 4 and "filling" in printed.err and "filling" not in printed.out  # one token at a time


def test_quiet_is_quiet(made, bars, capsys):
    assert cli.main(evaluate(made, "--quiet")) == cli.main(infill(made, "--quiet")) == 0
    assert capsys.readouterr().err == "" and not any(bar.shown for bar in bars)


def test_the_first_evaluation_of_a_training_shows_progress(made, bars, tmp_path, monkeypatch):
    run = [f"--text={made / 'text.txt'}", "--vocab-size=300", "--hidden-size=16", "--layers=1", "--heads=2"]
    run += ["--length=24", "--batch-size=4", "--steps=1", "--precision=fp32", f"--folder={tmp_path / 'run'}"]
    assert cli.main(["train", *run]) == 0
    assert [(bar.n, bar.shown) for bar in bars] == [(len(held_out.GROUPINGS), True)] * 2
    bars.clear()
    monkeypatch.setenv("RANK", "1")  # another process of the same training
    options = cli.parse(["train", *run])
    tokenizer = using.sources.tokenizer(made / "model")
    assert using.held_out(options, corpus.documents(made / "text.txt"), tokenizer, "any-order", 4).quiet


# Models by name


def test_an_adapter_of_a_hub_model_says_so(made, tmp_path, monkeypatch, capsys):
    """The name of its source is shown before anything is fetched."""
    model = A3ForCausalLM.from_pretrained(made / "model")
    record = {"kind": "any order", "source": "no-one/no-model"}
    trained = {"model.query_embedding": torch.ones(16)}
    adapter.save(tmp_path / "adapter", trained, 1.0, adapter.fingerprint(model), record)
    monkeypatch.setattr(using.sources, "hub_answers", lambda: False)
    assert cli.main(["infill", f"--model={tmp_path / 'adapter'}", ASK]) == 2
    shown, tried, error = capsys.readouterr().err.splitlines()
    assert shown.endswith("adapter goes on top of no-one/no-model") and tried.endswith("no-one/no-model on the hub")
    assert "does not answer" in error


def test_a_rivals_pickle_is_not_read(tmp_path, made):
    """Every kind of model is read by the same rules: safetensors alone, and every tensor in its place."""
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    model = recipes.MaskedDiffusionModel(recipes.LlamaConfig(**sizes, num_attention_heads=2))
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    using.sources.tokenizer(made / "model").save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        using.load(str(tmp_path))
    model.save_pretrained(tmp_path)
    assert using.load(str(tmp_path))[2] == "diffusion"


def test_wrong_settings_are_the_users(made):
    with pytest.raises(ValueError, match="rope_type"):
        from_autoregressive(recipes.LlamaForCausalLM(recipes.LlamaConfig(
            vocab_size=9, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            rope_parameters={"rope_type": "dynamic", "rope_theta": 50.0, "factor": 2.0},
        )))  # fmt: skip
