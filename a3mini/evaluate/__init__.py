"""How good a model is; one file per kind of evidence::

    held_out        losses under several groupings
    intervals       confidence intervals over examples
    stories         filling a sentence of a story, scored by ROUGE and by likelihood
    quality         what a judge thinks of a text, beside entropy and distinct runs
    fillers         the systems that fill it: A3, masked diffusion, copies
    continuations   the same for autoregression
    row_lm          the requests of lm-eval as rows of tokens
    harness         A3 and masked diffusion as models of lm-eval
    questions       the questions of the paper's five tasks
    local_tasks     these tasks for lm-eval

The last six are not loaded with the package: ``fillers`` and ``continuations`` need the extra ``train``, the others the
extra ``eval``.
"""

from a3mini.evaluate import intervals, quality, stories
from a3mini.evaluate.held_out import GROUPINGS, HeldOut, draw, token_losses
from a3mini.evaluate.intervals import Interval

__all__ = ["GROUPINGS", "HeldOut", "Interval", "draw", "intervals", "quality", "stories", "token_losses"]
