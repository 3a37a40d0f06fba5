"""How long and how fast to train: every number of a run, checked when it is made."""

from dataclasses import dataclass

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SCHEDULES = ("cosine", "wsd")
COMPILE = ("auto", True, False)
OPTIMIZERS = ("adamw", "muon")
WORKERS = 2


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch_size: rows per step, over all processes and microbatches.
        micro_batch_size: rows that one process computes at a time; 0: its whole share.
        batch_tokens: instead of ``batch_size``: a step takes rows until they hold so many tokens; 0: off. Then all
            steps are equally long, and so are their microbatches.
        micro_batch_tokens: instead of ``micro_batch_size``, with ``batch_tokens``; 0: a process's whole share.
        learning_rate: the highest, after ``warmup_steps``; then it falls to 0 as ``schedule`` says.
        warmup_steps: with "cosine" at most half of ``steps`` counts, so that a short run arrives at the highest rate,
            too. With "wsd" they count as they are: nothing before the decay depends on ``steps``.
        schedule: "cosine", or "wsd": a warm-up, a stable phase at the highest rate, and a decay; such a run can be
            prolonged before it decays (``schedules``).
        decay_steps: with "wsd", the last steps, in which the rate falls to 0; 0: a fifth of ``steps``.
        ema_tokens: half-life, in tokens, of the exponential moving average of the trained weights (``average``);
            0: none.
        optimizer: "adamw"; or "muon" for the matrices of the layers and AdamW for the rest, which is faster for a model
            that starts from scratch (``optimizers``). Not with LoRA.
        weight_decay: of matrices; norms, embeddings, biases and other vectors have none.
        clip_norm: the largest norm of the gradient.
        precision: "fp32", "bf16", "fp16" (mixed, weights stay float32), or "auto": what the device does best.
        compile: True: the model's layers and head are compiled, in training and in evaluation. False: nothing is.
            "auto": in training, where it pays, which is on CUDA (``compiling``).
        workers: processes that make steps ahead; -1: ``WORKERS`` where a GPU computes meanwhile, else none.
        activation_checkpointing: keep less for the backward pass, and compute it again.
        lora_rank: train low-rank additions to all linear layers (and A3's w) instead of the weights; 0: off.
        lora_alpha: their scale; 0: twice the rank.
        eval_every, save_every, log_every: in steps; 0: only at the end. A run without save_every also saves
            about every five minutes.

    Raises:
        ValueError: a number that makes no sense.
    """

    steps: int = 1000
    batch_size: int = 16
    micro_batch_size: int = 0
    batch_tokens: int = 0
    micro_batch_tokens: int = 0
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    schedule: str = "cosine"
    decay_steps: int = 0
    ema_tokens: int = 0
    optimizer: str = "adamw"
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    precision: str = "auto"
    compile: bool | str = "auto"
    workers: int = -1
    activation_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: int = 0
    eval_every: int = 0
    save_every: int = 0
    log_every: int = 10

    @property
    def lora_scale(self) -> float:
        """By what the product of the low-rank additions is multiplied."""
        return (self.lora_alpha or 2 * self.lora_rank) / self.lora_rank

    @property
    def warmup(self) -> int:
        """The steps of the warm-up; with "cosine" at most half of all."""
        return self.warmup_steps if self.schedule == "wsd" else min(self.warmup_steps, self.steps // 2)

    @property
    def decay(self) -> int:
        """The steps of the decay at the end of "wsd"."""
        return self.decay_steps or max(1, self.steps // 5)

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "micro_batch_size",
            "batch_tokens",
            "micro_batch_tokens",
            "warmup_steps",
            "decay_steps",
            "ema_tokens",
            "lora_rank",
            "lora_alpha",
            "eval_every",
            "save_every",
            "log_every",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed must have 64 bits, got {self.seed}")
        if not (self.learning_rate > 0 and self.clip_norm > 0 and self.weight_decay >= 0):
            raise ValueError("learning_rate and clip_norm must be positive, and weight_decay not negative")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")
        if self.optimizer == "muon" and self.lora_rank:
            raise ValueError(f"Muon trains whole matrices: with lora_rank={self.lora_rank} use optimizer='adamw'")
        if self.compile not in COMPILE:
            raise ValueError(f"compile must be one of {', '.join(map(str, COMPILE))}; got {self.compile!r}")
        if self.workers < -1:
            raise ValueError(f"workers must be a number of processes, or -1; got {self.workers}")
        if self.micro_batch_tokens and not self.batch_tokens:
            raise ValueError(f"micro_batch_tokens={self.micro_batch_tokens} needs batch_tokens; set both or neither")
        if self.batch_tokens and self.micro_batch_size:
            raise ValueError("a batch is measured in rows or in tokens: with batch_tokens use micro_batch_tokens")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; got {self.schedule!r}")
        if self.schedule != "wsd" and self.decay_steps:
            raise ValueError(f"decay_steps={self.decay_steps} is for schedule='wsd'; got {self.schedule!r}")
        if self.schedule == "wsd" and self.warmup + self.decay > self.steps:
            raise ValueError(
                f"a warm-up of {self.warmup} steps and a decay of {self.decay} do not fit into {self.steps}; "
                "lower warmup_steps or decay_steps, or raise steps"
            )
