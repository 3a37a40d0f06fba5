"""a3mini: the A3 any-order language model, step by step.

The files, in reading order; each uses only those before it:
groups, masks, rows, cache, flex, model, runs, adapter, pretrained, objective, curriculum, data, memory, devices,
resume, train, sampling, trace, steps, groupwise, dynamic, infilling, revision, decode, speculative, baselines,
evaluate, cli.
For notebooks alone: theme, plots, live, explorers, checks. ``train``, ``baselines`` and ``cli`` are not loaded with the
package, for they need more packages: the extra ``train``.
"""

from a3mini import curriculum, data, decode, evaluate, groups, masks, objective, pretrained, runs, speculative
from a3mini.curriculum import Curriculum
from a3mini.model import A3Config, A3ForCausalLM, A3Output
from a3mini.pretrained import from_autoregressive

__version__ = "0.1.0"
__all__ = [
    "A3Config",
    "A3ForCausalLM",
    "A3Output",
    "Curriculum",
    "curriculum",
    "data",
    "decode",
    "evaluate",
    "from_autoregressive",
    "groups",
    "masks",
    "objective",
    "pretrained",
    "runs",
    "speculative",
]
