"""How good a model is; one file per kind of evidence, in reading order::

    held_out        losses under several groupings
    rivals          what autoregression and masked diffusion think of a text
    intervals       confidence intervals over examples
    stories         filling a sentence of a story, scored by ROUGE and by likelihood
    quality         what a judge thinks of a text, beside entropy and distinct runs
    fillers         the systems that fill it: A3, masked diffusion, copies
    continuations   the same for autoregression
    row_lm          the requests of lm-eval as rows of tokens
    harness         A3 and masked diffusion as models of lm-eval
    questions       the questions of the paper's five tasks
    local_tasks     these tasks for lm-eval

The last four need the extra ``eval``.
"""

from a3mini import lazy

__getattr__, __dir__, __all__ = lazy.names(
    __name__,
    ["intervals", "quality", "stories"],
    held_out=["GROUPINGS", "HeldOut", "draw", "token_losses"],
    rivals=[
        "autoregressive_log_likelihood",
        "bound_score",
        "diffusion_bound",
        "diffusion_log_likelihood",
        "diffusion_sample",
    ],
    intervals=["Interval"],
)
