"""a3mini: the A3 any-order language model, step by step.

The model, to be read first, from top to bottom:
groups, masks, rows, flat, flex, attention, head, model, objective.
How it is kept and loaded: runs, adapter, sources, unpacked, packaged, eight_bit, pretrained;
``models`` holds those that ship.

The rooms, each of which uses only what stands before it:
``train`` (needs the extra ``train``), ``decode``, ``evaluate``, and ``notebook``, for notebooks and pages alone.
The command ``a3mini``: cli, config_file, one_line, loading, using (evaluate, infill,
rewrite, revise), commands (train and adapt).
"""

from a3mini import lazy

__version__ = "0.2.0"
EXTRA = 'pip install "a3mini[train]"'  # brings everything that README shows
READER = 'pip install "a3mini[smollm2]"'  # what SmolLM2 and the shipped adapters need, and no more
# A name is loaded when it is first used, so that ``import a3mini`` alone does not even load torch.
__getattr__, __dir__, __all__ = lazy.names(
    __name__,
    ["adapter", "decode", "eight_bit", "evaluate", "groups", "masks", "objective", "pretrained", "runs", "train"],
    model=["A3Config", "A3ForCausalLM", "A3Output"],
    pretrained=["from_autoregressive"],
    decode=["speculative"],
    train=["Curriculum"],
)
