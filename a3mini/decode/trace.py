"""What a decoding did, step by step: enough to replay it without the model.

As JSON (``schema`` and ``version`` say how to read it)::

    {"schema": "a3mini/trace", "version": 1, "strategy": "generate", "settings": {...},
     "rows": [{"length": T, "passes": forward passes, "known": {"positions": [...], "tokens": [...]}, "steps": [...]}],
     "texts": {"17": " cat", ...}}                        only with a tokenizer

Each step of a row is one of::

    commit   tokens are written                 positions, tokens, log_probs, runners_up, group
    reject   tokens were proposed and not kept  positions, tokens, in the order of the draft
    reopen   tokens are taken out again         positions, tokens
    stop     the text ended before these, or    positions
             a blank did: they hold nothing

with ``passes``, the number of forward passes that the row has had by then. ``log_probs`` are the model's own, in
nats. ``runners_up`` lists, for every position, the likeliest other tokens as [token, log-probability]. A commit that
chose its positions also has ``considered``: every position that was asked, with the score that it was chosen by. That
grows with the square of the length where all open ones are asked; ``resample`` can leave it out.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

SCHEMA, VERSION = "a3mini/trace", 1
ACTIONS = ("commit", "reject", "reopen", "stop")


@dataclass
class Step:
    """One entry of a row's history; see the top of this file."""

    action: str
    passes: int
    positions: list[int]
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    runners_up: list[list[tuple[int, float]]] = field(default_factory=list)
    group: int | None = None
    considered: dict[str, list] | None = None


