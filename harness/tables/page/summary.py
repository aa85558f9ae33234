"""The findings of a study in sentences, each made of its records' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.blocks import AVERAGE, RELATIVE, Block, Line
from harness.analysis.emphasis import Emphasis, emphasised
from harness.analysis.stats import mean_interval, mean_of
from harness.analysis.studies import Study
from harness.tables import numbers


def findings(study: Study) -> list[str]:
    """First unpruned, then for every budget who leads, by how much, and at which cost."""
    return [*_upper(study), *(line for block in study.blocks for line in _at(study, block))]


def _upper(study: Study) -> Iterator[str]:
    whole = study.unpruned
    if whole is None or AVERAGE not in whole.scores:
        yield "Unpruned was not measured over all benchmarks, so nothing is relative to it."
        return
    tasks = len(whole.scores) - len({AVERAGE, RELATIVE} & whole.scores.keys())
    yield (
        f"Unpruned, {study.name} scores {whole.scores[AVERAGE].value:.1f} on average over {tasks} "
        f"benchmark{'s' if tasks > 1 else ''}, with {whole.tokens:.0f} visual tokens in a layer."
    )


def _at(study: Study, block: Block) -> Iterator[str]:
    lines = [line for line in block.lines if AVERAGE in line.values]
    asked = block.lines[0].row.asked
    if asked.budget is None or not lines:
        return
    place = f"{'the FLOPs of ' * asked.in_flops}{asked.budget} tokens"
    lead = max(lines, key=lambda line: mean_of(line.values[AVERAGE]))
    score = mean_interval(lead.values[AVERAGE])
    told = f"At {place} {lead.row.label} has the highest average, {score.value:.1f}"
    told += f" (95 % interval {numbers.number(score.low)} to {numbers.number(score.high)}"
    if lead.values.get(RELATIVE):
        told += f"; {mean_of(lead.values[RELATIVE]):.1f} % of unpruned"
    yield f"{told}){_rivals(block, lead, lines)}.{_cost(study, lead)}"
    noise = [line.row.label for line in lines if line.noise]
    if noise:
        yield f"Not significantly better than Random at {place}: {listed(noise)}."


def _rivals(block: Block, lead: Line, lines: Sequence[Line]) -> str:
    """Who of the others is significantly worse, as the table's bold print has it."""
    bold = emphasised([line.values for line in block.lines], Emphasis.SIGNIFICANT)
    near = {block.lines[i].row.label for i, column in bold if column == AVERAGE}
    others = [line for line in lines if line is not lead]
    alike = [line.row.label for line in others if line.row.label in near]
    worse = [
        f"{line.row.label} (−{mean_of(lead.values[AVERAGE]) - mean_of(line.values[AVERAGE]):.1f})"
        for line in others
        if line.row.label not in near
    ]
    said = ""
    if alike:
        said += f"; not significantly ahead of {listed(alike)}"
    if worse:
        said += f"; significantly ahead of {listed(worse)}"
    return said


def _cost(study: Study, lead: Line) -> str:
    for timing in study.timings:
        if timing.asked == lead.row.asked:
            return (
                f" Its first token takes {timing.ratio.value:.2f} times as long as unpruned "
                f"({numbers.number(timing.ratio.low, 2)} to {numbers.number(timing.ratio.high, 2)}"
                f" over the rounds), {100 * timing.selection_share:.0f} % of it for the selection."
            )
    return ""


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
