"""What to tell the user of a command that failed, in one line; an error of our own keeps its traceback."""

import sys

from a3mini import EXTRA

SMALLER = {  # what to do when the memory is not enough
    "train": "use a smaller --batch-size or --micro-batch-size",
    "adapt": "use a smaller --batch-size or --micro-batch-size, or --lora-rank",
    "evaluate": "use a smaller --batch-size or --length",
    "infill": "use a shorter text, a smaller model, or fewer --tokens-per-blank",
    "rewrite": "use a shorter text, a smaller model, or fewer alternatives (--n)",
    "revise": "use a shorter text or a smaller model",
}


def about(error: Exception, command: str) -> str | None:
    """What the user can do something about; None: nothing, for the error is ours."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; install what the commands need: {EXTRA}"
    if isinstance(error, RecursionError):
        return "a file is nested too deeply"
    from safetensors import SafetensorError  # only here, so that help needs nothing

    from a3mini.sources import out_of_memory

    if out_of_memory(error):
        return f"out of memory: {SMALLER[command]}. {error}"
    users = (ValueError, OSError, FloatingPointError, SafetensorError, ImportError)
    return str(error) if isinstance(error, users) else None


def fail(name: str, error) -> int:
    """Print it; the exit code."""
    print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
