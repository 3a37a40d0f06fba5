"""Everything that A3's factorisation allows at inference::

    generate                  group after group, in an order that is fixed before
    resample                  in an order that the model chooses
    resample_log_likelihood   the exact score of such an order
    infill                    the blanks of a text
    leave_one_out             how well each token fits all others
    revise                    reopen the tokens that fit worst

All return a ``Generation``, but for the two scores. ``speculative.generate`` is ``generate`` at single tokens in fewer
passes. They stand on one step function and one cache (``steps``, ``cache``) and on one ``Sampler``.
"""

from a3mini.dynamic import resample, resample_log_likelihood
from a3mini.groupwise import Generation, generate
from a3mini.infilling import Infilling, infill
from a3mini.revision import Revision, leave_one_out, revise
from a3mini.sampling import Sampler
from a3mini.trace import Trace

__all__ = [
    "Generation",
    "Infilling",
    "Revision",
    "Sampler",
    "Trace",
    "generate",
    "infill",
    "leave_one_out",
    "resample",
    "resample_log_likelihood",
    "revise",
]
