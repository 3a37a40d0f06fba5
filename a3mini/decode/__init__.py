"""Everything that A3's factorisation allows at inference::

    generate                  group after group, in an order that is fixed before
    resample                  in an order that the model chooses
    resample_log_likelihood   the exact score of such an order
    infill                    the blanks of a text, which the model may end
    infill_log_likelihood     the exact score of such blanks
    leave_one_out             how well each token fits all others
    revise                    reopen the tokens that fit worst
    revise_text               the same for a text, in words
    rewrite                   other ways to write a stretch of a text, ranked
    speculative.generate      ``generate`` at single tokens, in fewer passes

All return a ``Generation``, but for the three scores and ``rewrite``.

In reading order: ``sampling`` (logits to a token), ``cache`` and ``steps`` (one step of any decoding), ``trace`` (what
happened), ``blanks`` (of unknown length), ``groupwise``, ``limits`` (how many at a time) and ``dynamic``,
``infilling``, ``revision``, ``rewriting``, ``speculative``.
"""

from a3mini import lazy

__getattr__, __dir__, __all__ = lazy.names(
    __name__,
    ["speculative"],
    sampling=["Sampler"],
    trace=["Trace"],
    blanks=["Rooms"],
    groupwise=["Generation", "generate"],
    dynamic=["resample", "resample_log_likelihood"],
    infilling=["Infilling", "infill", "infill_log_likelihood"],
    revision=["Change", "Revision", "leave_one_out", "revise"],
    rewriting=["Alternative", "RevisedText", "revise_text", "rewrite"],
)
