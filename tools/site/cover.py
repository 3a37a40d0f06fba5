"""Draw book/_static/cover.svg: one sentence, its groups, what each group sees, and other groupings.

Groups, masks and colours are the package's own, so the picture cannot say anything else than the code.

`make links` writes it, and the picture of the rooms (rooms.py), which has its colours and its frame from here.
"""

import re
from html import escape
from itertools import groupby

import torch

from a3mini import groups, masks
from a3mini.notebook import theme

WORDS = "Tom lost his red toy car".split()
GROUPS = torch.tensor([1, 1, 1, 3, 2, 2])
BLANK = torch.tensor([False, False, True, True, False, False])
OTHERS = {  # what a reader may know already, as group ids
    "left to right: autoregression": groups.left_to_right(6, given=0),
    "one by one, in any order": torch.tensor([4, 1, 6, 2, 5, 3]),
    "blocks, in parallel": groups.blocks(6, 2, given=0),
    "a step of masked diffusion": groups.two_groups(torch.tensor([True, False, True, True, False, True])),
    "infilling, word by word": groups.infill(BLANK),
}
# Text is at least 14 of 400 units: on a phone, where the picture is 350 px wide, 12 px.
WIDTH, LEFT, STEP, GAP = 400, 8, 64, 4
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"
DESCRIPTION = (
    'The sentence "Tom lost his red toy car" in three groups: group 1 is Tom, lost, his; group 2 is toy, car; group 3 '
    "is red. First group 1 is predicted from nothing, then group 2 from group 1, then group 3 from groups 1 and 2. "
    "Other groupings are other models: left to right, any order, blocks, a step of masked diffusion, infilling."
)


def colour(group: int) -> str:
    return theme.GIVEN if group == groups.GIVEN else theme.OKABE_ITO[group - 1]


def style() -> str:
    """The colours that differ between the themes. The site tells the picture its theme through `color-scheme`."""

    def rules(tokens: dict[str, str]) -> str:
        found = [f".{name} {{ fill: {tokens[name]} }}" for name in ("ink", "muted", "ground", "hidden")]
        return " ".join([*found, f".line {{ stroke: {tokens['line']} }} .edge {{ stroke: {tokens['ink']} }}"])

    return f"<style>{rules(theme.LIGHT)}\n@media (prefers-color-scheme: dark) {{ {rules(theme.DARK)} }}</style>"


def text(x: float, y: float, content: str, size: int = 14, look: str = 'class="ink"', bold=False, middle=False) -> str:
    weight = ' font-weight="600"' if bold else ""
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" {look}{weight}{anchor}>{escape(content)}</text>'


def cell(x: float, y: float, width: float, height: float, content: str, look: str, inset: float = 0, size: int = 16):
    """A box with a word; ``look`` is its attributes, ``inset`` half of its edge."""
    filled = re.match(r'fill="(#\w+)"', look)
    box = (
        f'<rect x="{x + inset:g}" y="{y + inset:g}" width="{width - 2 * inset:g}" height="{height - 2 * inset:g}" '
        f'rx="5" {look}/>'
    )
    if not content:
        return box
    ink = f'fill="{theme.ink(filled[1])}"' if filled else 'class="ink"'
    return box + text(x + width / 2, y + height / 2 + size * 0.35, content, size, ink, bold=True, middle=True)


def seen(group: int) -> str:
    return f'fill="{colour(group)}"'


def predicted(group: int | None = None) -> str:
    edge = 'class="ground edge"' if group is None else f'class="ground" stroke="{colour(group)}"'
    return f'{edge} stroke-width="3"'


UNKNOWN = 'class="hidden line" stroke-dasharray="3 3"'


def picture(name: str, title: str, description: str, height: int, parts: list[str]) -> str:
    """A whole SVG file of the parts."""
    drawn = "\n".join(parts)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" \
role="img" aria-labelledby="{name}-title {name}-desc">
<title id="{name}-title">{title}</title>
<desc id="{name}-desc">{escape(description)}</desc>
{style()}
<rect class="ground" width="{WIDTH}" height="{height}"/>
<g font-family="{FONT}">
{drawn}
</g>
</svg>
"""


def draw() -> str:
    ids, y, parts = GROUPS.tolist(), 0, []
    at = [LEFT + STEP * position for position in range(len(WORDS))]
    box = STEP - GAP

    parts.append(text(LEFT, y + 24, "1. Put the words into groups", 17, bold=True))
    for x, word, group in zip(at, WORDS, ids, strict=True):
        parts.append(cell(x, y + 36, box, 34, word, seen(group)))
    for group, run in groupby(zip(at, ids, strict=True), key=lambda pair: pair[1]):
        places = [x for x, _ in run]
        left, right = places[0], places[-1] + box
        path = f"M{left + 2} {y + 75}v5H{right - 2}v-5"
        parts.append(f'<path d="{path}" fill="none" stroke="{colour(group)}" stroke-width="2.5"/>')
        parts.append(text((left + right) / 2, y + 97, f"group {group}", middle=True))

    y = 118
    parts.append(text(LEFT, y + 24, "2. Predict one group after the other", 17, bold=True))
    sees = masks.query_mask(GROUPS[None])[0]
    for step, group in enumerate(sorted(set(ids))):
        row = y + 38 + 62 * step
        visible = sees[ids.index(group)].tolist()
        known = sorted({other for other, shown in zip(ids, visible, strict=True) if shown})
        names = f"group{'s' * (len(known) > 1)} {' and '.join(map(str, known))}" if known else "nothing"
        parts.append(text(LEFT, row + 12, f"Group {group} sees {names}:", look='class="muted"'))
        for position, (x, word) in enumerate(zip(at, WORDS, strict=True)):
            if ids[position] == group:
                parts.append(cell(x, row + 20, box, 32, word, predicted(group), 1.5))
            elif visible[position]:
                parts.append(cell(x, row + 20, box, 32, word, seen(ids[position])))
            else:
                parts.append(cell(x, row + 20, box, 32, "", UNKNOWN, 0.5))
    y += 38 + 62 * 3
    x = LEFT
    for look, inset, name, width in (
        (seen(1), 0, "seen", 66),
        (predicted(), 1.5, "predicted, all at once", 176),
        (UNKNOWN, 0.5, "not yet there", 0),
    ):
        parts.append(cell(x, y + 1, 16, 16, "", look, inset))
        parts.append(text(x + 21, y + 14, name, look='class="muted"'))
        x += width

    y += 34
    parts.append(text(LEFT, y + 24, "3. Other groups, other models", 17, bold=True))
    for row, (name, group_ids) in enumerate(OTHERS.items()):
        top = y + 37 + 29 * row
        for position, group in enumerate(group_ids.tolist()):
            parts.append(cell(LEFT + 25 * position, top, 23, 23, str(group), seen(group), size=14))
        parts.append(text(LEFT + 162, top + 16.5, name, 15))
    y += 37 + 29 * len(OTHERS)
    parts.append(text(LEFT, y + 15, "The number is the group. 0: given, not predicted.", look='class="muted"'))
    return picture("cover", "A3 in one picture", DESCRIPTION, y + 28, parts)
