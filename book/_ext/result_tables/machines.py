"""The tables of book/results.md, book/scaling.md and book/versions.md."""

from functools import partial
from itertools import product
from pathlib import Path

from transformers import LlamaConfig

from a3mini.train import devices
from a3mini.train.memory import FULL, GB, LORA, estimate

from .common import across, fill, listed, pairs, source, table

_LLAMA_3 = partial(LlamaConfig, num_key_value_heads=8, head_dim=128, vocab_size=128256)
_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_SIZES = {
    "SmolLM2-135M": devices.MODELS["HuggingFaceTB/SmolLM2-135M"],
    "Llama-3.2-1B": _LLAMA_3(
        **dict(zip(_SHAPE, (2048, 8192, 16, 32), strict=True)) | {"head_dim": 64}, tie_word_embeddings=True
    ),
    "Llama-3.2-3B": _LLAMA_3(**dict(zip(_SHAPE, (3072, 8192, 28, 24), strict=True)), tie_word_embeddings=True),
    "Llama-3.1-8B": _LLAMA_3(**dict(zip(_SHAPE, (4096, 14336, 32, 32), strict=True))),
}
_ROWS, _LENGTH, _PROCESSES = 4, 512, 8
_MADE = "Made by `{command}` on {date}: {hardware}"


def two_stream(two_stream: dict) -> str:
    return table(
        "T: {length} | AR, ms: {ar_ms:.0f} | A3, ms: {a3_ms:.0f} | ratio: {ratio:.2f} | limit: {limit:.2f} "
        "| ratio / limit: {share:.2f} | kept for backward, AR to A3, MiB: {ar_kept_mib:.0f} to {a3_kept_mib:.0f} "
        "| peak, AR to A3, MiB: {ar_peak_mib:.0f} to {a3_peak_mib:.0f}",
        [row | {"share": row["ratio"] / row["limit"]} for row in two_stream["rows"]],
        source(two_stream, "Batch {batch}, median of {rounds} rounds."),
    )


def trainer(trainer: dict) -> str:
    """Rows and shapes, waits, and times of a training step, before and after the trainer was changed."""
    tables = []
    if "counts" in trainer:
        tables += _counts(**trainer["counts"])
    if "times" in trainer:
        tables.append(_times(**trainer["times"]))
    return "\n\n".join([*tables, f"Before: commit {trainer['before']}. {source(trainer)}"])


def _counts(rows: list[dict], waits: dict, steps: int, text: str, date: str, **_) -> list[str]:
    kinds, lines = ("before", "now", "settled"), []
    for one in rows:
        one = one | {"now": one["after"]}
        size = f"{one['batch_size']} rows" if "batch_size" in one else f"{one['batch_tokens']:,} tokens"
        line = {"step": f"{size}, T = {one['length']}"}
        for kind in (kind for kind in kinds if kind in one):
            line[kind] = "{:.0f} ({:.0f})".format(*(100 * one[kind][which] for which in ("real", "worst")))
        line["shapes"] = " / ".join(str(one[kind]["shapes"]) if kind in one else "" for kind in kinds)
        lines.append(line)
    columns = "a step: {step} | " + across("rows that are needed, %, $: {$}", kinds) + " | shapes of a run: {shapes}"
    about = (
        "Of the rows of hidden states that go through the layers, those that a predicted token needs; in brackets: in "
        f"the worst stage of all presets. *Settled*: sizes are rounded up, as on a GPU. Shapes: before / now / "
        f"settled, of {steps} steps, the mean of all presets. Text: {text}. Counted on {date}."
    )
    lacking = {kind: {when: sum(found.values()) for when, found in one.items()} for kind, one in waits.items()}
    waiting = table("a step of: {name} | waits for a value, before: {before} | now: {after}", lacking)
    return [table(columns, lines, about), waiting]


def _times(rows: dict, length: int, text: str, hardware: str, threads: int, date: str, **_) -> str:
    lines = {}
    for name, one in rows.items():
        line = lines[f"{name}, {one['rows']} × {length}"] = {"faster": one.get("faster")}
        for when in (when for when in ("before", "after") if when in one):
            line |= {when: 1e3 * one[when]["seconds"], f"{when} gb": one[when]["added"] / GB}
    columns = (
        "step: {name} | before, ms: {before:.0f} | now, ms: {after:.0f} | times as fast: {faster:.2f} "
        "| memory, before, GB: {before gb:.3f} | now, GB: {after gb:.3f}"
    )
    precision = ", ".join(sorted({one["after"]["precision"] for one in rows.values()}))
    about = (
        "Medians of steps that take turns; the ratio's with its quartiles. Memory: by how much the largest of three "
        "steps raises it. "
        f"{hardware}, {threads} threads, {precision}, {date}. Text: {text}."
    )
    return table(columns, lines, about)


