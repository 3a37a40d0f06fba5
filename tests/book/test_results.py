"""The results page says what the stored results say, and each result says how it was made."""

import json
import subprocess
import sys

import pytest
from places import ROOT


def test_the_page_is_up_to_date():
    made = subprocess.run([sys.executable, ROOT / "tools" / "results.py", "--check"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "book" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_how_it_was_made(path):
    result = json.loads(path.read_text())
    assert result.keys() >= {"command", "seed", "versions", "hardware", "threads", "date", "wall_seconds"}
    assert (ROOT / result["command"].split()[1]).is_file()


def test_the_limit_of_the_benchmark_counts_every_multiplication():
    """By hand for one length: 5 full content layers, the last content layer's k and v, 6 query layers, one head."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from two_stream import SHAPE, limit

    width, mlp, scores, head = 256, 3 * 256 * 1024, 2 * 128 * 256, 256 * 4096
    assert SHAPE["num_hidden_layers"] == 6
    autoregressive = 128 * (6 * (4 * width**2 + mlp + scores) + head)
    content = 127 * (5 * (4 * width**2 + mlp + scores) + 2 * width**2)
    query = 127 * (6 * (2 * width**2 + mlp + scores) + head)
    assert limit(128) == pytest.approx((content + query) / autoregressive)
