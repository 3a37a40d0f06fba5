"""gpu_check.py: every check runs on the CPU with a tiny model, and can fail; without a GPU it leaves no trace."""

import pytest
import torch

from a3mini import flex, masks
from a3mini.decode.cache import ContentCache
from a3mini.model import A3RMSNorm
from tools.environments import gpu_check

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing"),  # peft uses an old name
]


@pytest.fixture(scope="module")
def bench():
    # the precision that this CPU computes natively; emulated bfloat16 is slow
    return gpu_check.rehearsal_bench()._replace(precisions=("fp32",))


@pytest.mark.parametrize("check", gpu_check.CHECKS, ids=lambda check: check.__name__)
def test_each_check_runs_and_passes(check, bench):
    found = check(bench)
    assert found and all(value is not None for name, value in found.items() if name != "gradients")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "record", None)
    assert gpu_check.main([]) == 0
    assert capsys.readouterr().out == (
        "gpu-check: there is no CUDA GPU here, so nothing was checked and nothing written\n"
    )


def test_a_failed_check_is_reported_and_the_others_still_run(monkeypatch, capsys):
    def wrong(bench):
        raise AssertionError("the numbers differ")

    def right(bench):
        return {"number": 1}

    monkeypatch.setattr(gpu_check, "CHECKS", (wrong, right))
    monkeypatch.setattr(gpu_check, "record", None)  # a rehearsal writes nothing
    assert gpu_check.main(["--rehearse"]) == 1
    said = capsys.readouterr().out
    assert "FAIL wrong" in said and "the numbers differ" in said and "ok   right" in said and "failed: wrong" in said


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
    right = gpu_check.memory.estimate
    monkeypatch.setattr(gpu_check.memory, "estimate", lambda *a, **k: right(*a, **k)._replace(logits=0))


def mutate_resume(monkeypatch):
    """A run that goes on from another step."""
    right = gpu_check.train.__globals__["restore_state"]

    def wrong(*arguments):
        step, tokens, seconds = right(*arguments)
        return step + 1, tokens, seconds

    monkeypatch.setitem(gpu_check.train.__globals__, "restore_state", wrong)


@pytest.mark.parametrize(
    ("mutate", "check"),
    [
        (mutate_norm, gpu_check.parity),
        (mutate_leak, gpu_check.no_leakage),
        (mutate_cache, gpu_check.exact_cache),
        (mutate_blocks, gpu_check.flex_equals_sdpa),
        (mutate_memory, gpu_check.training),
        (mutate_resume, gpu_check.resume),
    ],
)
def test_a_mutant_fails_the_check(mutate, check, bench, monkeypatch):
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check(bench)
