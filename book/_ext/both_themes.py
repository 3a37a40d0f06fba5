"""Sphinx extension: figures of notebooks in the theme that the reader has.

Where a notebook's output has the dark picture of a figure as well (a3mini/notebook/plots/themes.py), the page gets
both. The theme's own classes show the fitting one, and a browser does not load the other: it is lazy, and has no place.
"""

import base64
import hashlib
from pathlib import Path

import nbformat
from docutils import nodes

from a3mini.notebook.plots.themes import DARK


def dark_pictures(notebook: Path) -> dict[str, bytes]:
    """By the hash of the light picture, which is how myst-nb names it: the dark one."""
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", ()):
            about = output.get("metadata", {}).get("image/png", {})
            if DARK in about:
                light, dark = (base64.b64decode(picture) for picture in (output.data["image/png"], about[DARK]))
                found[hashlib.sha256(light).hexdigest()] = dark
    return found


def pair(light: nodes.image, dark: nodes.image, dark_uri: str) -> nodes.image:
    """Tells two equal pictures when they are shown, and the second one where it is."""
    dark["uri"] = dark_uri
    # no link to the file: around the hidden one it would be empty, and the page itself opens figures (reading.js)
    light["classes"] = [*light.get("classes", ()), "only-light", "no-scaled-link"]
    dark["classes"] = [*dark.get("classes", ()), "only-dark", "no-scaled-link"]
    light["loading"] = dark["loading"] = "lazy"
    return dark


def add_dark(app, doctree) -> None:
    """Before Sphinx collects the pictures: ``priority`` below. An EPUB and paper have the light ones alone."""
    notebook = Path(app.env.doc2path(app.env.docname))
    if app.builder.name != "html" or notebook.suffix != ".ipynb":
        return
    dark = dark_pictures(notebook)
    for image in list(doctree.findall(nodes.image)):
        here = Path(image["uri"])
        if here.stem not in dark:
            continue
        name = f"{hashlib.sha256(dark[here.stem]).hexdigest()}.png"
        folder = notebook.parent / here.parent if not here.is_absolute() else Path(app.srcdir) / str(here.parent)[1:]
        (folder / name).write_bytes(dark[here.stem])
        image.parent.insert(image.parent.index(image) + 1, pair(image, image.deepcopy(), str(here.with_name(name))))


def setup(app) -> dict:
    app.connect("doctree-read", add_dark, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