def query_init(query_init: dict) -> str:
    rows = {f"{w}, {when}": row[when] for when in ("untouched", "adapted") for w, row in query_init["rows"].items()}
    about = (
        "The source model scores the same text left to right at {autoregressive:.2f}. *Adapted*: after {steps} "
        "left-to-right steps, {tokens:,} tokens. Model: {model}. Text: {text}, last 40 tales held out."
    ).format(**query_init)
    columns = "initial w: {name} | " + across("$: {$:.2f}", rows["zeros, adapted"])
    return table(columns, rows, f"{about}\n\n{source(query_init)}")


def packing(packing: dict) -> str:
    peaks = "; ".join(f"{row['megabytes']} MB of text: {row['peak_mb']:.0f} MB" for row in packing["memory"])
    about = "{megabytes:.1f} MB of text, rows of {length} tokens, rounds after the warm-up: {rounds}.".format(**packing)
    return table(
        "way: {name} | MB per second: {wall_mb_s:.1f} | MB per second of CPU: {cpu_mb_s:.1f} "
        "| the latter over the plain loop: {over_plain:.1f}",
        packing["rows"],
        f"Memory at its peak, beside what the process had, of `packed.pack` on the disk: {peaks or 'not measured'}.",
        source(packing, about),
    )


def muon(muon: dict) -> str:
    rates = ", ".join(f"{arm} {rate:g}" for arm, rate in muon["best_rate"].items())
    return table(
        "held-out grouping: {name} | AdamW: {AdamW:.2f} | Muon: {Muon:.2f} | difference: {difference:+.2f}",
        muon["losses"],
        f"Nats per predicted token after {muon['tokens']:,} predicted tokens ({muon['steps']} steps), mean of "
        f"{muon['seeds']} seeds; the difference is Muon minus AdamW, paired, with a 95 % interval. Learning rates, "
        f"each the best of a grid: {rates}. A step with Muon took {muon['step_ratio']:g} times as long, on a busy "
        "machine.",
        source(muon),
    )


def notebook_times(notebook_times: dict) -> str:
    seconds = {f"`{name}`": f"{seconds:.0f}" for name, seconds in notebook_times["seconds"].items()}
    return pairs("notebook", "seconds", seconds, source(notebook_times))


def scaling_memory() -> str:
    rows = []
    for model, (what, trained) in product(_SIZES, (("all weights", FULL), ("LoRA, rank 32", LORA))):
        needs = partial(estimate, _SIZES[model], _ROWS, _LENGTH, 1.0, "bf16", trained, device="cuda")
        plain, again = needs(checkpointing=False), needs(checkpointing=True)
        parts = [plain.parameters, plain.gradients + plain.optimiser, plain.activations, plain.logits, plain.total]
        parts += [again.total, plain.fixed / _PROCESSES + plain.activations + plain.logits]
        rows.append({"model": model, "what": what} | dict(zip("abcdefg", (part / GB for part in parts), strict=True)))
    return table(
        "model: {model} | trained: {what} | weights and copies: {a:.1f} | gradients, optimiser: {b:.1f} "
        "| activations: {c:.1f} | logits: {d:.1f} | **total**: {e:.1f} | with checkpointing: {f:.1f} "
        f"| per GPU, FSDP on {_PROCESSES}: {{g:.1f}}",
        rows,
        f"GB (10⁹ bytes), by `memory.estimate`: {_ROWS} rows of {_LENGTH} tokens at a time on one GPU, every token "
        "predicted, bf16, AdamW, the default attention kernel. The last column divides what does not depend on the "
        f"batch by {_PROCESSES}; each GPU has {_ROWS} rows of its own. Estimates, not measurements.",
    )


def scaling_measured(memory: dict) -> str:
    rows = [row | {"again": "yes" if row["checkpointing"] else "no"} for row in memory["rows"]]
    for row in rows:
        row["what"] = "all weights" if row["trainable"] == FULL else f"LoRA, rank {memory['lora_rank']}"
        for kind in ("tensors", "resident"):  # the second is known on Linux alone
            row[kind] = row[kind] and f"{row[kind] / GB:.3f} ({row['total'] / row[kind]:.2f})"
        row["total"] /= GB
    return table(
        "model: {shape} | rows × tokens: {rows} × {length} | share predicted: {query_share:g} | precision: {precision} "
        "| trained: {what} | checkpointing: {again} | estimate, GB: {total:.3f} | tensors, GB (ratio): {tensors} "
        "| resident, GB (ratio): {resident}",
        rows,
        source(memory, "In brackets: the estimate over what was measured."),
    )


