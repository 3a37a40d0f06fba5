"""Sphinx extension: pages that are quick to show, and one role that is put right. It changes no content.

- Scripts wait until the page has been read, instead of holding it up.
- MathJax, 1.2 MB, comes only where there is a formula.
- Pictures say their size, so that the text below does not jump when they arrive.
- The theme brings 1.5 MB of icons as a script and again as fonts of 300 kB. The script is left out
  (book/_templates/static/webpack-macros.html), and the fonts are cut down to the icons that the site uses.
"""

import re
from pathlib import Path

import imagesize
from fontTools import subset
from fontTools.ttLib import TTFont

# Other scripts, or text in the page itself, need these at once.
AT_ONCE = ("documentation_options",)
ICON_RULE = re.compile(r"((?:\.fa-[a-z0-9-]+:+before,?)+)\{content:\"\\([0-9a-f]+)\"")
ICON_USED = re.compile(r"\bfa-([a-z0-9-]+)")
FORMULA = re.compile(r'class="[^"]*\b(?:math|tex2jax_process|mathjax_process|output_area)\b')
CODE_USED = re.compile(r"content:\s*\"\\(f[0-9a-f]{3})\"")

# Set the formulas section by section, and let the page answer its reader in between.
FORMULAS_BY_SECTION = """\
MathJax.startup = {
  async pageReady() {
    const parts = [...document.querySelectorAll("main *")].filter(
      (part) => part.matches(".math, .output_area, .tex2jax_process") && !part.parentElement.closest(".math"));
    for (let i = 0; i < parts.length; i += 10) {
      await MathJax.typesetPromise(parts.slice(i, i + 10));
      await new Promise((next) => setTimeout(next));
    }
  },
};"""


def lighten_scripts(app, pagename, templatename, context, doctree) -> None:
    if pagename == "search":  # its scripts call each other while the page is read
        return
    formulas, scripts = FORMULA.search(context.get("body") or ""), []
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", None) or "")
        if "mathjax" in name and not formulas:
            continue
        if name and not any(part in name for part in AT_ONCE):  # a new object: the pages share the old one
            script = type(script)(script.filename, priority=script.priority, **script.attributes | {"defer": "defer"})
        if "mathjax" in name:
            scripts.append(type(script)(None, body=FORMULAS_BY_SECTION))
        scripts.append(script)
    context["script_files"] = scripts


def size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture in its own units."""
    if path.suffix == ".svg":
        found = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', path.read_text(encoding="utf-8")[:2000])
        return (round(float(found[1])), round(float(found[2]))) if found else None
    width, height = imagesize.get(path)
    return (width, height) if width > 0 else None


def size_images(app, pagename, templatename, context, doctree) -> None:
    files = {name: source for source, (_, name) in app.env.images.items()}

    def sized(match: re.Match) -> str:
        source = files.get(Path(match[2]).name)
        found = source and " width=" not in match[0] and size(Path(app.srcdir) / source)
        return f'{match[1]} width="{found[0]}" height="{found[1]}"{match[3]}' if found else match[0]

    if context.get("body"):
        context["body"] = re.sub(r'(<img [^>]*?src="([^"]+)")([^>]*>)', sized, context["body"])


def modern_roles(app, pagename, templatename, context, doctree) -> None:
    """docutils gives each reference a role that has been withdrawn; screen readers know list items."""
    if context.get("body"):
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def cut_fonts(app, exception) -> None:
    """Keep the glyphs of the icons that stand on a page or in a style sheet of the site."""
    static = Path(app.outdir) / "_static"
    theme = static / "styles" / "pydata-sphinx-theme.css"
    if exception or not theme.exists():
        return
    rules = ICON_RULE.findall(theme.read_text(encoding="utf-8"))
    codes = {name: code for names, code in rules for name in ICON_USED.findall(names)}
    pages = "".join(page.read_text(encoding="utf-8") for page in Path(app.outdir).rglob("*.html"))
    used = {codes[name] for name in ICON_USED.findall(pages) if name in codes}
    for sheet in [*static.glob("*.css"), *static.glob("styles/*.css")]:
        if sheet != theme:
            used |= set(CODE_USED.findall(sheet.read_text(encoding="utf-8")))
    for source in (static / "vendor" / "fontawesome" / "webfonts").glob("*.ttf"):
        font = TTFont(source)
        cutter = subset.Subsetter()
        cutter.populate(unicodes=[int(code, 16) for code in used])
        cutter.subset(font)
        font.flavor = "woff"  # browsers go by the content, not by the name; woff2 would need one more package
        font.save(source.with_suffix(".woff2"))


def setup(app) -> dict:
    app.connect("html-page-context", lighten_scripts, priority=900)  # after all that add scripts
    app.connect("html-page-context", size_images, priority=900)
    app.connect("html-page-context", modern_roles, priority=900)
    app.connect("build-finished", cut_fonts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
