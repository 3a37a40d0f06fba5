"""Training and adapting a model, on any device; needs the extra ``train``.

In reading order: ``curriculum`` (which groups a step sees), ``spare_room`` (blanks of unknown length), ``corpus``,
``tokens`` and ``data`` (documents to rows of tokens), ``words``, ``stream`` and ``packed`` (the same for much text:
fast, one document at a time, on the disk), ``overlap`` (with evaluation sets, which stay out), ``mixture`` (sources and
their weights), ``puzzles`` (sums and sudokus: answers that can be checked), ``recipes``
(rows to inputs and losses: any order, autoregression, masked diffusion), ``config`` (every number of a run),
``batches`` (what each step sees, made ahead), ``schedules`` (the learning rate), ``optimizers``, ``average`` (of the
weights on the way), ``lora`` (low-rank additions), ``memory``, ``kernels`` and ``devices`` (what fits where, and is
fast), ``compiling``, ``step`` (on the device), ``resume`` (a run's folder), ``interrupt`` (a training that is cut
short), ``loop``, which uses them all, and ``timing`` (how long it will take).
"""

from a3mini import lazy

__getattr__, __dir__, __all__ = lazy.names(
    __name__,
    ["corpus", "data", "devices", "kernels", "memory", "packed", "puzzles"],
    curriculum=["Curriculum", "Grouping", "Part", "Stage", "generator_for", "uniform"],
    data=["Blocks"],
    recipes=["AnyOrder", "Autoregressive", "MaskedDiffusion", "MaskedDiffusionModel"],
    config=["TrainConfig"],
    lora=["add_lora"],
    stream=["Stream"],
    overlap=["without_overlap"],
    mixture=["Mixture"],
    loop=["train"],
    timing=["forecast"],
)
