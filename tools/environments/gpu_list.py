"""What is outstanding on a GPU, most valuable first: the list that ``gpu_run`` works through.

An item that is done is taken out of here with the commit that brings its results. Commands are run from the root of the
repository. In them stand for themselves: {python}; {out}, the item's own folder; {lab}, the folder of prepared texts;
{seconds}, how long the item has, less a margin to end in. ``A3_RESULTS`` is {out}, so that ``benchmarks/record.py``
writes there; so do the trainings that ``benchmarks/kept.py`` keeps, from which an item that was cut goes on.
"""

from typing import NamedTuple

TRAINING = ("torch", "transformers", "accelerate", "peft", "safetensors", "tqdm")  # modules that every item imports
LAB_RUN = "{python} benchmarks/gpu_lab.py run --lab {lab} --out {out}"


class Item(NamedTuple):
    """One piece of work.

    Attributes:
        name: of the item, and of its folder unless ``folder`` says otherwise.
        question: what it answers.
        command: how it is run; "": in a rehearsal only.
        most: seconds after which it is stopped.
        least: seconds without which it is not worth to begin, but in a rehearsal.
        writes: files below its folder that are there when it is done.
        needs: what must be there: modules, or names of ``gpu_run.CARRIED``.
        smoke: the same on a CPU, at the smallest size; "": not rehearsed.
        smoke_writes, smoke_needs: likewise.
    """

    name: str
    question: str
    command: str
    most: int
    least: int
    writes: tuple[str, ...]
    needs: tuple[str, ...]
    smoke: str = ""
    smoke_writes: tuple[str, ...] = ()
    smoke_needs: tuple[str, ...] = ()
    folder: str = ""


ITEMS = (
    Item(
        "texts",
        "does preparing texts work? On a GPU machine they are carried",
        command="",
        most=120,
        least=10,
        writes=(),
        needs=(),
        smoke="{python} benchmarks/gpu_lab.py prepare --smoke --out {lab}",
        smoke_needs=(*TRAINING, "gguf", "weights", "andersen"),
    ),
    Item(
        "gpu_check",
        "is everything right on this GPU? (`make gpu-check`)",
        command="{python} -m tools.environments.gpu_check",
        most=360,
        least=150,
        writes=("gpu.json",),
        needs=(*TRAINING, "gguf", "weights", "andersen", "pytest", "hypothesis"),
        smoke="{python} -m tools.environments.gpu_check --rehearse",
        smoke_needs=(*TRAINING, "pytest", "hypothesis"),
    ),
    Item(
        "long",
        "what does a warm SmolLM2 become in all the time there is?",
        command=LAB_RUN + " --arms long --batch 128 --seconds {seconds}",
        most=420,
        least=150,
        writes=("gpu_lab.json", "long/adapter.safetensors"),
        needs=(*TRAINING, "gguf", "weights", "text"),
        smoke=LAB_RUN + " --arms long --smoke",
        smoke_writes=("gpu_lab.json", "long/adapter.safetensors"),
        smoke_needs=(*TRAINING, "text"),
        folder="gpu_lab",
    ),
    Item(
        "compact",
        "what does a compact model become from scratch, beside its twins?",
        command=LAB_RUN + " --arms compact compact_ar compact_diffusion --batch 128 --seconds {seconds}",
        most=240,
        least=100,
        writes=("gpu_lab.json", "compact/model.safetensors"),
        needs=(*TRAINING, "text"),
        smoke=LAB_RUN + " --arms compact compact_ar compact_diffusion --smoke",
        smoke_writes=("gpu_lab.json", "compact/model.safetensors"),
        smoke_needs=(*TRAINING, "text"),
        folder="gpu_lab",
    ),
    Item(
        "recipe",
        "what does each choice of the training change, alone? A million tokens an arm, two seeds",
        command="{python} benchmarks/recipe.py --steps 512 --seeds 2",
        most=660,
        least=150,
        writes=("recipe.json",),
        needs=(*TRAINING, "andersen", "bible"),
        smoke="{python} benchmarks/recipe.py --smoke",
        smoke_needs=(*TRAINING, "andersen", "bible"),
    ),
    Item(
        "puzzles_9",
        "who solves sudokus of 9 x 9, and in which order?",
        command="{python} benchmarks/puzzles.py --size 9 --seeds 1",
        most=660,
        least=150,
        writes=("puzzles_9.json",),
        needs=TRAINING,
        smoke="{python} benchmarks/puzzles.py --smoke",
        smoke_needs=TRAINING,
    ),
    Item(
        "repetition",
        "who overfits when a million tokens come again, up to 64 times, and when?",
        command="{python} benchmarks/repetition.py --tokens 1000000 --size compact",
        most=660,
        least=120,
        writes=("repetition.json",),
        needs=(*TRAINING, "andersen", "bible"),
        smoke="{python} benchmarks/repetition.py --smoke",
        smoke_needs=(*TRAINING, "andersen", "bible"),
    ),
    Item(
        "gpu_step",
        "how many tokens a second does a training step make, and where does its time go?",
        command="{python} benchmarks/gpu_step.py --budget {seconds}",
        most=200,
        least=60,
        writes=("gpu_step.json",),
        needs=TRAINING,
        smoke="{python} benchmarks/gpu_step.py --smoke --budget 10",
        smoke_needs=TRAINING,
    ),
    Item(
        "flex",
        "which attention kernel is fastest, at which length?",
        command="{python} benchmarks/flex.py",
        most=60,
        least=30,
        writes=("flex.json",),
        needs=TRAINING,
        smoke="{python} benchmarks/flex.py --lengths 128 --rounds 1",
        smoke_needs=TRAINING,
    ),
)
