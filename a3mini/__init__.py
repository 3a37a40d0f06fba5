"""a3mini: the A3 any-order language model, step by step.

The files, in reading order; each uses only those before it:
groups, masks, rows, model, pretrained, objective, data. For notebooks alone: plots, checks.
"""

from a3mini import groups, masks, objective, pretrained
from a3mini.model import A3Config, A3ForCausalLM, A3Output
from a3mini.pretrained import from_autoregressive

__version__ = "0.1.0"
__all__ = [
    "A3Config",
    "A3ForCausalLM",
    "A3Output",
    "from_autoregressive",
    "groups",
    "masks",
    "objective",
    "pretrained",
]
