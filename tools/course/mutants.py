"""How much a check notices: each solution is changed in one place, and the check is asked about every such mutant.

``python -m tools.course.mutants [CHAPTER ...]`` prints the score of every check and the mutants that pass. A mutant
that passes is a right answer too, or a fault of the check: somebody has to look.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import io
import signal
from collections.abc import Iterator

import torch

from tools.course import exercises

PATIENCE = 20  # seconds for one mutant; what takes longer never ends
SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In,  # codespell:ignore notin
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip
RENAMED = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "argmax": "argmin"}


class Timeout(BaseException):
    """The mutant does not end."""


def changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """What may be put in the place of a field of ``node``: the field's name, and its new value."""
    match node:
        case ast.Compare(ops=[first, *rest]) if type(first) in SWAPPED:
            yield "ops", [SWAPPED[type(first)](), *rest]
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPPED:
            yield "op", SWAPPED[type(op)]()
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            yield "op", ast.UAdd()
        case ast.Constant(value=bool(value)):
            yield "value", not value
        case ast.Constant(value=int(value)):
            yield "value", value + 1
            yield "value", value - 1
        case ast.Constant(value=float(value)):
            yield "value", value * 2
        case ast.Name(id=name) if name in RENAMED:
            yield "id", RENAMED[name]
        case ast.Attribute(attr=name) if name in RENAMED:
            yield "attr", RENAMED[name]
        case ast.Call(keywords=keywords) if keywords:
            for at in range(len(keywords)):
                yield "keywords", keywords[:at] + keywords[at + 1 :]
        case ast.FunctionDef(body=body) | ast.For(body=body) | ast.If(body=body) | ast.While(body=body):
            for at, statement in enumerate(body):
                if isinstance(statement, (ast.AugAssign, ast.Expr, ast.If, ast.For)):
                    yield "body", [*body[:at], ast.Pass(), *body[at + 1 :]]


def mutants(source: str) -> Iterator[str]:
    """Every version of ``source`` with one change."""
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        for field, value in changes(node):
            other = copy.deepcopy(tree)
            setattr(next(n for at, n in enumerate(ast.walk(other)) if at == number), field, copy.deepcopy(value))
            yield ast.unparse(other)


def passes(check, name: str, *sources: str) -> bool:
    """Whether the check takes what the sources define; what never ends, or does not even run, is not taken."""

    def late(*_):
        raise Timeout

    signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    namespace = {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for source in sources:
                exec(source, namespace)
            return bool(check(namespace[name]))
    except (Exception, Timeout):
        return False
    finally:
        signal.alarm(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="such as 02_groups_and_masks; default: all")
    chosen = parser.parse_args().chapters
    for chapter, notebook in exercises.chapters().items():
        if chosen and chapter not in chosen:
            continue
        checks = importlib.import_module(f"a3mini.notebook.checks.ch{chapter}")
        imports = exercises.imports(notebook)
        for exercise in exercises.exercises(chapter, notebook):
            check, found = getattr(checks, exercise.name), list(mutants(exercise.solution))
            alive = [m for m in found if passes(check, exercise.name, imports, exercise.stub, m)]
            torch.set_grad_enabled(True)
            print(
                f"{chapter} {exercise.name}: {len(found) - len(alive)} of {len(found)} mutants are noticed", flush=True
            )
            for mutant in alive:
                was, now = (ast.unparse(ast.parse(code)).splitlines() for code in (exercise.solution, mutant))
                changed = [f"    {b.strip()}" for a, b in zip(was, now, strict=False) if a != b][:1]
                print("\n".join(changed or ["    (a line is gone)"]), flush=True)


if __name__ == "__main__":
    main()
