"""How much of a forward at batch 1 is the host launching kernels: what a CUDA graph would give.

`python tests/benchmarks/launch_overhead.py --model random:llava-1.5-7b`. The same forward of the
decoder, unpruned, run as usual and replayed from a CUDA graph, in turn; a graph has no Python
between kernels. On a CPU there is nothing to replay and only the forward is timed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from harness.efficiency.clocks import Stopwatch
from harness.models.load import load_model
from harness.models.placement import machine
from harness.records.file import write_atomically
from harness.records.provenance import provenance
from methods.adapters import adapter_for

ROUNDS, WARMUPS = 30, 5
SHAPES = {
    "prefill of 640 tokens": (640, 0),
    "prefill of 128 tokens": (128, 0),
    "new token after 640": (1, 640),
    "new token after 128": (1, 128),
}
"""Tokens that enter, and rows that the cache holds already."""


def forward_of(model: Any, tokens: int, context: int) -> Callable[[], None]:
    """One forward of the decoder and its head on random states, after `context` rows of cache."""
    adapter, device = adapter_for(model), model.device
    config, shape = adapter.text_config, adapter.shape()
    states = torch.randn(1, tokens, shape.hidden_size, device=device).to(model.dtype)
    positions = torch.arange(context, context + tokens, device=device)[None]
    size = (1, shape.key_value_heads, context, shape.head_dim)
    filled = DynamicCache(config=config)
    for layer in range(shape.layers):
        filled.update(*torch.randn(2, *size, device=device).to(model.dtype), layer)
    rows = [(layer.keys, layer.values) for layer in filled.layers]

    def forward() -> None:
        out = adapter.text_model(
            inputs_embeds=states, position_ids=positions, past_key_values=filled, use_cache=True
        )
        adapter.head(out.last_hidden_state[:, -1:])
        for layer, (keys, values) in zip(filled.layers, rows, strict=True):
            layer.keys, layer.values = keys, values

    return forward


def graph_of(forward: Callable[[], None]) -> Callable[[], None]:
    """The forward captured once; calling it replays its kernels."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUPS):
            forward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward()
    return graph.replay


def compared(ways: dict[str, Callable[[], None]], device: torch.device) -> dict[str, list[float]]:
    """Raw seconds of each way, in turn, from an idle device to an idle device."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(-WARMUPS, ROUNDS):
        for way, run in ways.items():
            clock = Stopwatch(device)
            clock.start(way)
            run()
            clock.stop(way)
            if number >= 0:
                seconds[way] += clock.seconds()[way]
            else:
                clock.seconds()
    return seconds


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:llava-1.5-7b")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    loaded = load_model(options.model, options.device)
    device, found = loaded.model.device, {}
    for name, (tokens, context) in SHAPES.items():
        with torch.no_grad():
            forward = forward_of(loaded.model, tokens, context)
            ways = {"launched": forward}
            if device.type == "cuda":
                ways["replayed"] = graph_of(forward)
            found[name] = compared(ways, device)
        times = {way: 1000 * median(seconds) for way, seconds in found[name].items()}
        print(f"{name}: " + ", ".join(f"{way} {ms:.3f} ms" for way, ms in times.items()))
    content = {"model": loaded.name, "raw_seconds": found, **provenance(machine(loaded.device))}
    path = options.output / "batch1.json"
    write_atomically(path, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
