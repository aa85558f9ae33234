"""Scores as lmms-eval's own aggregations give them, and what is known of their parts."""

from __future__ import annotations

from time import process_time, sleep

import numpy as np
import pytest
from fake_task import FakeTask
from lmms_eval.api.metrics import mean
from synthetic_records import accuracy

from harness.accuracy.aggregation import GROUPS, aggregated, left_out
from harness.accuracy.scores import scored
from harness.analysis.stats import mean_interval, paired_difference
from harness.analysis.task_scores import columns_of
from harness.records.record import record_of
from harness.records.task_metrics import TASK_METRICS, Metric, metrics_of

ADDED = {"sum": 0}


def f1(items) -> float:
    """Of (truth, answer) pairs of yes and no."""
    hit = sum(item["truth"] == item["said"] == "yes" for item in items)
    wrong = sum(item["truth"] != item["said"] for item in items)
    return 2 * hit / (2 * hit + wrong) if hit or wrong else 0.0


def pairs(items) -> float:
    by_id: dict[int, list[float]] = {}
    for item in items:
        by_id.setdefault(item["question_id"], []).append(item["score"])
    assert all(len(both) == 2 for both in by_id.values()), "pairs only"
    return sum(50 * sum(both) + 100 * (sum(both) == 2) for both in by_id.values()) / len(by_id)


def adding(items, args) -> float:
    """As OCRBench's: adds to what its module holds, and writes beside the results."""
    ADDED["sum"] += sum(item["score"] for item in items)
    assert args.output_path
    return ADDED["sum"] / 1000


def results_of(task: FakeTask, items: dict[str, list]) -> dict:
    """What lmms-eval logs and prints for these items; None: the metric has none of a question."""
    count = len(next(iter(items.values())))
    samples = [
        {"doc_id": i, **{m: v[i] for m, v in items.items() if v[i] is not None}}
        for i in range(count)
    ]
    printed = {}
    for metric, values in items.items():
        held = {metric: {i: v for i, v in enumerate(values) if v is not None}}
        printed[f"{metric},none"] = aggregated(task, Metric(metric), held)
    return {"samples": {"t": samples}, "results": {"t": printed}}


def score(task: FakeTask, items: dict[str, list], images: list[str] | None = None):
    count = len(next(iter(items.values())))
    keys = images or [str(i) for i in range(count)]
    return scored("t", task, results_of(task, items), dict(enumerate(keys)))


def numbers(found) -> list:
    return [number for _, number in found.samples.values()]


def test_the_metric_is_chosen_by_the_tasks_name_alone():
    task = FakeTask(f1=mean, acc=mean)
    for right in (1.0, 0.0):
        found = score(task, {"f1": [1.0, 0.0], "acc": [right, right]})
        assert (found.metric, numbers(found)) == ("acc", [right, right])
    assert metrics_of("pope", []) == TASK_METRICS["pope"]
    assert metrics_of("captions", ["c_Bleu_4", "c_CIDEr"])[0].name == "c_CIDEr"
    assert metrics_of("else", ["submission", "iou"])[0].name == "iou"
    with pytest.raises(ValueError, match="computes no score"):
        metrics_of("test", ["submission"])


def test_a_plain_mean_needs_no_groups():
    found = score(FakeTask(acc=mean), {"acc": [1.0, 0.0, 1.0]})
    assert found.metrics == {
        "acc": {"value": 2 / 3, "per_question": 1.0, "without": None, "why": None}
    }
    assert found.printed == {"acc": 2 / 3}


def test_questions_whose_items_are_no_numbers_are_scored_alone():
    """An aggregation that is a mean of what it makes of each: SEED's, MMMU's, an IoU."""

    def share(items):
        return round(sum(item["said"] == "A" for item in items) / len(items), 5)

    items = [{"said": letter} for letter in "ABA"]
    found = score(FakeTask(seen=share), {"seen": items})
    assert numbers(found) == [1.0, 0.0, 1.0]
    assert found.metrics["seen"]["per_question"] == 1.0
    assert found.metrics["seen"]["value"] == pytest.approx(2 / 3, abs=1e-5)


def test_a_busy_machine_takes_no_questions_score_away(monkeypatch):
    """Who waits for the processor does not work; who works long, or waits for others, is told."""

    def share(items):
        sleep(0.03)
        return sum(item["said"] == "A" for item in items) / len(items)

    def slow(items):
        until = process_time() + 0.03
        while process_time() < until:
            pass
        return share(items)

    items = [{"said": letter} for letter in "ABA"]
    assert numbers(score(FakeTask(seen=share), {"seen": items})) == [1.0, 0.0, 1.0]
    assert numbers(score(FakeTask(seen=slow), {"seen": items})) == [None] * 3
    monkeypatch.setattr("harness.accuracy.scores.PATIENCE", 0.01)
    assert numbers(score(FakeTask(seen=share), {"seen": items})) == [None] * 3


