"""`harness report`: one self-contained HTML page, from records alone.

No network, no build step: style, script, figures and images are inside. Without JavaScript
everything is shown; with it the table sorts and the gallery filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.analysis.blocks import AVERAGE
from harness.analysis.emphasis import Emphasis
from harness.analysis.studies import Study, studies
from harness.analysis.task_scores import short
from harness.errors import BadInput
from harness.records.file import check_file, write_atomically
from harness.records.record import AccuracyRecord, EfficiencyRecord, Record
from harness.tables.choices import Intervals
from harness.tables.markup import html
from harness.tables.numbers import origin
from harness.tables.page import costs, plots
from harness.tables.page.answer import answer
from harness.tables.page.drawing import STYLE_SHEET
from harness.tables.page.gallery import gallery
from harness.tables.page.series import swatch
from harness.tables.page.summary import findings
from harness.tables.paper import Style, paper_table
from harness.tables.saturation import tables_of_run
from harness.visible import visible

_HERE = Path(__file__).parent


def write_report(records: Sequence[Record], output: Path, force: bool = False) -> None:
    """Write the page. Raises BadInput as `check_file` does, or where no answers were recorded."""
    check_file(output, force)
    put(page(records), output)


def put(text: str, output: Path) -> None:
    """Write a page. Raises BadInput where that cannot be done."""
    content = visible(text, keep="\n").encode()
    try:
        write_atomically(output, content)
    except OSError as error:
        raise BadInput(f"cannot write {output}: {error.strerror or error}") from error


def page(records: Sequence[Record]) -> str:
    """The whole page; `records` are whole, not outlines. Raises BadInput without accuracy."""
    found = studies(records)
    if not found:
        raise BadInput("these records hold no answers; a report needs an accuracy run")
    return rendered(
        "page.html.jinja",
        studies=[_shown(study) for study in found],
        commands=sorted({str(record.provenance.command) for record in records}),
        created=max(str(record.provenance.created) for record in records)[:10],
    )


def rendered(template: str, **shown: Any) -> str:
    """A template of this directory, with style and script; text is escaped, `|safe` is not."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = STYLE_SHEET.read_text(), (_HERE / "script.js").read_text()
    return environment.get_template(template).render(style=style, script=script, **shown)


def _shown(study: Study) -> dict:
    """What the template shows of a study; markup is finished, all other text is escaped there."""
    items, without = gallery(study.records)
    style = Style(Emphasis.SIGNIFICANT, Intervals.SMALL, fidelity=True)
    timed = tables_of_run(study.run) if study.run else []
    return {
        "name": study.name,
        "best": answer(study),
        "findings": findings(study),
        "legend": [(label, swatch(index)) for index, label in enumerate(study.labels.values())],
        **_figures(study),
        "clock": clock(study.run) if study.run else "",
        "table": html(paper_table([study.records], style), "sortable"),
        "efficiency": "".join(html(table, "sortable") for table in timed),
        "items": items,
        "without": without,
        "questions": sum(_questions(study).values()),
        "tasks": sorted({item.task for item in items}),
        "budgets": [b for b in reversed(study.budgets) if any(b in item.budgets for item in items)],
        "origin": origin(study.records),
        "links": links(study.records),
    }


def links(records: Iterable[AccuracyRecord]) -> list[tuple[str, str, str]]:
    """Label, venue and link of each method that has one."""
    methods = (record.method for record in records)
    return sorted({(m.label, m.venue, m.link) for m in methods if m.link.startswith("https://")})


def _figures(study: Study) -> dict:
    """Those of several with one scale have it in common, and a name each."""
    overall, tasks = study.overall, sorted({record.task for record in study.records})
    scored = any(overall in point.scores for point in study.points)
    one = len(study.budgets) == 1
    scores = plots.limits_of(study, tasks)
    most = 1.05 * max((max(layers) for layers in study.layers.values()), default=1.0)
    return {
        "tokens": plots.accuracy_against_tokens(study, overall) if scored and not one else "",
        "ranked": plots.accuracy_by_method(study) if scored and one else "",
        "speed": plots.accuracy_against_speedup(study),
        "benchmarks": [
            (
                short(task),
                plots.accuracy_against_tokens(
                    study, task, scores if overall == AVERAGE else plots.limits_of(study, [task])
                ),
            )
            for task in tasks
        ],
        "phases": costs.phases(study) if study.timings else "",
        "layers": [(b, costs.tokens_by_layer(study, b, most)) for b in study.budgets],
    }


def _questions(study: Study) -> dict[str, int]:
    """How many there are, by task."""
    return {record.task: len(record.samples) for record in study.records if record.is_ok}


def clock(run: EfficiencyRecord) -> str:
    """What the times are of."""
    identity = run.identity
    frames = f" of {identity.frames} frames" if identity.frames else ""
    return f"batch {identity.batch_size}{frames} on {identity.device}, {identity.dtype}"
