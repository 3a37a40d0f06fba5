"""Checks for the exercises: each runs the reader's answer and names the mistake it finds.

One file a chapter, ``ch01_factorisation`` for notebook 01, on what ``base`` gives all of them. A check has the name of
its exercise. It never raises and never stops a notebook: it returns a ``Result``, which a cell shows. It tries the
answer on several inputs, compares it with the package or with a plain loop, and looks for the mistakes that readers
make. tests/notebook/test_checks.py proves that each check accepts the notebook's solution and rejects its stub and
every mistake in tests/mistakes.
"""
