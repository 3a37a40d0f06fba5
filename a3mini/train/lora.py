"""Training low-rank additions instead of the weights: peft does it; here stands what A3 adds and how they are named."""

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor, nn

from a3mini import adapter


def add_lora(model: nn.Module, rank: int, alpha: int, target: str | Sequence[str] = "all-linear") -> nn.Module:
    """Freeze the model but for new low-rank additions to its linear layers, and A3's w.

    Args:
        target: names of the layers that get additions, such as "q_proj"; default: all but the head.

    Returns:
        the peft wrapper; its ``merge_and_unload()`` merges the additions into ``model``.
    """
    from peft import LoraConfig, get_peft_model  # only here: a slow import

    wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=target, lora_dropout=0.0))
    for name, weight in wrapped.named_parameters():
        if name.endswith(adapter.ADDED):
            weight.requires_grad_(True)
    return wrapped


def additions(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """What LoRA trains, under the names of ``adapter``: "model.layers.0.mlp.up_proj.lora_A"."""
    for name, weight in named:
        name = name.replace("base_model.model.", "", 1).replace(".default.weight", "")
        if name.endswith((adapter.DOWN, adapter.UP, *adapter.ADDED)):
            yield name, weight
