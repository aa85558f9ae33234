"""The findings of a study in sentences, each made of its records' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.blocks import AVERAGE, RELATIVE, Block, Line
from harness.analysis.stats import mean_interval, mean_of
from harness.analysis.studies import Study
from harness.tables import numbers
from harness.tables.page.answer import leader


def findings(study: Study) -> list[str]:
    """First unpruned, then for every budget who leads, by how much, and at which cost."""
    return [*_upper(study), *(line for block in study.blocks for line in _at(study, block))]


def _upper(study: Study) -> Iterator[str]:
    whole = study.unpruned
    if whole is None or study.overall not in whole.scores:
        yield "Unpruned was not measured over all benchmarks, so nothing is relative to it."
        return
    tasks = len(whole.scores) - len({AVERAGE, RELATIVE} & whole.scores.keys())
    yield (
        f"Unpruned, {study.name} scores {whole.scores[study.overall].value:.1f} on average over "
        f"{tasks} benchmark{'s' if tasks > 1 else ''}, with {whole.tokens:.0f} visual tokens in a "
        "layer."
    )


def _at(study: Study, block: Block) -> Iterator[str]:
    lead, alike, worse = leader(block, study.overall)
    if lead is None or lead.row.asked.is_unpruned:
        return
    asked = lead.row.asked
    flops = f"the FLOPs of {asked.budget} tokens"
    place = flops if asked.in_flops else asked.tokens_label
    score = mean_interval(lead.values[study.overall])
    told = f"At {place} {lead.row.label} has the highest average, {score.value:.1f}"
    told += f" (95 % interval {numbers.number(score.low)} to {numbers.number(score.high)}"
    if lead.values.get(RELATIVE) and study.overall != RELATIVE:
        told += f"; {mean_of(lead.values[RELATIVE]):.1f} % of unpruned"
    yield f"{told}){_rivals(lead, alike, worse, study.overall)}.{_cost(study, lead)}"
    noise = [line.row.label for line in block.lines if line.noise]
    if noise:
        yield f"Not significantly better than Random at {place}: {listed(noise)}."


def _rivals(lead: Line, alike: Sequence[Line], worse: Sequence[Line], column: str) -> str:
    """Who of the others is significantly worse, as the table's bold print has it."""
    best = mean_of(lead.values[column])
    said = ""
    if alike:
        said += f"; not significantly ahead of {listed([line.row.label for line in alike])}"
    if worse:
        behind = [f"{w.row.label} (−{best - mean_of(w.values[column]):.1f})" for w in worse]
        said += f"; significantly ahead of {listed(behind)}"
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
