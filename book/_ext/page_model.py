"""Sphinx extension: the compact model lies beside the pages, for the playground to fetch when a reader asks for it.

Twice: as it is, and as a script with the same bytes, for a page that was opened from the disk may read no other file.
"""

import base64
from pathlib import Path

from a3mini.notebook.explorers import playground


def put_beside(app, error) -> None:
    if error or app.builder.format != "html":
        return
    static, name = Path(app.outdir) / "_static", playground.site_name()
    weights = playground.compact_file().read_bytes()
    (static / name).write_bytes(weights)
    script = f'globalThis.a3CompactModel = "{base64.b64encode(weights).decode()}";\n'
    (static / f"{name}.js").write_text(script, encoding="ascii")


def setup(app) -> dict:
    app.connect("build-finished", put_beside)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
