"""The ablation of the recipe: what each arm changes, that all else is the same, and how its table is made."""

import json
import sys
from dataclasses import fields

import pytest
import recipe as bench
import torch
from training_run import small_blocks

from a3mini.evaluate.held_out import HeldOut
from a3mini.train import AnyOrder, Curriculum, TrainConfig, train, uniform
from a3mini.train.average import Average
from a3mini.train.curriculum import CHOICES, KINDS

MIXED = {"blocks": 0.1, "span": 0.2, "sentence": 0.15, "shuffled": 0.4, "strided": 0.15}
SIZE = bench.Size(bench.TINY, 40, 16, 4, 64)


def settled(arm: str) -> dict:
    return {one.name: getattr(bench.ARMS[arm], one.name) for one in fields(bench.Arm)}


@pytest.mark.parametrize("arm", [arm for arm in bench.ARMS if arm != bench.BASE])
def test_an_arm_changes_one_thing(arm):
    base, own = settled(bench.BASE), settled(arm)
    changed = {name for name in own if own[name] != base[name]}
    if arm == "the paper's recipe":  # the two in which it differs from ours
        assert changed == {"curriculum", "query_start"}
    else:
        assert len(changed) == 1


def test_every_arm_is_another_and_says_what_it_changes():
    kept = [json.dumps(arm.settings(), sort_keys=True) for arm in bench.ARMS.values()]
    assert len(set(kept)) == len(kept), "what is kept of one arm would be taken for another's"
    assert bench.CHANGES.keys() == bench.ARMS.keys() | {bench.AVERAGE}
    assert len(set(bench.CHANGES.values())) == len(bench.CHANGES)


def test_the_shares_of_every_curriculum():
    expected = {
        bench.BASE: MIXED,
        "no left to right": MIXED | {"blocks": 0, "shuffled": 0.5},
        "no strided": MIXED | {"strided": 0, "shuffled": 0.55},
        "more random order": {"blocks": 0.05, "span": 0.1, "sentence": 0.075, "shuffled": 0.7, "strided": 0.075},
        "half left to right": {kind: share * 5 / 9 for kind, share in MIXED.items()} | {"blocks": 0.5},
        "annealed toward use": MIXED,
    }
    for arm, wanted in expected.items():
        found = bench.overall(bench.ARMS[arm].curriculum)
        assert sum(found.values()) == pytest.approx(1)
        assert found == pytest.approx({kind: share for kind, share in wanted.items() if share}), arm


def test_other_shares_leave_the_sizes_of_groups_alone():
    sizes = {part.kind: part.sizes for part in Curriculum.preset("mixed").stages[0].parts}
    for arm in ("no left to right", "more random order", "half left to right", "annealed toward use"):
        for stage in bench.ARMS[arm].curriculum.stages:
            assert all(part.sizes == sizes[part.kind] and not part.grow for part in stage.parts)


def test_the_annealed_arm_draws_the_same_in_another_order():
    """What is drawn, not what is written: kinds over a whole training, and random order alone at its beginning."""
    drawn = {arm: [] for arm in (bench.BASE, "annealed toward use")}
    for arm, found in drawn.items():
        for step in range(300):
            stage, inside = bench.ARMS[arm].curriculum.stage_at(step / 300)
            found.append(stage.choose(inside, uniform(0, torch.arange(step * 16, (step + 1) * 16), CHOICES))[0])
    base, other = (torch.stack(found) for found in drawn.values())
    assert (other[:100] == KINDS.index("shuffled")).all() and (base[:100] != KINDS.index("shuffled")).any()
    assert (other[100:] == KINDS.index("shuffled")).double().mean().item() == pytest.approx(0.1, abs=0.02)
    for number in range(len(KINDS)):
        share = (other == number).double().mean().item()
        assert share == pytest.approx((base == number).double().mean().item(), abs=0.025)


# What else an arm may change


def test_rows_count_alike_and_all_together_as_much_as_all_tokens():
    blocks = small_blocks()
    rows, examples = blocks.rows(slice(0, 8)), torch.arange(8)
    plain = AnyOrder(Curriculum.preset("mixed"), "together").batch(rows, 0.0, examples, 0)
    found = bench.ByRow(Curriculum.preset("mixed"), "together").batch(rows, 0.0, examples, 0)
    assert found.count == plain.count
    assert found.weights.sum().item() == pytest.approx(plain.count, rel=1e-5)
    assert torch.equal(found.weights > 0, plain.weights > 0)
    row = found.inputs["plan"].places // rows.input_ids.shape[1]
    each = torch.zeros(9).index_add(0, row, found.weights)
    assert torch.allclose(each[:8], torch.full((8,), plain.count / 8)) and each[8] == 0
    per_token = [found.weights[(row == one) & (found.weights > 0)] for one in range(8)]
    assert all((weights == weights[0]).all() for weights in per_token), "of a row all tokens count the same"
    assert len({round(weights[0].item(), 4) for weights in per_token}) > 1, "of rows that predict more each counts less"


