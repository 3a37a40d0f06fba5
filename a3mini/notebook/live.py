"""The loss of a run while it trains: a figure that follows the run's folder.

``train`` writes a line into metrics.jsonl after every logged step. Here a thread reads that file now and then and
draws it anew in the notebook. So the training loop knows nothing of figures, a run that goes on from a checkpoint
shows its whole history, and a run in another process can be watched the same way.
"""

import json
import threading
import warnings
from pathlib import Path

from IPython.display import display
from matplotlib.figure import Figure

from a3mini import runs
from a3mini.notebook import plots
from a3mini.train.curriculum import Curriculum

WAITING = "waiting for the first logged step ..."


class Progress:
    """What a run's folder says at this moment.

    Args:
        folder: of a run; it may be empty, or not be there yet.

    Attributes:
        metrics: the complete lines of metrics.jsonl; a line that is being written is left out.
        steps: of the whole training; 0: not known yet.
        stages: name of a stage of the curriculum to the share of the training where it ends; empty: no curriculum.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        lines = _read(folder / "metrics.jsonl").split("\n")[:-1]  # behind the last newline a line may be unfinished
        record = json.loads(_read(folder / "run.json") or "{}")
        self.metrics = [json.loads(line) for line in lines]
        self.steps = record.get("training", {}).get("steps", 0)
        curriculum = Curriculum(**record["curriculum"]) if "curriculum" in record else None
        names = [stage.name for stage in curriculum.stages] if curriculum else []
        self.stages = dict(zip(names, curriculum.boundaries if curriculum else [], strict=True))

    def __str__(self) -> str:
        trained = [line for line in self.metrics if "loss" in line]
        if not trained:
            return WAITING
        last = trained[-1]
        speed = last["tokens"] / max(last["seconds"], 1e-9)
        left = (self.steps - last["step"]) * last["seconds"] / last["step"]
        return (
            f"step {last['step']} of {self.steps}, {last['tokens']:,} tokens, {speed:,.0f} tokens per second, "
            f"loss {last['loss']:.2f} nats per token; training left: {_duration(left)}"
        )

    def figure(self) -> Figure:
        """Training loss as a line, held-out losses as marks, against the steps of the whole training.

        The figure belongs to no pyplot window, so that a thread may draw it while a cell draws another.
        """
        figure = Figure(figsize=(8, 3.8), layout="constrained")
        ax = figure.add_subplot()
        trained = {line["step"]: line["loss"] for line in self.metrics if "loss" in line}
        ax.plot(list(trained), list(trained.values()), color="#777777", linewidth=1, label="training, groups as drawn")
        names = dict.fromkeys(name for line in self.metrics for name in line if name not in runs.LOGGED)
        for number, name in enumerate(names):
            points = {line["step"]: line[name] for line in self.metrics if name in line}
            ax.plot(list(points), list(points.values()), label=name, clip_on=False, **plots.look(number, 5))
        plots.mark_stages(ax, self.stages, self.steps, fontsize=8)
        ax.set_xlim(0, max([self.steps, *trained]) or 1)
        ax.set(xlabel="step", ylabel="loss, nats per token")
        ax.set_title(str(self), fontsize=9, pad=18 if self.stages else 6)
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


class Follow:
    """Show a run while it trains, as the output of the cell: ``with live.Follow(folder): train(...)``.

    Args:
        folder: where the run writes.
        every: seconds between two looks.

    A figure that cannot be drawn never stops the training; a warning at the end says what went wrong.
    """

    def __init__(self, folder: str | Path, every: float = 2.0):
        if not every > 0:
            raise ValueError(f"every must be a positive number of seconds, got {every!r}")
        self.folder, self.every = Path(folder), every
        self._shown, self._handle, self._error = None, None, None
        self._done = threading.Event()

    def __enter__(self) -> "Follow":
        self._done.clear()
        self._handle = display(WAITING, display_id=True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self._done.set()
        self._thread.join()
        self.look()
        if self._error is not None:
            warnings.warn(f"the live loss of {self.folder} could not be shown: {self._error}", stacklevel=2)

    def _run(self) -> None:
        while not self._done.wait(self.every):
            self.look()

    def look(self) -> None:
        """Draw the figure anew if there is something new."""
        try:
            progress = Progress(self.folder)
            if progress.metrics and progress.metrics != self._shown:
                self._shown = progress.metrics
                if self._handle is not None:  # None outside of a notebook
                    self._handle.update(progress.figure())
        except Exception as error:  # a picture must never cost a training
            self._error = error


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
