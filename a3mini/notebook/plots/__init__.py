"""Matplotlib figures of the notebooks; nothing in the core uses them.

``style`` (the one look), ``themes`` (light and dark), ``sight`` (groups and masks), ``charts`` (losses, costs, orders
of decoding).

The colours are those of ``theme``, which the interactive figures share. No figure relies on colour alone.
Figures have a white ground; the site draws each a second time, for its dark theme. Every function returns the figure,
so a notebook cell that ends with a call shows it once. A function that draws on axes it was given leaves the figure
open: a cell with several such calls ends with ``plt.show()``.
"""

from a3mini.notebook.plots.charts import (
    against_passes,
    bars,
    draft_and_target,
    fill_orders,
    lines,
    look,
    loss_curves,
    mark_stages,
    trade_off,
)
from a3mini.notebook.plots.sight import both_masks, group_colours, group_strip, group_strips, mask, mask_grid
from a3mini.notebook.plots.style import CONTENT_COLOUR, OKABE_ITO, QUERY_COLOUR, use_style

__all__ = [
    "CONTENT_COLOUR",
    "OKABE_ITO",
    "QUERY_COLOUR",
    "against_passes",
    "bars",
    "both_masks",
    "draft_and_target",
    "fill_orders",
    "group_colours",
    "group_strip",
    "group_strips",
    "lines",
    "look",
    "loss_curves",
    "mark_stages",
    "mask",
    "mask_grid",
    "trade_off",
    "use_style",
]
