"""How often the gate raises a false alarm: one commit compared with itself (A/A), on this machine.

`python tests/benchmarks/same_commit.py DIR > results/same-commit.txt`. Every run is a process of
its own and leaves its records in DIR, so that an interrupted series goes on where it was. Pairs are
disjoint. The same timing runs, also cut to the fewest rounds that the gate accepts, then tell how
often a planted slowdown is caught.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from harness.analysis import speed
from harness.analysis.stats import round_ratio
from harness.records.file import SUFFIX
from harness.records.record import EfficiencyRecord, Record
from harness.records.timed import TimedCell
from harness.regress.findings import Finding, Kind, Verdict
from harness.regress.ratio import FEWEST_ROUNDS
from harness.regress.records import Limits, record_findings
from harness.regress.significance import rate_bound
from harness.regress.sources import read_directory
from harness.tables.numbers import origin

NEW_TOKENS = 2
THREADS = 1
"""Of the timing runs: with two, which wait for each other, a busy core delays a round twice."""
PLANTED = {"prefill 10 % slower": ("prefill", 1.1), "selection 2 × slower": ("selection", 2.0)}
PLANTED_IN = "vitcop@64"

Pair = tuple[list[Record], list[Record]]
Seconds = Mapping[str, Sequence[Any]]


def main(
    directory: Path,
    full: Annotated[int, typer.Option(help="Pairs of runs of the whole gate.")] = 3,
    limit: Annotated[int, typer.Option(help="Questions a task in these.")] = 4,
    short: Annotated[int, typer.Option(help="Pairs of short timing runs.")] = 50,
    rounds: Annotated[int, typer.Option(help="Rounds of each of these.")] = 40,
    model: Annotated[str, typer.Option(help="What they time.")] = "tiny",
) -> None:
    whole = [directory / f"full-{number:03}" for number in range(2 * full)]
    for run in whole:
        compare(run, "accuracy", "--methods", "all", "--limit", str(limit), "--no-efficiency")
        compare(run, "efficiency", "--repeats", str(FEWEST_ROUNDS), "--no-accuracy")
    timed = [directory / f"short-{number:03}" for number in range(2 * short)]
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["harness.run.compare", "harness.efficiency.instrument", "methods.runtime"]
    )
    for run in timed:
        if not holds(run, "efficiency"):
            process = context.Process(target=time_once, args=(run, model, rounds))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(f"{run.name} failed with exit status {process.exitcode}")
    if full:
        report("whole gate, exact and paired", pairs(whole), lambda f: f.kind is not Kind.RATIO)
        print(f"{limit} questions a task · {origin(read_directory(whole[-1]))}")
    for count in sorted({FEWEST_ROUNDS, rounds}):
        compared = [(first(count, before), first(count, after)) for before, after in pairs(timed)]
        report(f"{count} rounds", compared, lambda f: f.kind is Kind.RATIO)
        for fault, (phase, factor) in PLANTED.items():
            power(fault, compared, phase, factor)
    spread(timed)
    print(f"{THREADS} thread · {origin(read_directory(timed[-1]))}")


def holds(run: Path, kind: str) -> bool:
    return any(run.glob(f"{kind}-*{SUFFIX}"))


def compare(run: Path, kind: str, *arguments: str) -> None:
    """`harness compare` on the embedded model; an interrupted one reuses what it finished."""
    if (run / f"{kind}.md").exists():
        return
    code = "import sys; from harness.cli.app import main; sys.exit(main())"
    common = [sys.executable, "-c", code, "compare", "--budgets", "64", "--device", "cpu"]
    subprocess.run([*common, "--output", str(run), *arguments], check=True, stdout=sys.stderr)


def time_once(run: Path, model: str, rounds: int) -> None:
    """One efficiency record with few new tokens."""
    import torch

    from harness.cli.app import main

    torch.set_num_threads(THREADS)
    size = ["--batch-size", "1", "--new-tokens", str(NEW_TOKENS), "--repeats", str(rounds)]
    asked = ["--model", model, "--methods", "vitcop", "--budgets", "64", "--device", "cpu"]
    with redirect_stdout(sys.stderr):
        sys.exit(main(["efficiency", *asked, *size, "--output", str(run)]))


def pairs(runs: Iterable[Path]) -> Iterator[Pair]:
    read = map(read_directory, runs)
    return zip(read, read, strict=True)


def first(rounds: int, run: list[Record]) -> list[Record]:
    """The run's records as if it had ended after so many rounds."""
    return [
        with_seconds(r, lambda _, raw: {phase: x[:rounds] for phase, x in raw.items()}) for r in run
    ]


def with_seconds(record: Record, change: Callable[[TimedCell, Seconds], Seconds]) -> Record:
    """A run whose cells took other times."""
    assert isinstance(record, EfficiencyRecord)
    cells = (replace(timed, seconds=change(timed, timed.seconds)) for timed in record.cells)
    return replace(record, cells=tuple(cells))


def report(what: str, runs: Iterable[Pair], of: Callable[[Finding], bool]) -> None:
    """Pairs with an alarm, the bound of their rate, and what was wrong in them."""
    found = [
        [f for f in record_findings(before, after, Limits()) if of(f)] for before, after in runs
    ]
    worse = [[f for f in findings if f.verdict is Verdict.WORSE] for findings in found]
    better = sum(any(f.verdict is Verdict.BETTER for f in findings) for findings in found)
    alarms, compared = sum(map(bool, worse)), sum(map(len, found))
    print(
        f"{what}: {alarms} of {len(found)} pairs raised an alarm, rate at most "
        f"{100 * rate_bound(alarms, len(found)):.1f} % (one-sided 95 %); {better} an improvement; "
        f"{compared} quantities compared"
    )
    for name, times in Counter(f"{f.cell} {f.quantity}" for pair in worse for f in pair).items():
        print(f"  {name}: {times}")


def spread(runs: Iterable[Path]) -> None:
    """How far apart the runs of one and the same code are."""
    ratios, times = [], []
    for run in runs:
        (record,) = read_directory(run)
        assert isinstance(record, EfficiencyRecord)
        upper, pruned = record.cells
        theirs = speed.rounds(upper, "prefill")
        ratios.append(round_ratio(speed.rounds(pruned, "prefill"), theirs).value)
        times.append(1000 * median(theirs))
    print(
        f"{PLANTED_IN} prefill × of {len(ratios)} runs: {min(ratios):.3f} to {max(ratios):.3f}; "
        f"the unpruned prefill took {min(times):.0f} to {max(times):.0f} ms"
    )


def power(fault: str, runs: Iterable[Pair], phase: str, factor: float) -> None:
    """How often a fault that is planted into the second run of each pair is named."""
    quantity, caught, total = f"{phase} ×", 0, 0
    for before, after in runs:
        findings = record_findings(before, [slower(r, phase, factor) for r in after], Limits())
        named = {(f.cell, f.quantity) for f in findings if f.verdict is Verdict.WORSE}
        caught, total = caught + ((PLANTED_IN, quantity) in named), total + 1
    print(f"planted, {fault}: {caught} of {total} pairs named {PLANTED_IN} {quantity}")


def slower(record: Record, phase: str, factor: float) -> Record:
    """The record with one phase of one cell taking `factor` times as long in every round."""
    parts = ("prefill", "selection") if phase == "prefill" else (phase,)

    def change(timed: TimedCell, raw: Seconds) -> Seconds:
        if timed.cell.text != PLANTED_IN:
            return raw
        return {**raw, **{part: [factor * s for s in raw[part]] for part in parts}}

    return with_seconds(record, change)


if __name__ == "__main__":
    typer.run(main)
