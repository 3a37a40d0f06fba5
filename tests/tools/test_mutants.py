"""The tool that changes solutions: every change is one, and a check that notices nothing is seen."""

import ast

from tools.course import mutants

SOURCE = """
def first_above(values, bound=1):
    for at, value in enumerate(sorted(values)):
        if value > bound and not at < 0:
            return at
    return -1
"""


def test_every_mutant_is_another_program_with_one_change():
    found = list(mutants.mutants(SOURCE))
    original = ast.unparse(ast.parse(SOURCE))
    assert len(found) == len(set(found)) and original not in found
    for changed in (
        "value >= bound", "or not at < 0", "and +(at < 0)", "not at <= 0", "bound=2", "bound=0", "list(values)",
        "return +1", "return -2", "return -0", "        pass",
    ):  # fmt: skip
        assert any(changed in mutant for mutant in found), changed


def test_what_passes_is_told_from_what_does_not(monkeypatch):
    monkeypatch.setattr(mutants, "PATIENCE", 1)

    def check(answer):
        return answer(3) == 4

    assert mutants.passes(check, "f", "def f(x): return x + 1")
    assert mutants.passes(check, "f", "one = 1", "def f(x): return x + one")  # sources share their names
    for wrong in ("def f(x): return x", "def f(x): return y", "def f(x:", "def f(x):\n    while True: pass", "g = 1"):
        assert not mutants.passes(check, "f", wrong)
