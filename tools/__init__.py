"""What makes the book and checks it. Run from the repository's root: ``python -m tools.site.book``."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
