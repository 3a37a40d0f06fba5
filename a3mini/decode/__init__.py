"""Everything that A3's factorisation allows at inference::

    generate                  group after group, in an order that is fixed before
    resample                  in an order that the model chooses
    resample_log_likelihood   the exact score of such an order
    infill                    the blanks of a text, which the model may end
    infill_log_likelihood     the exact score of such blanks
    leave_one_out             how well each token fits all others
    revise                    reopen the tokens that fit worst
    speculative.generate      ``generate`` at single tokens, in fewer passes

All return a ``Generation``, but for the three scores.

In reading order: ``sampling`` (logits to a token), ``cache`` and ``steps`` (one step of any decoding), ``trace`` (what
happened), ``blanks`` (of unknown length), ``groupwise``, ``limits`` (how many at a time) and ``dynamic``,
``infilling``, ``revision``, ``speculative``.
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
    revision=["Revision", "leave_one_out", "revise"],
)