@dataclass
class Trace:
    """The history of every row of a batch.

    Attributes:
        strategy: which function decoded.
        settings: its arguments.
        length: T.
        known: per row, the tokens that were there before, by position.
        steps: per row, what happened.
    """

    strategy: str
    settings: dict[str, Any]
    length: int
    known: list[dict[int, int]]
    steps: list[list[Step]]

    @classmethod
    def begin(cls, strategy: str, settings: dict, tokens: Tensor, known: Tensor) -> "Trace":
        """An empty history of ``tokens`` (B, T), of which those at ``known`` (B, T) were there before."""
        rows = range(len(tokens))
        there = [dict(zip(known[b].nonzero()[:, 0].tolist(), tokens[b, known[b]].tolist(), strict=True)) for b in rows]
        return cls(strategy, settings, tokens.shape[1], there, [[] for _ in rows])

    def commit(
        self,
        at: Tensor,
        tokens: Tensor,
        log_probs: Tensor,
        passes: Tensor,
        group_ids: Tensor,
        runners_up: int = 0,
        scores: Tensor | None = None,
    ) -> None:
        """Add one commit per row.

        Args:
            at: bool, (B, T), the positions of the M tokens.
            tokens: int64, (M,), in the order of ``at.nonzero()``.
            log_probs: (M, V), the model's own.
            passes: int64, (B,).
            group_ids: int64, (B, T).
            runners_up: how many other tokens to keep per position.
            scores: (B, T), what the positions were chosen by; -inf where a position was not open.
        """
        row, position = at.nonzero().T.tolist()
        groups, passes = group_ids[at].tolist(), passes.tolist()
        values = log_probs.gather(-1, tokens[:, None])[:, 0].tolist()
        count = min(runners_up, log_probs.shape[-1] - 1)
        if count:
            others = log_probs.scatter(-1, tokens[:, None], float("-inf")).topk(count)
            pairs = [
                list(zip(*pair, strict=True))
                for pair in zip(others.indices.tolist(), others.values.tolist(), strict=True)
            ]
        else:
            pairs = [[] for _ in row]
        for number, (b, t, token) in enumerate(zip(row, position, tokens.tolist(), strict=True)):
            if number == 0 or row[number - 1] != b:
                step = Step("commit", passes[b], [], group=groups[number])
                if scores is not None:
                    open_positions = scores[b].isfinite().nonzero()[:, 0]
                    step.considered = {
                        "positions": open_positions.tolist(),
                        "scores": scores[b, open_positions].tolist(),
                    }
                self.steps[b].append(step)
            step.positions.append(t)
            step.tokens.append(token)
            step.log_probs.append(values[number])
            step.runners_up.append(pairs[number])

    def note(
        self, action: str, at: Tensor, passes: Tensor, tokens: Tensor | None = None, order: Tensor | None = None
    ) -> None:
        """Add a step without log-probabilities for every row that has a position in ``at`` (B, T).

        Positions are listed by ``order``, int64 (B, T), or from left to right.
        """
        for b in at.any(-1).nonzero()[:, 0].tolist():
            positions = at[b].nonzero()[:, 0]
            if order is not None:
                positions = positions[order[b, positions].argsort(stable=True)]
            there = [] if tokens is None else tokens[b, positions].tolist()
            self.steps[b].append(Step(action, int(passes[b]), positions.tolist(), there))

    @property
    def passes(self) -> list[int]:
        """How many forward passes each row took part in."""
        return [steps[-1].passes if steps else 0 for steps in self.steps]

    def row(self, number: int, length: int | None = None) -> "Trace":
        """The history of one row, cut to ``length`` positions where it was padded."""
        return Trace(self.strategy, self.settings, length or self.length, [self.known[number]], [self.steps[number]])

    def replay(self, steps: int | None = None) -> Tensor:
        """The tokens (B, T) after the first ``steps`` steps of each row (default: all); -1 where there is none."""
        tokens = torch.full((len(self.steps), self.length), -1)
        for b, known in enumerate(self.known):
            for position, token in known.items():
                tokens[b, position] = token
            for step in self.steps[b][:steps]:
                if step.action == "commit":
                    tokens[b, step.positions] = torch.tensor(step.tokens)
                elif step.action == "reopen":
                    tokens[b, step.positions] = -1
        return tokens

    def to_json(self, tokenizer=None) -> str:
        """The whole history as JSON; with a tokenizer also the text of every token in it."""

        def slim(step: Step) -> dict:
            return {name: value for name, value in vars(step).items() if value not in ([], None)}

        rows = [
            {
                "length": self.length,
                "passes": passes,
                "known": {"positions": list(known), "tokens": list(known.values())},
                "steps": list(map(slim, steps)),
            }
            for passes, known, steps in zip(self.passes, self.known, self.steps, strict=True)
        ]
        whole = {
            "schema": SCHEMA,
            "version": VERSION,
            "strategy": self.strategy,
            "settings": self.settings,
            "rows": rows,
        }
        if tokenizer is not None:
            ids = {token for known in self.known for token in known.values()}
            for step in (step for steps in self.steps for step in steps):
                ids.update(step.tokens, (token for others in step.runners_up for token, _ in others))
            whole["texts"] = {str(token): tokenizer.decode([token]) for token in sorted(ids)}
        return json.dumps(whole, allow_nan=False, default=lambda number: number.item())  # numpy's and torch's numbers

    @classmethod
    def from_json(cls, text: str) -> "Trace":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: not such a trace, or one of another version.
        """
        try:
            whole = json.loads(text)
            schema, version = whole["schema"], whole["version"]
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"this is not a trace: {error!r}") from error
        if (schema, version) != (SCHEMA, VERSION):
            raise ValueError(f"this is {schema} version {version}; this a3mini reads {SCHEMA} version {VERSION}")
        try:
            rows = whole["rows"]
            steps = [[Step(**step) for step in row["steps"]] for row in rows]
            for step in (step for row in steps for step in row):
                step.runners_up = [[tuple(pair) for pair in others] for others in step.runners_up]
            return cls(
                strategy=whole["strategy"],
                settings=whole["settings"],
                length=rows[0]["length"],
                known=[dict(zip(row["known"]["positions"], row["known"]["tokens"], strict=True)) for row in rows],
                steps=steps,
            )
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"this is not a trace: {error!r}") from error
