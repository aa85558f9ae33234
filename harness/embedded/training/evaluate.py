"""Scores a saved model on its whole benchmark: `python -m harness.embedded.training.evaluate DIR`.

It uses nothing but the Auto classes, the chat template and `generate`, so that it tells what
anyone gets who loads the directory. `--without-image` leaves the image (or the clip) away, which
shows what the words of the questions give away. A model that takes videos is asked about clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoModelForImageTextToText, AutoProcessor

from harness.embedded import benchmark, checkpoint_path
from harness.embedded.benchmark import Item
from harness.embedded.benchmarks import BENCHMARKS, benchmark_of
from harness.embedded.video import benchmark as video
from harness.errors import BadInput

NEW_TOKENS = 4


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.embedded.training.evaluate", description=__doc__
    )
    parser.add_argument("directory", type=Path, nargs="?", default=checkpoint_path())
    parser.add_argument("--without-image", action="store_true", help="ask without the image")
    parser.add_argument("--batch-size", type=int, default=20)
    options = parser.parse_args()
    table = Table("task", "accuracy", "majority answer", title=str(options.directory))
    try:
        model, processor = load(options.directory)
    except BadInput as error:
        parser.error(str(error))
    shares = []
    own = BENCHMARKS[hasattr(processor, "video_processor")]
    for task in own.tasks:
        items = own.items(task)
        answers = answer(model, processor, items, options.batch_size, not options.without_image)
        share = sum(a == item.answer for a, item in zip(answers, items, strict=True)) / len(items)
        shares.append(share)
        table.add_row(task, f"{share:.1%}", f"{own.majority(task):.1%}")
    table.add_row("mean", f"{sum(shares) / len(shares):.1%}", "")
    Console().print(table)


def load(directory: Path) -> tuple[Any, Any]:
    """Model (float32, in evaluation mode) and processor of a saved directory."""
    if not (directory / "config.json").is_file():
        raise BadInput(f"{directory} holds no saved model")
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(directory)


def answer(
    model: Any, processor: Any, items: tuple[Item, ...], batch_size: int, with_image: bool = True
) -> list[str]:
    """The greedy answers to items, stripped and in lower case as the tasks score them."""
    out: list[str] = []
    for start in track(range(0, len(items), batch_size), description="answers", transient=True):
        part = items[start : start + batch_size]
        inputs = _inputs(processor, part, with_image).to(model.device)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        new = ids[:, inputs["input_ids"].shape[1] :]
        texts = processor.batch_decode(new, skip_special_tokens=True)
        out += [text.strip().lower() for text in texts]
    return out


def _inputs(processor: Any, items: tuple[Item, ...], with_image: bool) -> Any:
    own = benchmark_of(items[0].item_id.rpartition("-")[0])
    kind, shown = ("video", video.clip) if own.group == video.GROUP else ("image", benchmark.image)
    prompts = []
    for item in items:
        content = [{"type": kind}] if with_image else []
        content.append({"type": "text", "text": item.question})
        turn = [{"role": "user", "content": content}]
        prompts.append(processor.apply_chat_template(turn, add_generation_prompt=True))
    media: dict[str, Any] = {}
    if with_image:
        media[f"{kind}s"] = [[shown(item.image_id)] for item in items]
    if media and kind == "video":
        media["videos_kwargs"] = {"do_sample_frames": False, "input_data_format": "channels_last"}
    return processor(text=prompts, padding=True, return_tensors="pt", **media)


if __name__ == "__main__":
    main()
