"""The colours of all figures, drawn by matplotlib or by an explorer: they stand here and nowhere else.

The colours of groups and lines are Okabe and Ito's, which colour-blind readers can tell apart. No figure relies on
colour alone. Okabe, M. and Ito, K. (2008), Color Universal Design.
"""

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
# More groups than colours: cividis, from dark to light. Colours at equal distances; between them, a straight line.
CIVIDIS = ("#00224E", "#35456C", "#666970", "#948E77", "#C8B866", "#FEE838")
GIVEN, PADDING, HIDDEN = "#9A9A9A", "#FFFFFF", "#F1F1F1"
CONTENT, QUERY = OKABE_ITO[0], OKABE_ITO[1]

# What explorers draw on the page's own ground. Each ink has a contrast of at least 4.5 to 1 on each ground.
LIGHT = {
    "ink": "#1F2328",
    "muted": "#57606A",
    "ground": "#FFFFFF",
    "panel": "#F6F8FA",
    "line": "#8C959F",
    "hidden": HIDDEN,
    "padding": PADDING,
    "accent": "#005A8C",
    "on-accent": "#FFFFFF",
    "good": "#006B4E",
    "bad": "#A23B00",
    "cold": "#F3F6F9",
    "warm": "#0B3C5D",
}
DARK = {
    "ink": "#E6E8EB",
    "muted": "#A9B1BA",
    "ground": "#14181E",
    "panel": "#1D232B",
    "line": "#6E7781",
    "hidden": "#2A313A",
    "padding": "#14181E",
    "accent": "#7CC4EE",
    "on-accent": "#0B1620",
    "good": "#4CC9A0",
    "bad": "#FF9A6B",
    "cold": "#1D232B",
    "warm": "#8CD0F5",
}


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of ``#RRGGBB``, 0 to 255."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2)."""
    parts = [c / 255 for c in channels(colour)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """How well the two colours stand apart: 1 (not at all) to 21; text needs 4.5 (WCAG 2).

    Example:
        >>> round(contrast("#000000", "#ffffff"))
        21
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


GREY = 24  # channels no further apart than this have no hue worth keeping


def mixed(colour: str, other: str, share: float) -> str:
    pairs = zip(channels(colour), channels(other), strict=True)
    return "#{:02X}{:02X}{:02X}".format(*(round(a + (b - a) * share) for a, b in pairs))


def darkened(colour: str, least: float, area: bool = False) -> str:
    """A colour of a light figure in the dark theme; its contrast with the ground is at least ``least``.

    Greys go from white and black to the dark ground and ink; those that fill an area do so near white and black alone,
    since given tokens are grey in both themes. A hue stays, mixed with white as far as needed. A pale tint of white
    becomes a pale tint of the dark ground.

    Example:
        >>> darkened("#FFFFFF", 1), darkened("#9A9A9A", 1.5, area=True), darkened("#E69F00", 3)
        ('#14181E', '#9A9A9A', '#E69F00')
    """
    own, ground = channels(colour), DARK["ground"]
    if max(own) - min(own) <= GREY:
        if area and 40 < sum(own) / 3 < 225:
            return colour
        return mixed(ground, DARK["ink"], 1 - sum(own) / 765)
    if min(own) > 200:
        strongest = [round(255 * (c - min(own)) / (max(own) - min(own))) for c in own]
        return mixed(ground, "#{:02X}{:02X}{:02X}".format(*strongest), 0.18)
    share = next(step / 20 for step in range(21) if contrast(mixed(colour, "#FFFFFF", step / 20), ground) >= least)
    return mixed(colour, "#FFFFFF", share)


def ink(colour: str) -> str:
    """Black or white, whichever reads better on ``colour``; the contrast is at least 4.5."""
    return max(("#000000", "#FFFFFF"), key=lambda ink: contrast(ink, colour))


def shades(count: int) -> list[str]:
    """One colour for each of ``count`` groups or lines, in order."""
    if count <= len(OKABE_ITO):
        return list(OKABE_ITO[:count])
    found = []
    for number in range(count):
        place = number / (count - 1) * (len(CIVIDIS) - 1)
        low = min(int(place), len(CIVIDIS) - 2)
        pairs = zip(channels(CIVIDIS[low]), channels(CIVIDIS[low + 1]), strict=True)
        mixed = [int(a + (b - a) * (place - low) + 0.5) for a, b in pairs]  # as common.js rounds
        found.append("#{:02X}{:02X}{:02X}".format(*mixed))
    return found
