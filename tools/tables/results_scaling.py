"""The tables of book/scaling.md."""

from transformers import LlamaConfig

from a3mini.train import devices, memory
from tools.tables.results_common import load, source, table

_LLAMA = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256}
SIZES = {
    "SmolLM2-135M": devices.MODELS["HuggingFaceTB/SmolLM2-135M"],
    "Llama-3.2-1B": devices.MODELS["meta-llama/Llama-3.2-1B"],
    "Llama-3.2-3B": LlamaConfig(
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        tie_word_embeddings=True,
        **_LLAMA,
    ),
    "Llama-3.1-8B": LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, **_LLAMA
    ),
}
ROWS, LENGTH, PROCESSES = 4, 512, 8
LARGEST = "largest_difference"


def scaling_memory() -> str:
    lines = []
    for name, config in SIZES.items():
        for trainable in (memory.FULL, memory.LORA):
            plain, again = (
                memory.estimate(
                    config, ROWS, LENGTH, 1.0, "bf16", trainable, checkpointing=checkpointing, device="cuda"
                )
                for checkpointing in (False, True)
            )
            divided = plain.fixed / PROCESSES + plain.activations + plain.logits
            parts = [plain.parameters, plain.gradients + plain.optimiser, plain.activations, plain.logits, plain.total,
                     again.total, divided]  # fmt: skip
            what = "all weights" if trainable == memory.FULL else "LoRA, rank 32"
            lines.append([name, what, *(f"{part / memory.GB:.1f}" for part in parts)])
    header = ["model", "trained", "weights and copies", "gradients, optimiser", "activations", "logits", "**total**",
              "with checkpointing", f"per GPU, FSDP on {PROCESSES}"]  # fmt: skip
    return (
        f"{table(header, lines)}\n\n"
        f"GB (10⁹ bytes), by `memory.estimate`: {ROWS} rows of {LENGTH} tokens at a time on one GPU, every token "
        f"predicted, bf16, AdamW, the default attention kernel. The last column divides what does not depend on the "
        f"batch by {PROCESSES}; each GPU has {ROWS} rows of its own. Estimates, not measurements."
    )


def scaling_measured() -> str:
    result = load("memory")
    lines = [
        [
            row["shape"],
            f"{row['rows']} × {row['length']}",
            f"{row['query_share']:g}",
            row["precision"],
            "all weights" if row["trainable"] == memory.FULL else f"LoRA, rank {result['lora_rank']}",
            "yes" if row["checkpointing"] else "no",
            f"{row['total'] / memory.GB:.3f}",
            *(
                f"{row[kind] / memory.GB:.3f} ({row['total'] / row[kind]:.2f})" if row[kind] else ""
                for kind in ("tensors", "resident")
            ),
        ]
        for row in result["rows"]
    ]
    header = ["model", "rows × tokens", "share predicted", "precision", "trained", "checkpointing", "estimate, GB",
              "tensors, GB (ratio)", "resident, GB (ratio)"]  # fmt: skip
    return f"{table(header, lines)}\n\n{source(result)} In brackets: the estimate over what was measured."


def scaling_flex() -> str:
    result, lines = load("flex"), {}
    lengths = sorted({row["length"] for row in result["rows"]})
    for row in result["rows"]:
        for what in ("by position", "in order"):
            lines.setdefault((row["grouping"], what), {})[row["length"]] = f"{row[what]['skipped']:.0%}"
    rows = [[grouping, what, *(found[length] for length in lengths)] for (grouping, what), found in lines.items()]
    text = f"{table(['grouping', 'rows stand', *(f'T = {length:,}' for length in lengths)], rows)}\n\n"
    timed = [row for row in result["rows"] if any(row["ms"].values())]
    if timed:
        kinds = list(timed[0]["ms"])
        times = [[row["grouping"], f"{row['length']:,}", *(row["ms"][kind] or "" for kind in kinds)] for row in timed]
        text += f"{table(['grouping', 'T', *(f'{kind}, ms' for kind in kinds)], times)}\n\n"
    else:
        text += "Times: **not measured**, on no GPU yet.\n\n"
    return f"{text}{source(result)} Blocks of {result['block']} × {result['block']}."


def scaling_gpu() -> str:
    """What ``make gpu-check`` found on a machine with a GPU."""
    result = load("gpu")
    checks = result["checks"]
    both, trained = checks["flex_equals_sdpa"], checks["training"]
    lines = [
        ("the content stream is the source model (law 1)", f"logits differ by {checks['parity'][LARGEST]:.0e}"),
        ("no leakage (law 2), both kernels, two dtypes", f"bit for bit, {checks['no_leakage']['positions']} positions"),
        ("the cache is exact (law 4)", f"log-probabilities differ by {checks['exact_cache'][LARGEST]:.0e}"),
        ("FlexAttention, compiled, equals the default kernel", f"log-probabilities differ by {both['log_probs']:.0e}"),
        ("the same of gradients", f"they differ by {both['gradients']:.0e} of their norm"),
    ]
    for name, one in trained.items():
        if not isinstance(one, dict):
            continue
        estimate, measured, losses = one["estimate_gb"], one["measured_gb"], one["losses"]
        lines.append((f"{name} trains", f"loss {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps"))
        ratio = f"{estimate:.2f} GB estimated, {measured:.2f} GB measured ({estimate / measured:.2f})"
        lines.append((f"the memory estimate holds, {name}", ratio))
    same = "bit for bit" if checks["resume"]["bitwise"] else f"they differ by {checks['resume']['resumed']:.0e}"
    lines.append(("a stopped and resumed run equals a whole one", same))
    failed = f" **Failed: {', '.join(result['failed'])}.**" if result["failed"] else " All checks passed."
    text = f"{table(['check', 'found'], lines)}\n\n{source(result)} Model: {result['model']}.{failed}"
    if result["beside"]:
        return f"{text} Speeds: **not measured**, for the GPU was shared with {result['beside']}."
    speeds = ", ".join(f"{name}: {value:.0f}" for name, value in checks["speed"].items() if "batch" in name)
    return f"{text} Tokens per second of decoding: {speeds}."
