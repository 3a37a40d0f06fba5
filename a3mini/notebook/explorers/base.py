"""What all explorers share: one ES module, two faces.

Where a kernel runs (Colab, JupyterLab, VS Code), an explorer is an anywidget: its traits live in Python and in the
page, and a change on one side reaches the other. Where none runs (the published book), the same module and the
same traits stand in the page itself, as ``text/html`` that loads nothing. All logic is in the module, so both
faces do the same; Python only computes the traits.

An explorer's module imports from ./base.js. A widget has to be a single file, so ``bundle`` puts both into one.
"""

import json
import re
import uuid
from pathlib import Path

import anywidget
import torch
import traitlets

from a3mini import groups
from a3mini.notebook import page, theme

STREAMS = (2, 3, 4, 6, 8)
HERE = Path(__file__).resolve().parent
IMPORT = r'^import \{[^}]*\} from "\.{1,2}/([\w/]+)\.js";\n'

# Runs in the page without a kernel. It offers the module what anywidget's model offers, on a plain object.
PAGE = """\
(() => {{
  const el = document.getElementById("{name}");
  const {{ kind, module, css, state }} = JSON.parse(el.nextElementSibling.textContent);
  const listeners = new Map();
  const heard = (event) => listeners.get(event) ?? listeners.set(event, new Set()).get(event);
  const model = {{
    get: (name) => state[name],
    set: (name, value) => {{
      if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
      state[name] = value;
      [...heard(`change:${{name}}`)].forEach((listener) => listener());
    }},
    on: (event, listener) => heard(event).add(listener),
    off: (event, listener) => heard(event).delete(listener),
    save_changes: () => {{}},
  }};
  const id = `a3-style-${{kind}}`;
  if (!document.getElementById(id)) {{
    document.head.append(Object.assign(document.createElement("style"), {{ id, textContent: css }}));
  }}
  el.dataset.a3Face = "page";
  const url = URL.createObjectURL(new Blob([module], {{ type: "text/javascript" }}));
  import(url).then((explorer) => explorer.default.render({{ model, el }})).finally(() => URL.revokeObjectURL(url));
}})();"""


def bundle(name: str, *parts: str, **texts: str) -> str:
    """The ES module ``{name}.js`` as one text, which imports nothing.

    Args:
        name: of the explorer.
        parts: other modules beside base.js that it imports, in an order in which none needs a later one.
        texts: constants that one of them reads, by name.

    Raises:
        ValueError: it imports something else, or one of them not at all.
    """
    colours = {
        "okabe_ito": theme.OKABE_ITO,
        "cividis": theme.CIVIDIS,
        "given": theme.GIVEN,
        "padding": theme.PADDING,
        "content": theme.CONTENT,
        "query": theme.QUERY,
        "light": theme.LIGHT,
        "dark": theme.DARK,
    }
    module = (HERE / f"{name}.js").read_text(encoding="utf-8")
    needed = ["base", *parts]
    if sorted(re.findall(IMPORT, module, flags=re.MULTILINE)) != sorted(part.removeprefix("../") for part in needed):
        raise ValueError(
            f"{name}.js must import from {' and '.join(f'{part}.js' for part in needed)}, each exactly once"
        )
    modules = [*((HERE / f"{part}.js").read_text(encoding="utf-8") for part in needed), module]
    constants = [f"const {key} = {json.dumps(text)};" for key, text in {"THEME": colours, **texts}.items()]
    code = page.without_comments("\n".join(re.sub(IMPORT, "", text, flags=re.MULTILINE) for text in modules))
    return "\n".join([*constants, code])


def stylesheet(name: str) -> str:
    """The CSS that all explorers share and ``{name}.css``; the colours of ``theme`` as properties."""

    def block(selector: str, colours: dict[str, str]) -> str:
        return f"{selector} {{ {' '.join(f'--a3-{name}: {value};' for name, value in colours.items())} }}"

    shared = {"content": theme.CONTENT, "query": theme.QUERY, "given": theme.GIVEN}
    blocks = [
        block(".a3-explorer", theme.LIGHT | shared),
        block('.a3-explorer[data-theme="dark"]', theme.DARK),
        f"@media print {{ {block('.a3-explorer[data-theme]', theme.LIGHT)} }}",  # paper is white
    ]
    return "\n".join([*blocks, *((HERE / f"{part}.css").read_text(encoding="utf-8") for part in ("base", name))])


def strided(length: int, given: int = 1) -> dict[int, list[int]]:
    """Group ids of far-apart tokens by the number of streams: those that an explorer offers, each with two steps or so.

    The page holds the groupings of the package itself, so no other code can disagree with it.
    """
    offered = [count for count in STREAMS if 2 * count <= length - given + 1]
    return {count: groups.strided(length, count, given).tolist() for count in offered}


def numbered(group_ids: list[int], length: int) -> list[int]:
    """Group ids from the page, checked, with the groups numbered 1, 2, ... without gaps.

    Raises:
        ValueError: not one number per token, or one that is no group id.
    """
    found = groups.check(torch.tensor(group_ids, dtype=torch.long))
    if found.shape != (length,):
        raise ValueError(f"group_ids must have one number per token, ({length},), got {tuple(found.shape)}")
    return groups.relabel(found).tolist()


class Explorer(anywidget.AnyWidget):
    """Base of all explorers. A subclass sets ``_esm``, ``_css``, ``summary``, and its traits.

    Every trait tagged ``sync=True`` is part of the page; it must be plain JSON.
    """

    summary = "An interactive figure."  # for those who see the page without JavaScript
    room = ""  # CSS of that sentence: as much room as the figure takes, so that nothing jumps when it comes
    source = traitlets.Unicode(help="Where the data comes from, in words.").tag(sync=True)

    def state(self) -> dict:
        """The traits that the module reads, as the page holds them."""
        theirs = set(anywidget.AnyWidget.class_trait_names())
        return {
            name: value
            for name, value in self.trait_values(sync=True).items()
            if name not in theirs and not name.startswith("_")
        }

    def to_html(self) -> str:
        """The explorer as it is now, as HTML that needs neither a kernel nor the network."""
        name = f"a3-{uuid.uuid4().hex[:12]}"
        kind = type(self).__name__
        payload = {"kind": kind, "module": str(self._esm), "css": str(self._css), "state": self.state()}
        # In a script element no text may end the element, not even within JSON.
        inside = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        instead = f'<p style="{self.room}">{self.summary} It needs JavaScript.</p>'
        return (
            f'<div class="a3-figure"><div id="{name}">{instead}</div>'
            f'<script type="application/json">{inside}</script>'
            f"<script>{PAGE.format(name=name)}</script></div>"
        )

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        # JupyterLab and VS Code prefer the widget's own type; the site is told to prefer HTML (_config.yml).
        return data | {"text/html": self.to_html()}, metadata
