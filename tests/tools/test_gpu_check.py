"""make gpu-check: every check of tests/gpu can fail; a failure is told; without a GPU it leaves no trace."""

import re

import pytest
import torch

from a3mini import flex, masks
from a3mini.attention import A3RMSNorm
from a3mini.decode.cache import ContentCache
from tests.gpu import test_gpu as checks
from tools.environments import gpu_check

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing"),  # peft uses an old name
]


@pytest.fixture(scope="module")
def bench():
    return checks.rehearsal_bench()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "record", None)
    assert gpu_check.main([]) == 0
    assert capsys.readouterr().out == (
        "gpu-check: there is no CUDA GPU here, so nothing was checked and nothing written\n"
    )


def test_a_failed_check_is_reported_and_the_others_still_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "test_toy.py").write_text(
        "def test_wrong():\n    assert False, 'the numbers differ'\n\n"
        "def test_right(record_property):\n    record_property('number', 1)\n"
    )
    monkeypatch.setattr(gpu_check, "TESTS", tmp_path)
    monkeypatch.setattr(gpu_check, "record", None)  # a rehearsal writes nothing
    monkeypatch.setenv("A3_GPU", "")  # and leaves no trace
    assert gpu_check.main(["--rehearse"]) == 1
    wrong, right, last = [line for line in capsys.readouterr().out.splitlines() if re.match("FAIL|ok  |failed", line)]
    assert wrong.startswith("FAIL wrong: {'passed': False") and "the numbers differ" in wrong
    assert right.startswith("ok   right: {'passed': True, 'number': 1") and last == "failed: wrong"


# The mutants


def mutate_norm(monkeypatch):
    """A norm without its own weight: another model than the source."""
    monkeypatch.setattr(A3RMSNorm, "forward", lambda self, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1))


def mutate_leak(monkeypatch):
    """A query sees its own group."""
    right = masks.may_attend
    monkeypatch.setattr(masks, "may_attend", lambda rows, columns, own_group: right(rows, columns, True))


def mutate_cache(monkeypatch):
    """The cache forgets what a layer had before."""
    right = ContentCache.update

    def wrong(self, key, value, layer):
        keys, values = right(self, key, value, layer)
        return keys, torch.zeros_like(values)

    monkeypatch.setattr(ContentCache, "update", wrong)


def mutate_blocks(monkeypatch):
    """Flex rows see one group more."""
    right = flex.Blocks.between.__func__
    monkeypatch.setattr(
        flex.Blocks, "between", classmethod(lambda cls, content, query, empty: right(cls, content, query + 1, empty))
    )


def mutate_memory(monkeypatch):
    """An estimate without logits."""
    right = checks.memory.estimate
    monkeypatch.setattr(checks.memory, "estimate", lambda *a, **k: right(*a, **k)._replace(logits=0))


def mutate_resume(monkeypatch):
    """A run that goes on from another step."""
    right = checks.train.__globals__["restore_state"]

    def wrong(*arguments):
        step, tokens, seconds = right(*arguments)
        return step + 1, tokens, seconds

    monkeypatch.setitem(checks.train.__globals__, "restore_state", wrong)


@pytest.mark.parametrize(
    ("mutate", "check"),
    [
        (mutate_norm, checks.test_parity),
        (mutate_leak, checks.test_no_leakage),
        (mutate_cache, checks.test_exact_cache),
        (mutate_blocks, checks.test_flex_equals_sdpa),
        (mutate_memory, checks.test_training),
        (mutate_resume, checks.test_resume),
    ],
)
def test_a_mutant_fails_the_check(mutate, check, bench, monkeypatch):
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check(bench, lambda *_: None)
