"""The files in the page as one module: they need nothing around them, and run in a worker of a page on the disk."""

import base64
import re

import pytest
from page_models import KINDS, saved

from a3mini import groups, objective
from a3mini.notebook import page

WORKER = """
onmessage = ({ data: { file, tokens, groups } }) => {
  const model = new Model(file);
  postMessage([...score(model, tokens, groups)]);
};
"""


@pytest.mark.parametrize("name", page.FILES)
def test_a_file_needs_no_other_but_those_of_the_folder(name):
    text = (page.HERE / f"{name}.js").read_text(encoding="utf-8")
    code = re.sub(r"//.*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    imported = re.findall(r'^import .* from "\./(\w+)\.js";$', text, re.MULTILINE)
    assert code.count("import ") == len(imported) and set(imported) <= set(page.FILES)
    assert not re.search(r"\b(fetch|XMLHttpRequest|require|process|Buffer|window|document|eval)\b", code)


def test_every_file_is_in_the_module():
    assert sorted(page.FILES) == sorted(path.stem for path in page.HERE.glob("*.js"))
    assert "import {" not in page.module() and "export " not in page.script()


def test_lines_of_comments_go_and_nothing_else():
    code = ['const url = "http://a/*b";', "f(); // after code", "a /** in a line */ + b;", "const c = `x // y`;"]
    comments = [
        "// one",
        "  //",
        "/** a line */",
        "/**\n * More, with * and **,\n * `a // b`.\n */",
        "  /** In\n   * here */",
    ]
    mixed = "".join(f"{line}\n" for pair in zip([*comments], [*code, ""], strict=True) for line in pair)
    assert page.without_comments(mixed) == "".join(f"{line}\n" for line in [*code, ""])
    assert not re.search(r"^ *(//|/\*|\* )", page.module(), re.MULTILINE)


def test_a_worker_of_a_page_on_the_disk(browser, tmp_path):
    """As in the book's files: no server, the model in base64, all computation beside the page."""
    model, file = saved(tmp_path, "model", **KINDS["ours"])
    (tmp_path / "page.html").write_text("<!doctype html><title>A page on the disk</title>", encoding="utf-8")
    context = browser.new_context()
    window = context.new_page()
    window.goto((tmp_path / "page.html").as_uri())
    group_ids = groups.strided(12, 3)
    tokens = (group_ids + 7) * 5
    found = window.evaluate(
        """([code, file, tokens, groups]) => new Promise((resolve, reject) => {
             const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
             const worker = new Worker(url);
             worker.onerror = ({ message }) => reject(new Error(message ?? "no worker"));
             worker.onmessage = ({ data }) => resolve(data);
             const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0)).buffer;
             worker.postMessage({ file: bytes, tokens, groups }, [bytes]);
           })""",
        [
            page.script() + WORKER,
            base64.b64encode(file.read_bytes()).decode(),
            tokens.tolist(),
            group_ids.tolist(),
        ],
    )
    context.close()
    wanted = objective.log_likelihood(model, tokens[None], group_ids[None], reduction="token")[0]
    assert found == pytest.approx(wanted.tolist(), abs=1e-3)
