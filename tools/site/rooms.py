"""Draw book/_static/rooms.svg: the rooms of the package, what is in each, and which others it uses.

Files and arrows are read off the package's own imports, so the picture cannot say anything else than the code;
tests/test_house.py holds the imports to the order of ``ROOMS``. `make links` writes the picture.
"""

import ast
import re
import textwrap

from a3mini.notebook import theme
from tools import ROOT
from tools.site.cover import WIDTH, picture, text

PACKAGE = ROOT / "a3mini"
# From the ground up: a room uses those under it and no others. Name, what it is for, and the files that stand in no
# folder of their own; in reading order.
ROOMS = {
    "model": (
        "groups, masks, the model: read these first",
        "groups masks rows flat flex attention head model objective",
    ),
    "kept": ("how a model is kept and loaded", "runs adapter sources unpacked packaged eight_bit pretrained"),
    "train": ("curricula, texts, recipes, the loop", ""),
    "decode": ("every way to fill and to generate", ""),
    "evaluate": ("how good a model is", ""),
    "notebook": ("what notebooks and pages alone use", ""),
    "commands": ("the command a3mini", "cli config_file one_line loading using commands __main__"),
}
LOOSE = {file: room for room, (_, files) in ROOMS.items() for file in files.split()}
SHARED = {"lazy", "__version__", "EXTRA", "READER"}  # how every room gives its names, and what the package itself says
CHARACTERS, LINE, EDGE = 50, 19, 8  # of a line of file names; its height; around a room
COLOURS = dict(zip(ROOMS, theme.OKABE_ITO, strict=True))


def room(module: str) -> str:
    """The room of a module of the package, as "decode.cache" or "groups"."""
    first = module.split(".")[0]
    return LOOSE.get(first, first)


def imported(source: str) -> set[str]:
    """The modules of the package that a file imports, as "decode.cache" or "groups"."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "a3mini":
            inside = node.module.partition(".")[2]
            found |= {inside} if inside else {alias.name for alias in node.names}
    return found - SHARED


def files(name: str) -> list[str]:
    """What stands in a room: the reading order of its docstring, where it has a folder."""
    if listed := ROOMS[name][1].split():
        return [file for file in listed if not file.startswith("__")]
    folder = PACKAGE / name
    found = {path.stem for path in folder.glob("[a-z]*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    order = ["".join(either) for either in re.findall(r"``(\w+)``|^    (\w+) ", said, re.MULTILINE)]
    return sorted(found, key=order.index)  # a file that the docstring leaves out is an error


def uses(name: str) -> list[str]:
    """The other rooms that a room imports from, from the ground up."""
    own = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    own = [path for path in own if room(".".join(path.relative_to(PACKAGE).with_suffix("").parts)) == name]
    found = {room(module) for path in own for module in imported(path.read_text(encoding="utf-8"))}
    return [other for other in ROOMS if other in found - {name}]


def chip(x: float, y: float, name: str) -> tuple[str, float]:
    """A room's name in its colour, and where it ends."""
    colour, width = COLOURS[name], 8.5 * len(name) + 12
    box = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="20" rx="10" fill="{colour}"/>'
    return box + text(x + width / 2, y + 15, name, look=f'fill="{theme.ink(colour)}"', middle=True), x + width


def draw() -> str:
    y, parts, said = 4, [], []
    for name in reversed(ROOMS):
        about, left = ROOMS[name][0], 2 * EDGE + 8
        rows = textwrap.wrap(", ".join(files(name)), CHARACTERS)
        height = 56 + LINE * len(rows) + (30 if uses(name) else 6)
        shape = f'x="{EDGE}" y="{y}" height="{height}" rx="4"'
        parts.append(f'<rect class="ground line" width="{WIDTH - 2 * EDGE}" {shape}/>')
        parts.append(f'<rect fill="{COLOURS[name]}" width="8" {shape}/>')
        title = f"a3mini/{name}/" if (PACKAGE / name).is_dir() else f"a3mini/ ({name})"
        parts.append(text(left, y + 24, title, 17, bold=True))
        parts.append(text(left, y + 44, about, look='class="muted"'))
        parts += [text(left, y + 66 + LINE * row, line) for row, line in enumerate(rows)]
        if uses(name):
            at = y + height - 28
            parts.append(text(left, at + 15, "uses", look='class="muted"'))
            end = left + 32
            for other in uses(name):
                drawn, end = chip(end + 6, at, other)
                parts.append(drawn)
        stands_on = f"uses {', '.join(uses(name))}" if uses(name) else "uses no other room"
        said.append(f"{name}, {about}: {', '.join(files(name))}; {stands_on}.")
        y += height + 8
    description = " ".join(["From the top down, each room uses only rooms under it.", *said])
    return picture("rooms", "The rooms of a3mini", description, y, parts)