def scaling_flex(flex: dict) -> str:
    rows = {}
    for row, what in product(flex["rows"], ("by position", "in order")):
        line = rows.setdefault((row["grouping"], what), {"grouping": row["grouping"], "what": what})
        line[f"T = {row['length']:,}"] = f"{row[what]['skipped']:.0%}"
    below, times = source(flex, "Blocks of {block} × {block}."), "Times: **not measured**, on no GPU yet."
    if timed := [row for row in flex["rows"] if any(row["ms"].values())]:
        kinds = [kind for kind in timed[0]["ms"] if any(row["ms"][kind] for row in timed)]
        times = table("grouping: {grouping} | T: {length:,} | " + across("$, ms: {ms[$]}", kinds), timed)
    columns = "grouping: {grouping} | rows stand: {what} | " + across("$: {$}", list(line)[2:])
    return table(columns, rows.values(), f"{times}\n\n{below}")


def scaling_gpu(gpu: dict) -> str:
    """What ``make gpu-check`` found on a machine with a GPU."""
    checks, flex = gpu["checks"], gpu["checks"]["flex_equals_sdpa"]
    cells = {
        "the content stream is the source model (law 1)": "logits differ by {parity[largest_difference]:.0e}",
        "no leakage (law 2), both kernels, two dtypes": "bit for bit, {no_leakage[positions]} positions",
        "the cache is exact (law 4)": "log-probabilities differ by {exact_cache[largest_difference]:.0e}",
        "FlexAttention, compiled, equals the default kernel": f"log-probabilities differ by {flex['log_probs']:.0e}",
        "the same of gradients": f"they differ by {flex['gradients']:.0e} of their norm",
    }
    for name in ("bf16", "fp16"):
        losses, estimate, gb = (checks["training"][name][key] for key in ("losses", "estimate_gb", "measured_gb"))
        cells[f"{name} trains"] = f"loss {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps"
        found = f"{estimate:.2f} GB estimated, {gb:.2f} GB measured ({estimate / gb:.2f})"
        cells[f"the memory estimate holds, {name}"] = found
    same = "bit for bit" if checks["resume"]["bitwise"] else "they differ by {resume[resumed]:.0e}"
    cells["a stopped and resumed run equals a whole one"] = same
    failed = f"**Failed: {', '.join(gpu['failed'])}.**" if gpu["failed"] else "All checks passed."
    speeds = ", ".join(f"{name}: {value:.0f}" for name, value in checks["speed"].items() if "batch" in name)
    shared = f"Speeds: **not measured**, for the GPU was shared with {gpu['beside']}."
    speed = shared if gpu["beside"] else f"Tokens per second of decoding: {speeds}."
    cells = {name: fill(cell, checks) for name, cell in cells.items()}
    return pairs("check", "found", cells, source(gpu, "Model: {model}."), failed, speed)


def versions_matrix(version_matrix: dict) -> str:
    """That all of it ran and nothing failed, tests/tools/test_matrix.py checks."""
    ends, ranges = version_matrix["columns"], {"python": ">=3.11", **version_matrix["ranges"]}
    rows = {name: {"range": limits.replace(">=", "≥ ")} for name, limits in ranges.items()}
    for end, one in ends.items():
        for name in ranges:
            rows[name][end] = one["versions"].get(name)
        for kind in ("tests", "notebooks"):
            skipped = f", {one[kind]['skipped']:,} skipped" if one[kind]["skipped"] else ""
            ran = f"{one[kind]['passed']:,} passed{skipped} ({one[kind]['seconds'] / 60:.0f} min)"
            rows.setdefault(f"**{kind}**", {})[end] = ran
    below = [f"{end.capitalize()}: commits {', '.join(c[:7] for c in one['commits'])}." for end, one in ends.items()]
    columns = "package: {name} | range: {range} | " + across("$: {$}", ends)
    return table(columns, rows, *below, f"{_MADE.format(**version_matrix)}.")


def _chapters() -> set[str]:
    return {path.stem for path in (Path(__file__).resolve().parents[3] / "notebooks").glob("*.ipynb")}


def versions_colab(colab_check: dict) -> str:
    have = {name.lower().replace("_", "-"): version for name, version in colab_check["environment"].items()}
    among = ("python", "torch", "transformers", "numpy", "datasets", "accelerate", "peft", "ipywidgets", "ipykernel")
    commit, date = colab_check["snapshot"]
    newer = sorted(_chapters() - {*colab_check["notebooks"]})
    cells = {
        "Colab's list of packages": f"commit {commit[:7]} of googlecolab/backend-info, {date}",
        "among them": listed({name: have[name] for name in among}),
        "the setup cell installed": listed(colab_check["installed"]),
        "notebook 10 installed as well": listed(colab_check["installed_by_10"]),
        "packages whose version changed": ", ".join(colab_check["changed"]) or "none",
        "a second run of the setup cell": colab_check["second_run"],
        "notebooks that ran to their end": f"{colab_check['passed']} of {len(colab_check['notebooks'])}",
        "chapters since then, not run there yet": ", ".join(newer) or "none",
    }
    about = _MADE + ", commit {commit:.7}, {minutes:.0f} minutes for the notebooks."
    return pairs("what", "found", cells, about.format(**colab_check, minutes=colab_check["wall_seconds"] / 60))