@pytest.mark.parametrize("start", ["vector", "previous"])
def test_the_condition_is_the_base_until_it_is_trained(start):
    arms = [bench.Arm(query_start=start, model=model) for model in (bench.A3ForCausalLM, bench.TargetLM)]
    base, conditioned = (bench.begin(arm, SIZE, seed=3).eval() for arm in arms)
    ids = torch.randint(40, (2, 9))
    group_ids = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 8, 0, 3, 2, 3, 1, 6, -1]])
    first = base(ids, group_ids, labels=ids, return_logits=True)
    second = conditioned(ids, group_ids, labels=ids, return_logits=True)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(base(ids, group_ids, labels=ids).log_probs, conditioned(ids, group_ids, labels=ids).log_probs)
    assert conditioned.lm_head.weight is conditioned.model.embed_tokens.weight
    assert set(dict(conditioned.named_parameters())) - set(dict(base.named_parameters())) == {"model.targets.weight"}


@pytest.mark.parametrize("start", ["vector", "previous"])
def test_the_condition_is_of_the_position_that_is_predicted(start):
    """Also where a row stands at the position before: the vector of position 5 reaches the prediction of 5 alone."""
    model = bench.begin(bench.Arm(query_start=start, model=bench.TargetLM), SIZE, seed=0).eval()
    ids, group_ids = torch.randint(40, (1, 9)), torch.tensor([[0, 1, 2, 7, 3, 4, 8, 6, 5]])
    before, dense = model(ids, group_ids, labels=ids).log_probs, model(ids, group_ids).logits
    with torch.no_grad():
        model.model.targets.weight[5] += 1.0
    after = model(ids, group_ids, labels=ids).log_probs
    assert (before != after)[0].nonzero()[:, 0].tolist() == [5]
    assert (dense != model(ids, group_ids).logits).any(-1)[0].nonzero()[:, 0].tolist() == [5]