def test_a_score_of_some_questions_only_is_not_their_mean():
    task = FakeTask(image=mean)
    found = score(task, {"image": [1.0, None, 0.0]})
    assert numbers(found) == [1.0, None, 0.0]
    assert found.metrics["image"]["per_question"] is None


def test_what_groups_add_is_told_by_leaving_them_out():
    truth, said = ["yes", "no"] * 6, ["yes", "yes", "yes", "no"] * 3
    items = [{"truth": t, "said": s} for t, s in zip(truth, said, strict=True)]
    images = [str(i // 2) for i in range(12)]
    found = score(FakeTask(f1=f1), {"f1": items}, images).metrics["f1"]
    without = [f1([item for i, item in enumerate(items) if i // 2 != g]) for g in range(6)]
    assert (found["value"], found["without"]) == (f1(items), without)
    assert found["per_question"] is None


def test_pairs_stay_together_also_where_their_images_differ():
    items = [{"question_id": i // 2, "score": float(i % 3 == 0)} for i in range(8)]
    found = score(FakeTask(both=pairs), {"both": items}).metrics["both"]
    assert len(found["without"]) == 4
    assert found["without"][0] == pairs(items[2:])


def test_an_aggregation_that_adds_to_its_module_gives_every_cell_the_same():
    task, items = FakeTask(ocr=adding), [{"score": 1}, {"score": 0}, {"score": 1}]
    assert [score(task, {"ocr": items}).metrics["ocr"]["value"] for _ in range(3)] == [0.002] * 3
    assert ADDED == {"sum": 0}


def test_a_score_that_cannot_do_without_some_images_stands_and_says_why():
    def fragile(items):
        return 7.0 / (len(items) == 3)

    found = left_out(
        FakeTask(own=fragile),
        Metric("own"),
        {"own": {i: {} for i in range(3)}},
        dict(enumerate("abc")),
    )
    assert found["without"] is None
    assert found["why"].startswith("without some images it cannot be computed (ZeroDivisionError")


def test_at_most_so_many_groups():
    items = {"m": {i: {"score": 1.0} for i in range(3 * GROUPS)}}
    images = {i: f"{i:05d}" for i in range(3 * GROUPS)}
    task = FakeTask(m=lambda items: sum(item["score"] for item in items))
    assert left_out(task, Metric("m"), items, images)["without"] == [3 * GROUPS - 3] * GROUPS


# --- in tables ---------------------------------------------------------------------------------


def record(cell: tuple[str, int | None], statistic, values: list[float], by_question=False):
    """With a metric whose groups are single questions."""
    body = accuracy(*cell, task="t", scores=values)
    whole = statistic(values)
    rest = [statistic(values[:g] + values[g + 1 :]) for g in range(len(values))]
    known = {"value": whole, "per_question": 1.0 if by_question else None, "why": None}
    return record_of({**body, "metric": "m", "metrics": {"m": {**known, "without": rest}}})


def total(values):
    return sum(values) / 20


@pytest.mark.parametrize("statistic", [lambda v: sum(v) / len(v), total])
def test_pseudo_scores_have_the_scores_mean_and_spread(statistic):
    """A mean and a sum, taken apart by groups, are what they are question by question."""
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(0, 2, 20).astype(float).tolist() for _ in range(2))
    cells = [record(("fastv", 64), statistic, ours), record(("unpruned", None), statistic, theirs)]
    (column,) = columns_of(cells)
    grouped = [{"t": column.scores(cell)} for cell in cells]
    plain = [
        record(c, statistic, v, True)
        for c, v in ((("fastv", 64), ours), (("unpruned", None), theirs))
    ]
    (questions,) = columns_of(plain)
    single = [{"t": questions.scores(cell)} for cell in plain]
    one, other = (mean_interval(side[0]) for side in (grouped, single))
    assert one.value == pytest.approx(100 * statistic(ours))
    assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.1)
    p, q = (paired_difference(*side) for side in (grouped, single))
    assert p.value == pytest.approx(q.value)
    assert p.p == pytest.approx(q.p, abs=0.02)


def test_one_cell_that_is_no_mean_has_all_compared_by_groups():
    cells = [
        record(("fastv", 64), f_like, [1.0, 0.0, 1.0]),
        record(("unpruned", None), f_like, [1.0] * 3, True),
    ]
    (column,) = columns_of(cells)
    assert not column.by_question
    assert all(len(column.scores(cell).items) == 3 for cell in cells)


def f_like(values):
    return sum(values) / (sum(values) + 1)
