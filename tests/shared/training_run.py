"""A small training run, for tests that need processes of their own.

    python training_run.py FOLDER              train once, as one of the processes of ``accelerate launch``
    python training_run.py FOLDER --kill       train whole, and train killed again and again; see ``killed``

A run's folder gets the trained weights, trained.safetensors, beside what ``train`` writes.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from a3mini import A3Config, A3ForCausalLM
from a3mini.evaluate import HeldOut
from a3mini.train import AnyOrder, Blocks, Curriculum, TrainConfig, train

SHAPE = {
    "vocab_size": 17,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 16,
}
CONFIG = {
    "steps": 12,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "precision": "fp32",
    "log_every": 1,
    "eval_every": 4,
    "save_every": 3,
}


def small_model(**changes) -> A3ForCausalLM:
    """A new A3, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return A3ForCausalLM(A3Config(**{**SHAPE, **changes}))


def small_blocks(rows: int = 10, width: int = 12) -> Blocks:
    """Rows of very unequal lengths; tokens depend on their neighbours, so that there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, width + 1, (rows,), generator=generator)
    lengths[0] = width
    ids = torch.randint(3, SHAPE["vocab_size"], (rows, 1), generator=generator) + 2 * torch.arange(width)
    ids = 3 + ids % (SHAPE["vocab_size"] - 3)
    real = torch.arange(width) < lengths[:, None]
    ends = (torch.rand(rows, width, generator=generator) < 0.3) & real
    return Blocks(ids.masked_fill(~real, 0), lengths, torch.arange(rows), ends)


def small_run(folder: Path | None, dropout: float = 0.1, start: str = "vector", **changes) -> A3ForCausalLM:
    """Train, with evaluation and checkpoints; ``start`` is what query rows start from."""
    model = small_model(attention_dropout=dropout, query_start=start)
    held_out = HeldOut(small_blocks(5))
    train(model, AnyOrder(Curriculum.preset("spans")), small_blocks(), TrainConfig(**{**CONFIG, **changes}), folder,
          held_out, quiet=True)  # fmt: skip
    return model


def run_and_save(folder: Path, **changes) -> None:
    model = small_run(folder, **changes)
    save_file({name: weight.clone() for name, weight in model.state_dict().items()}, folder / "new.safetensors")
    (folder / "new.safetensors").rename(folder / "trained.safetensors")


def fork(folder: Path, changes: dict) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run_and_save(folder, **changes)
            status = 0
        finally:
            os._exit(status)
    return child


def killed(folder: Path, dice: random.Random, **changes) -> int:
    """Train in ``folder / "whole"``; then in ``folder / "killed"`` with SIGKILL at random moments, started again until
    it is done. Every process is a fork of this one, which saves the time of the imports. Returns the number of kills.
    """
    started = time.perf_counter()
    assert os.waitstatus_to_exitcode(os.waitpid(fork(folder / "whole", changes), 0)[1]) == 0
    patience = 0.5 * (time.perf_counter() - started)
    kills = 0
    while not (folder / "killed" / "trained.safetensors").exists():
        child = fork(folder / "killed", changes)
        time.sleep(dice.uniform(0.1, 1) * patience)
        os.kill(child, signal.SIGKILL)  # of a process that is done already: no harm
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), f"the run failed with {code}"
        kills += code != 0
        patience *= 1.05  # a slow machine gets there, too
    return kills


def load_run(folder: Path) -> tuple[dict, list[dict]]:
    """Trained weights, and metrics without what a clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return load_file(folder / "trained.safetensors"), [
        {k: v for k, v in line.items() if k != "seconds"} for line in lines
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    if "--kill" in sys.argv:
        import peft  # noqa: F401  once, for all children

        dice = random.Random()
        print(json.dumps([killed(out / "full", dice), killed(out / "lora", dice, lora_rank=2, start="previous")]))
    elif os.environ["RANK"] == "0":
        run_and_save(out, dropout=0.0)  # every process draws its own dropout
    else:
        small_run(out, dropout=0.0)