def test_of_a_seed_all_arms_start_from_the_same_weights():
    base = bench.begin(bench.Arm(), SIZE, 0).state_dict()
    for arm in bench.ARMS.values():
        own = bench.begin(arm, SIZE, 0)
        weights = own.state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in base.items())
        assert own.config.query_start == arm.query_start
    other = bench.begin(bench.Arm(), SIZE, 1).state_dict()
    assert not torch.equal(base["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


# A training


def test_the_average_is_that_of_the_package():
    """Watching makes no difference to the training, and the average is bit for bit what ``ema_tokens`` gives."""
    blocks, half_life = small_blocks(), 150
    how = dict(steps=5, batch_tokens=64, optimizer="muon", learning_rate=8e-3, warmup_steps=1, precision="fp32",
               compile=False, workers=0)  # fmt: skip
    models = {}
    for name, ema in (("plain", 0), ("averaged", half_life), ("watched", 0)):
        models[name] = model = bench.begin(bench.Arm(), SIZE._replace(length=64), 0)
        own, average = AnyOrder(Curriculum.preset("mixed"), "together"), None
        if name == "watched":
            average = Average(model.named_parameters(), half_life)
            own = bench.Watched(own, bench.Costs.of(bench.TINY, 40), average)
        train(model, own, blocks, TrainConfig(**how, ema_tokens=ema), quiet=True)
    weights = {name: [one.detach() for one in model.parameters()] for name, model in models.items()}
    assert all(map(torch.equal, weights["plain"], weights["watched"]))
    assert not all(map(torch.equal, weights["plain"], weights["averaged"]))
    own.follow()
    with average.swapped():
        assert all(map(torch.equal, weights["averaged"], models["watched"].parameters()))
    assert own.tokens == average.tokens and own.operations > 0


def test_operations_are_of_the_rows_that_are_computed():
    """By hand for one batch: a content row has its last layer's k and v alone, a query row none of either."""
    costs = bench.Costs.of(dict(hidden_size=10, intermediate_size=20, num_hidden_layers=3), 50)
    assert costs == (2 * (400 + 600) + 200, 3 * (200 + 600) + 500, 3 * (400 + 600) + 500)
    rows, examples = small_blocks().rows(slice(0, 4)), torch.arange(4)
    curriculum = Curriculum((bench.stage({"shuffled": 1.0}),))
    watched = bench.Watched(AnyOrder(curriculum, "together"), costs)
    watched.batch(rows, 0.0, examples, 0)
    tokens = int(rows.lengths.sum())
    # one token of each row is given, all others are predicted, and nobody sees the last
    assert watched.predicted == tokens - 4 and watched.tokens == tokens and watched.rows == 4
    assert watched.operations == (tokens - 4) * (costs.query + costs.content)
    llama = bench.Watched(bench.Autoregressive(), costs)
    llama.batch(rows, 0.0, examples, 0)
    assert llama.operations == tokens * costs.llama


def test_autoregression_first_has_the_operations_of_the_base():
    blocks, size = small_blocks(), bench.Size(bench.TINY, 40, 64, 64, 64)
    first, then = bench.source_steps(bench.ARMS["autoregression first"], size, blocks, 0)
    assert then == 32 and bench.source_steps(bench.Arm(), size, blocks, 0) == (0, 64)
    costs = bench.Costs.of(size.shape, size.vocabulary)
    spent = []
    for made, steps in ((bench.recipe_of(bench.Arm()), 64), (bench.Autoregressive(), first)):
        watched = bench.Watched(made, costs)
        batches = bench.Batches(blocks, watched, size.config("muon", 0, steps))
        for step in range(steps):
            batches[step]
        spent.append(watched.operations)
    assert spent[1] == pytest.approx(spent[0] / 2, rel=0.06)


def test_a_training_sees_the_same_rows_and_is_asked_in_its_own_way():
    blocks = small_blocks()
    size, held_out = bench.Size(bench.TINY, 40, 64, 3, 64), blocks.rows(slice(0, 6))
    found = {arm: bench.trained(bench.ARMS[arm], size, blocks, held_out, 0, averaged=arm == bench.BASE)
             for arm in (bench.BASE, "given tokens in order", "rows count alike", "autoregression first")}  # fmt: skip
    base = found[bench.BASE]
    for arm in ("given tokens in order", "rows count alike"):
        assert {name: found[arm][name] for name in ("rows", "tokens", "predicted", "steps")} == {
            name: base[name] for name in ("rows", "tokens", "predicted", "steps")
        }
        assert found[arm]["nats"] != base["nats"]
    assert found["autoregression first"]["steps"][0] > 0 and "averaged" not in found["rows count alike"]
    assert base["averaged"].keys() == base["nats"].keys() == bench.GROUPINGS.keys()
    assert base["averaged"] != base["nats"]


def test_given_tokens_are_read_as_in_the_training():
    blocks = small_blocks().rows(slice(0, 6))
    losses = []
    for order in ("together", "left_to_right"):
        model = bench.begin(bench.Arm(known_order=order), SIZE._replace(length=64), 0).eval()
        nats = bench.measured(model, blocks)
        whole = HeldOut(blocks, bench.GROUPINGS)
        assert {title: sum(one) / whole.tokens[title] for title, one in nats.items()} == pytest.approx(
            whole(model), abs=1e-3
        )
        losses.append(nats)
    assert losses[0]["a span"] != losses[1]["a span"] and losses[0]["left to right"] == losses[1]["left to right"]


# Who does what


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_parts_cover_each_training_once(seeds):
    everything = bench.trainings(list(bench.ARMS), seeds)
    assert sorted(everything) == sorted((arm, seed) for arm in bench.ARMS for seed in range(seeds))
    for processes in (1, 2, 3):
        parts = [bench.part_of(everything, (number, processes)) for number in range(processes)]
        assert sorted(one for part in parts for one in part) == sorted(everything)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_important_arms_come_first_on_all_seeds():
    first = bench.trainings(list(bench.ARMS), 2)[: 2 * bench.FIRST]
    important = {
        bench.BASE, "cold query rows", "the paper's recipe", "no left to right", "more random order", "no strided",
        "autoregression first", "given tokens in order",
    }  # fmt: skip
    assert first[0] == (bench.BASE, 0) and {arm for arm, _ in first} == important
    assert [seed for _, seed in first] == [0] * bench.FIRST + [1] * bench.FIRST


@pytest.mark.parametrize("text", ["2/2", "1", "a/2", "-1/2", "1/0"])
def test_a_part_must_be_one(text):
    with pytest.raises(bench.argparse.ArgumentTypeError, match="no part"):
        bench.as_part(text)
    assert bench.as_part("1/2") == (1, 2)


# The table


def made_up(shift: float, seeds: int = 2, rows: int = 6) -> list[dict]:
    held = weights()
    return [
        {"nats": {title: ((2.0 + shift + 0.1 * seed) * held.tokens[title]).tolist() for title in bench.GROUPINGS},
         "operations": 100, "predicted": 7, "tokens": 9, "steps": [0, 4]}
        for seed in range(seeds)
    ]  # fmt: skip


def weights() -> bench.Weights:
    return bench.Weights(small_blocks().rows(slice(0, 6)), ["a", "a", "a", "a", "b", "b"])


def test_both_texts_count_alike_and_a_row_by_its_tokens():
    held = weights()
    for title in bench.GROUPINGS:
        weight = held.of(title)
        assert weight.sum().item() == pytest.approx(1) and weight[:4].sum().item() == pytest.approx(0.5)
        assert torch.allclose(weight[:4] / weight[0], held.tokens[title][:4] / held.tokens[title][0])
        assert held.of(title, "b")[:4].sum() == 0 and held.of(title, "b").sum().item() == pytest.approx(1)
    nats = {title: torch.rand(6, dtype=torch.float64) * held.tokens[title] for title in bench.GROUPINGS}
    values, weight = held.values(nats, bench.MEAN)
    by_title = [sum(nats[t][rows].sum() / held.tokens[t][rows].sum() / 2 for rows in (slice(0, 4), slice(4, 6)))
                for t in bench.USED]  # fmt: skip
    assert (values * weight).sum().item() == pytest.approx(torch.stack(by_title).mean().item())


def test_differences_are_to_the_base_over_seeds():
    found = {bench.BASE: made_up(0.0), "no strided": made_up(0.25), "AdamW": made_up(-0.5)}
    found["AdamW"][1]["nats"] = made_up(-0.3)[1]["nats"]
    result = bench.compared(found, weights())
    assert result[bench.BASE]["losses"][bench.MEAN] == pytest.approx(2.05) and "difference" not in result[bench.BASE]
    for title in (*bench.GROUPINGS, bench.MEAN):
        assert result["no strided"]["difference"][title] == pytest.approx({"mean": 0.25, "low": 0.25, "high": 0.25})
        assert result["AdamW"]["difference"][title]["mean"] == pytest.approx(-0.4)
        assert result["AdamW"]["by_seed"][title] == pytest.approx([-0.5, -0.3])
    assert result["no strided"]["by_text"]["b"]["difference"]["mean"] == pytest.approx(0.25)
    assert result["no strided"]["operations"] == 1.0


def test_an_interval_is_over_rows():
    found = {bench.BASE: made_up(0.0), "AdamW": made_up(0.0)}
    for one in found["AdamW"]:
        one["nats"] = {t: [n * (1 + 0.1 * k) for k, n in enumerate(nats)] for t, nats in one["nats"].items()}
    about = bench.compared(found, weights())["AdamW"]["difference"][bench.MEAN]
    assert about["low"] < about["mean"] < about["high"]


# Text


def test_a_folder_that_lacks_a_text_is_named(tmp_path):
    with pytest.raises(SystemExit, match="tinystories_next4m_truecased.jsonl.gz"):
        bench.of_folder(tmp_path)


def test_texts_have_their_proportions_and_what_is_held_out_is_not_trained_on(tmp_path):
    import gzip

    for name in bench.SIMPLE:
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": f"{name} {number}"}) + "\n" for number in range(100))
    text = bench.of_folder(tmp_path)
    seen = {story.text for story in text.stories}
    assert set(text.held_out) == {"tinystories_next4m_truecased", "gutenberg_children"}
    assert not seen & {story.text for stories in text.held_out.values() for story in stories}
    count = {name: sum(one.startswith(name) for one in seen) for name in bench.SIMPLE}
    assert count == {"tinystories_next4m_truecased": 45, "african_storybook_en": 50, "pratham_en": 50,
                     "gutenberg_children": 10}  # fmt: skip
    assert text == bench.of_folder(tmp_path)


@pytest.mark.parametrize("said", [["--data", "/some/where"], ["--data=/some/where"]])
def test_a_recorded_command_does_not_say_where_the_text_lies(said, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(bench.__file__), *said, "--finished"])
    shown = bench.command(bench.Path("/some/where"))
    assert shown in ("python benchmarks/recipe.py --data FOLDER --finished",
                     "python benchmarks/recipe.py --data=FOLDER --finished")  # fmt: skip
    assert sys.argv[1:] == [*said, "--finished"]


def test_smoke(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(bench.__file__), "--smoke", "--arm", "rows count alike"])
    bench.main()
    printed = capsys.readouterr().out
    assert "rows count alike, seed 0" in printed and bench.AVERAGE in printed
    assert not list(tmp_path.iterdir()), "nothing is written"
