"""spare_room.py: rows with room behind their blanks against a plain loop; and models that learn to end a blank."""

import inspect
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_run import CONFIG, small_blocks, small_model

from a3mini import A3Config, A3ForCausalLM, adapter, decode, groups
from a3mini.evaluate import HeldOut
from a3mini.evaluate.held_out import GROUPINGS
from a3mini.rows import IGNORED_LABEL
from a3mini.train import AnyOrder, Blocks, Curriculum, Part, Stage, TrainConfig, corpus, data, spare_room, train
from a3mini.train.batches import Batches
from a3mini.train.curriculum import CHOICES, KINDS, draw_rows, uniform

END = 1  # of ``small_blocks``, whose tokens begin at 3
BLOCKS = small_blocks(30)


def with_room(*parts: Part) -> Curriculum:
    return Curriculum((Stage("blanks", 1, parts or (Part("span", (1, 2), room=5), Part("sentence", (3,), room=3))),))


ROOMY = with_room()


def config(**changes) -> TrainConfig:
    return TrainConfig(**{**CONFIG, "eval_every": 0, "save_every": 0, **changes})


# The layout


def by_hand(ids: list[int], order: list[int], size: int, spare: int) -> tuple[list[int], list[int]]:
    """One row in plain Python: the end and padding are put in behind the blank, and the row is cut where it ended."""
    length = len(ids)
    blank = [at for at, group in enumerate(order) if group > 0]
    behind = blank[-1] + 1
    more = [END] * spare, [len(blank) // size + 1, *[-1] * (spare - 1)] if spare else []
    return tuple((old[:behind] + new + old[behind:])[:length] for old, new in zip((ids, order), more, strict=True))


def check_rows(seed: int, rows: int = 60, width: int = 14) -> None:
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.tensor([KINDS.index("span"), KINDS.index("sentence")])[torch.randint(2, (rows,), generator=generator)]
    sizes, spare = torch.randint(1, 5, (rows,), generator=generator), torch.randint(0, 9, (rows,), generator=generator)
    lengths = torch.randint(2, width + 1, (rows,), generator=generator)
    ends = torch.rand(rows, width, generator=generator) < 0.3
    drawn = draw_rows(kinds, sizes, lengths, ends, uniform(seed, torch.arange(rows), width + CHOICES))
    ids = torch.randint(3, 17, (rows, width), generator=generator)
    found, order = spare_room.make_room(ids, drawn, sizes, spare, END)
    for row in zip(*(x.tolist() for x in (found, order, ids, drawn, sizes, spare)), strict=True):
        right, places = by_hand(*row[2:])
        assert row[1] == places
        assert [t for t, g in zip(row[0], row[1], strict=True) if g >= 0] == [
            t for t, g in zip(right, places, strict=True) if g >= 0
        ]
    assert torch.equal(found[spare == 0], ids[spare == 0]) and torch.equal(order[spare == 0], drawn[spare == 0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 30))
def test_rows_are_those_of_a_plain_loop(seed, width):
    check_rows(seed, 40, width)


MUTANTS = [
    ("place + 1, 0)", "place, 0)"),
    ("place - spare", "place - spare - 1"),
    ("place < behind + spare", "place <= behind + spare"),
    (", groups.PADDING), moved", ", group), moved"),
    ('rounding_mode="floor") + 1', 'rounding_mode="floor")'),
    ("blank.sum(-1, keepdim=True).div(size", "(blank.sum(-1, keepdim=True) + 1).div(size"),
    ("masked_fill(new, end)", "clone()"),
]


@pytest.mark.parametrize(("old", "new"), MUTANTS)
def test_the_loop_catches_mutants(old, new, monkeypatch):
    source, space = inspect.getsource(spare_room.make_room), {}
    assert source.count(old) == 1, old
    exec(source.replace(old, new), vars(spare_room), space)
    monkeypatch.setattr(spare_room, "make_room", space["make_room"])
    with pytest.raises(AssertionError):
        check_rows(0)


# What is drawn


def test_most_blanks_get_room():
    examples = torch.arange(4000)
    for room in (1, 2, 24):
        spare = spare_room.draw_spare(torch.full((4000,), room), examples, 7)
        assert spare.min() == 0 and spare.max() == room
        assert (spare == 0).float().mean() == pytest.approx(1 - spare_room.ROOMY, abs=0.03)
        counts = torch.bincount(spare, minlength=room + 1)[1:]
        assert counts.float().std(correction=0) < 4 * (2000 / room) ** 0.5
    assert (spare_room.draw_spare(torch.zeros(9, dtype=torch.int64), examples[:9], 7) == 0).all()
    # a function of the seed and the example's own number
    some = spare_room.draw_spare(torch.full((4,), 24), torch.tensor([3999, 5, 0, 17]), 7)
    assert torch.equal(some, spare[[3999, 5, 0, 17]])
    assert not torch.equal(spare, spare_room.draw_spare(torch.full((4000,), 24), examples, 8))
    # and no function of the numbers that choose the blanks
    first = uniform(7, examples, CHOICES)
    for column in first.T:
        assert torch.corrcoef(torch.stack((column, spare.double())))[0, 1].abs() < 0.05


def test_what_is_drawn_without_room_stays_as_it_was():
    """Room changes no blank and no other part; without room nothing is changed at all."""
    examples, rows = torch.arange(30), BLOCKS
    for name, seed, progress in itertools.product(("mixed", "spans", "paper"), (0, 3), (0.0, 0.7)):
        recipe = AnyOrder(Curriculum.preset(name))
        drawn = recipe.group_ids(rows, progress, examples, seed)
        ids, order = recipe.with_room(rows, drawn, progress, examples, seed)
        assert ids is rows.input_ids and order is drawn
    mixed, blanks = (AnyOrder(Curriculum.preset(name), None, END) for name in ("mixed", "blanks"))
    for seed in range(3):
        drawn = mixed.group_ids(rows, 0.5, examples, seed)
        assert torch.equal(drawn, blanks.group_ids(rows, 0.5, examples, seed))
        stage, inside = blanks.curriculum.stage_at(0.5)
        numbers = uniform(seed, examples, CHOICES)
        kinds, _ = stage.choose(inside, numbers)
        room = stage.room(numbers)
        is_blank = torch.isin(kinds, torch.tensor([KINDS.index("span"), KINDS.index("sentence")]))
        assert torch.equal(room, 24 * is_blank.long()) and is_blank.any() and not is_blank.all()
        ids, order = blanks.with_room(rows, drawn, 0.5, examples, seed)
        changed = (order != drawn).any(-1)
        assert changed.any() and not (changed & ~is_blank).any()
        assert torch.equal(ids[~is_blank], rows.input_ids[~is_blank])


@pytest.mark.parametrize(("name", "before"), [("mixed", 38228), ("spans", 11333)])
def test_groups_of_a_seed_are_those_of_before(name, before):
    """A checksum of what was drawn before blanks could have room."""
    drawn = AnyOrder(Curriculum.preset(name)).group_ids(BLOCKS, 0.5, torch.arange(30), 0)
    assert (drawn * torch.arange(1, 13) * torch.arange(1, 31)[:, None]).sum() == before


def test_a_batch_is_these_rows():
    """Tokens, groups and labels of a batch, its count, and no matter which rows are beside it."""
    recipe, examples = AnyOrder(ROOMY, "left_to_right", END), torch.arange(30)
    drawn = recipe.group_ids(BLOCKS, 0.5, examples, 3)
    ids, order = recipe.with_room(BLOCKS, drawn, 0.5, examples, 3)
    batch = recipe.batch(BLOCKS, 0.5, examples, 3)
    plan, inside = batch.inputs["plan"], batch.weights > 0
    predicted = (order > 0).flatten().nonzero().flatten().tolist()
    assert batch.count == len(predicted) and sorted(plan.places[inside].tolist()) == predicted
    assert torch.equal(plan.labels[inside], ids.flatten()[plan.places[inside]])
    assert (plan.labels[inside] == END).sum() == (ids[order > 0] == END).sum() > 0
    assert (plan.labels[~inside] == IGNORED_LABEL).all()
    for one in examples.tolist():
        alone = recipe.batch(BLOCKS.rows(slice(one, one + 1)), 0.5, examples[one : one + 1], 3)
        here = plan.places[inside] // ids.shape[1] == one
        assert torch.equal(alone.inputs["plan"].labels[alone.weights > 0], plan.labels[inside][here])


def test_rows_are_cut_where_the_text_was_not_where_the_microbatch_is():
    """Rows without padding beside them have the same place for room: how a batch is divided changes nothing."""
    whole, parts = (
        Batches(BLOCKS, AnyOrder(ROOMY, None, END), config(batch_size=12, micro_batch_size=n))[1] for n in (0, 1)
    )
    assert whole.count == parts.count and len(parts.batches) == 12
    labels = [
        torch.cat([b.inputs["plan"].labels[b.weights > 0] for b in s.batches]).sort().values for s in (whole, parts)
    ]
    assert torch.equal(*labels)
    trimmed = Batches(BLOCKS, AnyOrder(Curriculum.preset("spans")), config(batch_size=12, micro_batch_size=1))[1]
    assert {b.inputs["plan"].labels.shape for b in trimmed.batches} != {
        b.inputs["plan"].labels.shape for b in parts.batches
    }


# Curricula and recipes


def test_room_in_curricula(tmp_path):
    for path in (tmp_path / "own.yaml", tmp_path / "own.json"):
        ROOMY.save(path)
        assert Curriculum.load(path) == ROOMY and Curriculum.load(path).has_room
    assert ROOMY.to_dict()["stages"][0]["parts"][0]["room"] == 5
    # a record of a run without room is that of a run from before there was any
    for name in ("paper", "spans", "mixed"):
        plain = Curriculum.preset(name)
        assert not plain.has_room and "room" not in str(plain.to_dict())
    assert [part.room for part in Curriculum.preset("blanks").stages[0].parts] == [0, 24, 24, 0, 0]
    for bad, message in (
        (
            {"kind": "blocks", "room": 3},
            "room is for the blanks of span and sentence; a part of kind 'blocks' has none",
        ),
        ({"kind": "span", "room": -1}, "room must be an integer of at least 0, got -1"),
        ({"kind": "span", "room": 1.5}, "room must be an integer"),
        ({"kind": "span", "room": True}, "room must be an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            Part(**bad)


def test_held_out_groupings_have_no_room():
    assert len(GROUPINGS) == 6 and not any(hasattr(grouping, "room") for grouping in GROUPINGS.values())


def test_somebody_must_say_which_token_ends_blanks(tmp_path, monkeypatch):
    """Before any work, whoever is asked; what the recipe or the config says is kept with model, adapter and record."""
    recipe = AnyOrder(ROOMY)
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__init__", lambda *_: pytest.fail("work was done"))
        with pytest.raises(ValueError, match="no token is known that ends them; give AnyOrder an empty_token_id"):
            train(small_model(), recipe, BLOCKS, config(steps=1), tmp_path / "none", quiet=True)
        for token, own, message in (
            (17, None, "empty_token_id=17 is outside the model's 17"),
            (2, END, "empty_token_id=2, but the model has learned to end blanks with token 1"),
        ):
            with pytest.raises(ValueError, match=message):
                train(
                    small_model(empty_token_id=own), AnyOrder(ROOMY, None, token), BLOCKS, config(steps=1), quiet=True
                )
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="no token is known that ends them"):
        recipe.batch(BLOCKS, 0.5, torch.arange(30), 0)
    with pytest.raises(ValueError, match="empty_token_id must be an integer"):
        AnyOrder(ROOMY, None, -1)
    for told, own in ((END, None), (None, END), (END, END)):
        model = small_model(empty_token_id=own)
        told_recipe = AnyOrder(ROOMY, None, told)
        train(model, told_recipe, BLOCKS, config(steps=1, lora_rank=2), tmp_path / f"{told}{own}", quiet=True)
        assert model.config.empty_token_id == END and told_recipe.empty_token_id == told
        assert adapter.read(tmp_path / f"{told}{own}" / "adapter")[1]["empty_token_id"] == END
        model.save_pretrained(tmp_path / "model")
        assert A3ForCausalLM.from_pretrained(tmp_path / "model").config.empty_token_id == END
    # an adapter says it, too; one without room keeps what it has
    for curriculum in (ROOMY, Curriculum.preset("spans")):
        base = small_model()
        how = {"quiet": True, "start": tmp_path / f"{END}None" / "adapter"}
        folder = tmp_path / f"more {curriculum.name}"
        train(base, AnyOrder(curriculum), BLOCKS, config(steps=1, lora_rank=2), folder, **how)
        assert adapter.read(folder / "adapter")[1]["empty_token_id"] == END
    # without room it is no setting
    assert "empty_token_id" not in AnyOrder(Curriculum.preset("spans"), None, END).settings()
    assert AnyOrder(ROOMY, None, END).settings()["empty_token_id"] == END


def test_a_training_that_is_cut_short_leaves_the_config():
    class Failing(AnyOrder):
        def log_probs(self, model, inputs):
            assert base.config.empty_token_id == END
            raise ConnectionError

    base = small_model()
    before = dict(vars(base.config))
    with pytest.raises(ConnectionError):
        train(base, Failing(ROOMY, None, END), BLOCKS, config(steps=1), quiet=True)
    assert vars(base.config) == before and base.config.empty_token_id is None


class Stop(Exception):
    pass


def test_resume_is_exact(tmp_path):
    """Law 7: stopped after step 4 and gone on with, as never stopped, bit for bit; another token is another run."""

    def stop_at(step):
        seen = itertools.count(1)
        held_out = HeldOut(small_blocks(5))

        def evaluate(model):
            if next(seen) == step:
                raise Stop
            return held_out(model)

        return evaluate

    settings = dict(steps=6, eval_every=2, save_every=2)
    whole, again = small_model(), small_model()
    recipe = AnyOrder(ROOMY, None, END)
    train(whole, recipe, BLOCKS, config(**settings), tmp_path / "whole", stop_at(0), quiet=True)
    with pytest.raises(Stop):
        train(again, recipe, BLOCKS, config(**settings), tmp_path / "again", stop_at(4), quiet=True)
    train(again, recipe, BLOCKS, config(**settings), tmp_path / "again", stop_at(0), quiet=True)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    with pytest.raises(ValueError, match="empty_token_id: 1, now 2"):
        train(small_model(), AnyOrder(ROOMY, None, 2), BLOCKS, config(**settings), tmp_path / "again", stop_at(0))


# Which token


def test_the_token_that_ends_blanks():
    tokenizer = data.train_tokenizer([corpus.Story("", "The cat sat.")], 270)
    rows = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))
    assert data.empty_token(tokenizer, rows) == tokenizer.pad_token_id  # neither <s> nor </s>: these are in rows
    assert data.empty_token(tokenizer, rows, "<pad>") == tokenizer.pad_token_id
    for wanted in ("</s>", "<s>", "cat", "<end>"):
        with pytest.raises(
            ValueError, match=r"cannot end a blank: no special token that texts never have; \['<pad>'\]"
        ):
            data.empty_token(tokenizer, rows, wanted)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<one>", "<two>", "<three>"]})
    one, two, three = tokenizer.convert_tokens_to_ids(["<one>", "<two>", "<three>"])
    rows = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))
    rows[[one, two, tokenizer.pad_token_id]] = rows[one].clone()  # as tokens that a pretraining never met
    rows[two] += 1e-4
    assert data.empty_token(tokenizer, rows) == three
    assert data.empty_token(tokenizer, rows, "<two>") == two
    tokenizer.pad_token = tokenizer.eos_token  # then it ends texts
    rows[three] = rows[one]
    assert data.empty_token(tokenizer, rows) == two
    bare = data.train_tokenizer([corpus.Story("", "The cat sat.")], 270)
    bare.add_special_tokens({"unk_token": "<pad>"})
    with pytest.raises(ValueError, match="has no special token to spare that could end a blank"):
        data.empty_token(bare, rows)


