"""Functions of the embedded tasks for lmms-eval, which loads this file by its path."""

from __future__ import annotations

from typing import Any


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """The question's image, a PIL image in RGB, or the path of its clip."""
    return [doc["video"] if "video" in doc else doc["image"].convert("RGB")]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> str:
    """The question alone; models that want more words around it may name them."""
    kwargs = lmms_eval_specific_kwargs or {}
    return f"{kwargs.get('pre_prompt', '')}{doc['question']}{kwargs.get('post_prompt', '')}"


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """1 for exactly the answer, 0 for anything else."""
    return {"acc": float(results[0].strip().lower() == doc["answer"])}
