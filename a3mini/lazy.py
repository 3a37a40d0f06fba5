"""Public names that are loaded when they are first used (PEP 562), so that ``import a3mini`` costs next to nothing."""

from collections.abc import Callable, Sequence
from importlib import import_module


def names(package: str, modules: Sequence[str] = (), **homes: Sequence[str]) -> tuple[Callable, Callable, list[str]]:
    """What a package's ``__init__`` calls ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        package: its ``__name__``.
        modules: those of its modules that are public names themselves.
        homes: by module, the public names that are defined in it.
    """
    where = {name: module for module, own in homes.items() for name in own}
    public = sorted([*modules, *where])

    def __getattr__(name: str):
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(public)}")
        module = import_module(f"{package}.{where.get(name, name)}")
        return getattr(module, name) if name in where else module

    return __getattr__, lambda: public, public
