"""What a record keeps of a cell's answers before they are scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.accuracy.generated import Answer
from harness.records.counted import distinct


def kept(task: str, answers: Mapping[int, Answer]) -> dict[str, Any]:
    """In the order of the documents, by whose numbers the answers are given."""
    documents = sorted(answers)
    ledger, rows = distinct([answers[document].ledger for document in documents])
    return {
        "parameters": next(iter(answers.values())).parameters,
        "ledger": ledger,
        "samples": [
            _sample(f"{task}/{document}", answers[document], row)
            for document, row in zip(documents, rows, strict=True)
        ],
    }


def _sample(item: str, answer: Answer, row: int) -> dict[str, Any]:
    return {
        "item": item,
        "image": _image(item, answer),
        "answer": answer.text,
        "target": None,
        "score": None,
        "ledger": row,
        "first_token": answer.first_token,
        "selections": answer.selections,
        **({"grids": answer.grids} if answer.grids else {}),
    }


def _image(item: str, answer: Answer) -> str:
    """What makes questions dependent: their images, or the question itself where it has none."""
    return "+".join(digest[:16] for digest in answer.images) or item
