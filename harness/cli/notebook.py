"""`harness.compare`: the command as a function, for notebooks and scripts."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.analysis.told import told
from harness.cli import words
from harness.cli.options import OUTPUT
from harness.errors import unknown
from harness.models.protocols import protocol_of
from harness.models.videos import FRAMES
from harness.records.record import Record
from harness.run.compare import compare as measured
from harness.run.request import Request

_WORDS = {"match": words.parse_match, "budget_per": words.parse_budget_per}


def compare(
    methods: str = "vitcop,fastv",
    budgets: str = "192,128,64",
    tasks: str | None = None,
    model: str = "embedded",
    output: str | Path = OUTPUT,
    protocol: str = "hf",
    batch_size: int = 1,
    **options: Any,
) -> list[Record]:
    """Records of all that is asked for, kept in `output`, where they are found again.

    Words are those of `harness compare`; `options` are the other fields of `Request`, such as
    `limit=20`, `efficiency=False`, `controls=True`. Raises BadInput for what the command refuses.
    """
    known = {field.name for field in fields(Request)} - {"methods", "budgets", "tasks", "protocol"}
    for name in options.keys() - known:
        raise unknown("option", name, sorted(known))
    for name in _WORDS.keys() & options.keys():
        options[name] = _WORDS[name](options[name])
    chosen = words.parse_tasks(tasks) if tasks else words.tasks_for(model)
    videos = words.shows_videos(chosen)
    if videos:
        options.setdefault("timed_frames", (options.get("frames", FRAMES),))
    request = Request(
        methods=words.parse_methods(methods, videos, bool(options.get("controls"))),
        budgets=words.parse_budgets(budgets),
        tasks=chosen,
        model=model,
        output=words.directory(str(output)),
        protocol=protocol_of(protocol),
        batch_sizes=(batch_size,),
        **options,
    )
    with words.method_blamed():
        return measured(request, told)