# A model learns it


START, SYMBOLS, FIRST, WIDTH = 0, 12, 2, 12


def counting(rows: int = 512) -> Blocks:
    """Rows that count, round and round, from any number on: both sides of a blank say how long it is."""
    first = torch.randint(SYMBOLS, (rows, 1), generator=torch.Generator().manual_seed(0))
    ids = torch.cat((torch.full((rows, 1), START), FIRST + (first + torch.arange(WIDTH - 1)) % SYMBOLS), 1)
    return Blocks(ids, torch.full((rows,), WIDTH), torch.arange(rows), torch.zeros(rows, WIDTH) > 0)


def test_a_model_learns_where_blanks_end():
    """Trained in seconds: greedy, nearly all blanks of a counting text get the missing numbers and end there."""
    torch.manual_seed(0)
    shape = dict(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, query_start="previous"
    )
    model = A3ForCausalLM(A3Config(vocab_size=FIRST + SYMBOLS, max_position_embeddings=32, **shape))
    recipe = AnyOrder(with_room(Part("span", (1,), room=6)), None, END)
    how = TrainConfig(steps=400, batch_size=16, learning_rate=4e-3, warmup_steps=20, precision="fp32")
    train(model, recipe, counting(), how, quiet=True)
    right, unended, cases = 0, 0, list(itertools.product(range(SYMBOLS), range(1, 6), (6, 8)))
    for first, missing, room in cases:
        before = [START, *(FIRST + (first + n) % SYMBOLS for n in range(3))]
        there = [FIRST + (first + n) % SYMBOLS for n in range(3, 3 + missing)]
        behind = [FIRST + (first + missing + n) % SYMBOLS for n in range(3, 6)]
        number = torch.tensor([[0] * 4 + [1] * room + [0] * 3])
        ids = torch.tensor([[*before, *[0] * room, *behind]])
        done = decode.generate(
            model, ids, groups.infill(number > 0), rooms=decode.Rooms(number, END), temperature=0, runners_up=0
        )
        right += done.sequences[0, done.group_ids[0] > 0].tolist() == [*there, END]
        unended += (done.group_ids >= 0).all().item()
    assert right >= 0.9 * len(cases), f"{right} of {len(cases)}"
    assert unended <= 0.1 * len(cases)
