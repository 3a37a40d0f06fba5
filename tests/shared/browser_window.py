"""A browser window, for the tests of pages and explorers; ``conftest`` has the browser."""

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


class Window:
    """A browser window of one size and theme, that keeps a list of all that goes wrong in it."""

    def __init__(self, browser, size: str, theme: str, allowed: tuple[str, ...] = ()):
        self.look, self.problems, self.allowed = f"{size}-{theme}", [], ("data:", "blob:", "about:", *allowed)
        width, height = WIDTHS[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        self.context.add_init_script(
            f"try {{ localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}') }} catch {{}}"
        )
        self.context.route("**/*", self._only_local)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.problems.append(f"console: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("requestfailed", lambda r: self.problems.append(f"failed, {r.failure}: {r.url}"))

    def _only_local(self, route):
        if route.request.url.startswith(self.allowed):
            return route.continue_()
        self.problems.append(f"external request: {route.request.url}")
        return route.abort()

    def open(self, address: str, until: str = "load") -> None:
        """Go to a page. Its problems are its own: what the page before asked for, and loses now, is not among them."""
        self.page.goto("about:blank")
        self.problems.clear()
        self.page.goto(address, wait_until=until)

    def too_wide(self) -> list[str]:
        """If the page is wider than the screen, the elements that stick out."""
        return self.page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] : ['the page',
                 ...[...document.querySelectorAll('body *')]
                   .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
                   .slice(0, 5).map(e => e.outerHTML.slice(0, 120))]"""
        )

    def thin_out(self) -> None:
        """Of spans that look the same, tokens of code most of all, leave two: a contrast need not be looked at often.

        They look the same where they, and the five elements around them, have the same tags, classes and styles.
        """
        self.page.evaluate(
            """() => {
                 const seen = {};
                 for (const span of document.querySelectorAll('main span')) {
                   if (span.childElementCount || span.id || span.closest('svg, mjx-container')) continue;
                   const looks = [];
                   for (let e = span; e && looks.length < 18; e = e.parentElement)
                     looks.push(e.tagName, e.className, e.style.cssText);
                   seen[looks] = (seen[looks] ?? 0) + 1;
                   if (seen[looks] > 2) span.replaceWith(...span.childNodes);
                 }
               }"""
        )

    def violations(self, context: str) -> list[str]:
        """What axe-core holds for serious or critical within the elements that the selector ``context`` finds."""
        from axe_playwright_python.sync_playwright import Axe

        # What is still fading in has not its own colours yet.
        self.page.evaluate("document.getAnimations().forEach(a => { try { a.finish() } catch { a.cancel() } })")
        found = Axe().run(self.page, context).response["violations"]
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
