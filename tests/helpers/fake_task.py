"""A stand-in for a task of lmms-eval, for what scores it."""

from __future__ import annotations

from types import SimpleNamespace


class FakeTask:
    """A task of these metrics and their aggregations."""

    def __init__(self, **aggregations) -> None:
        self.args = SimpleNamespace(output_path="somewhere")
        self.config = SimpleNamespace(
            metric_list=[{"metric": metric} for metric in aggregations], process_results=None
        )
        self.aggregation = lambda: aggregations
