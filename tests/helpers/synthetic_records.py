"""Records as a comparison would leave them, made of nothing, for tests of what reads them."""

from __future__ import annotations

from typing import Any

LAYERS = 4
SHAPE = {
    "layers": LAYERS,
    "hidden_size": 64,
    "intermediate_size": 160,
    "attention_heads": 4,
    "key_value_heads": 2,
    "head_dim": 16,
    "vocabulary": 99,
    "tower_layers": 2,
    "tower_width": 48,
    "tower_heads": 2,
    "tower_intermediate": 100,
    "tower_rows": 577,
    "patch_values": 147,
    "projector_inner": 64,
    "image_tokens": 576,
}
COMMON = {
    "model": "tiny",
    "model_digest": "0123456789abcdef",
    "batch_size": 1,
    "dtype": "float32",
    "attention": "sdpa",
    "device": "cpu",
    "code_digest": "c0de",
    "versions": {"python": "3.11", "torch": "2.11"},
}
PROVENANCE = {
    "commit": "abcdef0123456789",
    "dirty": False,
    "created": "2026-01-01T00:00:00+00:00",
    "command": "harness compare",
    "device_name": None,
    "cpu": "A processor",
}
LABELS = {"unpruned": "Unpruned", "fastv": "FastV", "vitcop": "ViTCoP", "random": "Random"}


def cell_text(method: str, budget: int | None, seed: int = 0) -> str:
    return method + (f"@{budget}" if budget else "") + (f"#{seed}" if seed else "")


def described(method: str) -> dict[str, str]:
    name = method.split(":")[0]
    return {"name": name, "label": LABELS.get(name, name), "venue": "", "link": ""}


def ledger_row(entering: list[int], samples: int, text: int = 10) -> dict[str, Any]:
    cached = [tokens + text for tokens in entering]
    planned = list(entering)
    return {
        "entering": entering,
        "cached": cached,
        "planned": planned,
        "text": text,
        "samples": samples,
    }


def accuracy(
    method: str = "fastv",
    budget: int | None = 64,
    task: str = "count",
    scores: list[float] | None = None,
    seed: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """One finished record; question n of every task is about image n."""
    scores = [1.0, 0.0, 1.0, 1.0] if scores is None else scores
    cut = [] if budget is None else [{"stage": "rank", "layer": 2, "kept": "ff", "rows": 8}]
    samples = [
        {
            "item": f"{task}/{n}",
            "image": f"image{n}",
            "answer": "2",
            "target": "2",
            "score": score,
            "ledger": 0,
            "first_token": {"ids": [1, 2], "logprobs": [-0.5, -1.5]},
            "selections": cut,
        }
        for n, score in enumerate(scores)
    ]
    identity = {
        "method": method.split(":")[0],
        "settings": {},
        "budget": budget,
        "seed": seed,
        "task": task,
        "task_version": "1.0",
        "limit": None,
        **COMMON,
    }
    record = {
        "schema": 1,
        "kind": "accuracy",
        "cell": cell_text(method, budget, seed),
        "status": "ok",
        "reason": None,
        "identity": identity,
        "method": described(method),
        "parameters": {},
        "ledger": [ledger_row([budget or 576] * LAYERS, len(samples))],
        "samples": samples,
        "shape": SHAPE,
        "metric": "acc",
        "wall_seconds": 1.0,
        "provenance": PROVENANCE,
    }
    return {**record, **changes}


def without_result(status: str, **changes: Any) -> dict[str, Any]:
    """A record of a cell that failed or is infeasible."""
    record = accuracy(**{k: v for k, v in changes.items() if k in ("method", "budget", "task")})
    for key in ("ledger", "samples", "shape", "metric", "parameters", "wall_seconds"):
        del record[key]
    others = {k: v for k, v in changes.items() if k not in ("method", "budget", "task")}
    return {**record, "status": status, **others}


def efficiency_cell(
    method: str, budget: int | None, seconds: float, rounds: int = 3
) -> dict[str, Any]:
    times = [seconds * (1 + 0.1 * n) for n in range(rounds)]
    return {
        "cell": cell_text(method, budget),
        "method": described(method),
        "budget": budget,
        "status": "ok",
        "reason": None,
        "parameters": {},
        "ledger": [ledger_row([budget or 576] * LAYERS, 1)],
        "text": 10,
        "raw_seconds": {
            "vision_tower": [0.010] * rounds,
            "projector": [0.001] * rounds,
            "selection": [0.0 if budget is None else 0.002] * rounds,
            "prefill": times,
            "decode": [[0.003, 0.004, 0.005]] * rounds,
            "end_to_end": [2 * t for t in times],
        },
        "warmup_seconds": {},
        "peak_bytes": 3 * 2**20,
        "peak_kind": "process",
        "kv_cache_bytes": 2**20,
    }


def efficiency(cells: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    cells = cells or [efficiency_cell("unpruned", None, 0.1), efficiency_cell("fastv", 64, 0.05)]
    identity = {
        "cells": [cell["cell"] for cell in cells],
        "repeats": 3,
        "warmups": 1,
        "new_tokens": 4,
        "prompt": "?",
        "seed": 0,
        **COMMON,
    }
    record = {
        "schema": 1,
        "kind": "efficiency",
        "identity": identity,
        "cells": cells,
        "order": [[0, 1]] * 3,
        "shape": SHAPE,
        "provenance": PROVENANCE,
    }
    return {**record, **changes}
