"""What the embedded benchmarks can tell: `python -m harness.tables.yardsticks RECORDS`.

An accuracy means something beside what earns as much without seeing: always the same answer, the
question alone, tokens kept at random. The command asks the shipped model all questions without
their images, takes the rest from records of a comparison with `--controls`, and writes the file
that `harness list models` and the README print.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.analysis.outcomes import Outcomes, Scores
from harness.analysis.rows import Row, rows_of
from harness.analysis.stats import Estimate, mean_interval, paired_difference
from harness.analysis.task_scores import short
from harness.embedded import benchmark, checkpoint_path, video_checkpoint_path
from harness.embedded.benchmarks import BENCHMARKS, Benchmark, benchmark_of
from harness.embedded.video import benchmark as video
from harness.records.cell import UNPRUNED
from harness.records.file import read_all
from harness.records.groups import answers_of
from harness.records.record import Record
from harness.tables.numbers import number
from harness.tables.table import Column, Table

FILE = Path(__file__).with_suffix(".json")
FILES = {benchmark.GROUP: FILE, video.GROUP: FILE.with_stem("yardsticks-video")}
CONTROL = "random"
SETS_APART = 0.05


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.tables.yardsticks", description=__doc__
    )
    parser.add_argument("records", type=Path, nargs="+", help="directories with records")
    options = parser.parse_args()
    records = list(read_all(options.records, warn=print))
    measured = measure(records)
    FILES[_benchmark(records).group].write_text(json.dumps(measured, indent=1) + "\n")


def measure(records: Sequence[Record]) -> dict[str, Any]:
    """Of each yardstick, percent right by task with the bounds of its interval over images."""
    named = (UNPRUNED, CONTROL)
    wanted = [r for r in answers_of(records) if r.cell.method.known_as in named]
    rows = {_name(row): _by_task(row.outcomes) for row in rows_of(wanted)}
    own = _benchmark(wanted)
    majority = {task: [100 * own.majority(task)] for task in own.tasks}
    without = _by_task(_without_image(own))
    shown = "clip" if own.group == video.GROUP else "image"
    digests = {record.identity.model_digest for record in wanted}
    if len(digests) != 1:
        raise SystemExit("the records are of several models, or of none")
    return {
        "model_digest": digests.pop(),
        "limit": wanted[0].identity.limit,
        "commit": wanted[0].provenance.commit,
        "percent": {"Majority answer": majority, f"Without the {shown}": without, **rows},
    }


def _benchmark(records: Sequence[Record]) -> Benchmark:
    return benchmark_of(answers_of(records)[0].task)


def table(group: str = benchmark.GROUP) -> Table:
    """The yardsticks by task, as they were measured."""
    measured = json.loads(FILES[group].read_text())
    own = next(each for each in BENCHMARKS if each.group == group)
    names = [short(task) for task in own.tasks]
    columns = (
        Column(f"Model {group}", ("yardstick",), left=True),
        *(Column(name, (name, f"{name}_low", f"{name}_high"), _interval) for name in names),
        Column("Mean", ("mean",)),
    )
    rows = tuple(
        (
            (name,),
            *(_parts(shares[task]) for task in own.tasks),
            (number(sum(shares[task][0] for task in own.tasks) / len(own.tasks)),),
        )
        for name, shares in measured["percent"].items()
    )
    questions = measured["limit"] or benchmark.QUESTIONS
    note = (
        "Percent of answers that are right, in brackets the 95 % interval over images; random: "
        f"mean of its seeds. {questions} questions a task · model {measured['model_digest'][:10]} "
        f"· commit {measured['commit'][:10]}"
    )
    return Table("Yardsticks", columns, rows, notes=(note,))


def separation(records: Sequence[Record], budget: int) -> str:
    """Whether methods differ from the control, and from one another, in words.

    Differences are paired by question and clustered by image.
    """
    found = rows_of(answers_of(records))
    rows = [row for row in found if row.asked.budget == budget and row.complete]
    control = next(row for row in rows if row.label.lower().startswith(CONTROL))
    others = [row for row in rows if row is not control]
    best = max(others, key=lambda row: mean_interval(row.outcomes).value)
    lead = paired_difference(best.outcomes, control.outcomes)
    text = (
        f"At {budget} tokens {best.label} leads {control.label} by {number(lead.value)} points "
        f"[{number(lead.low)}, {number(lead.high)}] on the mean of the tasks (p = {lead.p:.2g})."
    )
    tasks = _benchmark(records).tasks
    parts = [f"{short(task)} {_apart(others, task)}" for task in tasks]
    pairs = len(list(combinations(others, 2)))
    return f"{text} Of {pairs} pairs of methods differ at p < {SETS_APART}: {', '.join(parts)}."


def _apart(rows: Sequence[Row], task: str) -> int:
    own = [{task: row.outcomes[task]} for row in rows]
    return sum(paired_difference(a, b).p < SETS_APART for a, b in combinations(own, 2))


def _name(row: Row) -> str:
    return row.label if row.asked.budget is None else f"{row.label} at {row.asked.budget_label}"


def _by_task(outcomes: Outcomes) -> dict[str, list[float]]:
    return {task: _rounded(mean_interval({task: held})) for task, held in outcomes.items()}


def _rounded(share: Estimate) -> list[float]:
    return [round(value, 2) for value in (share.value, share.low, share.high)]


def _without_image(own: Benchmark) -> Outcomes:
    """Scores in percent of the shipped model when it is asked without images or clips."""
    from harness.embedded.training import evaluate

    of_video = own.group == video.GROUP
    model, processor = evaluate.load(video_checkpoint_path() if of_video else checkpoint_path())
    found = {}
    for task in own.tasks:
        items = own.items(task)
        answers = evaluate.answer(model, processor, items, 20, with_image=False)
        found[task] = Scores.of(
            [
                (item.item_id, item.image_id, 100.0 * (answer == item.answer))
                for item, answer in zip(items, answers, strict=True)
            ]
        )
    return found


def _parts(share: Sequence[float]) -> tuple[str, str, str]:
    """Value and bounds; the majority answer has no bounds."""
    value, low, high = (*map(number, share), "", "")[:3]
    return value, low, high


def _interval(parts: Iterable[str]) -> list[str]:
    value, low, high = parts
    return [f"{value} [{low}, {high}]" if low else value]


if __name__ == "__main__":
    main()
