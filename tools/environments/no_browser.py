"""A pytest plugin for matrix.py: leaves out what looks at the built site, or needs a browser.

Both are the same whatever versions of PyTorch or transformers are installed; `make test` has them.
"""


def apart(item) -> bool:
    # an explorer's test needs a browser, a small book the extra `book`
    files = ("built_site", "small_book", "sphinx")
    return "browser" in item.fixturenames or any(name in item.path.read_text(encoding="utf-8") for name in files)


def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=[item for item in items if apart(item)])
    items[:] = [item for item in items if not apart(item)]
