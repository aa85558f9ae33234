"""The parts of the README and of the pages in docs that are made from records and the registry,
and their figure.

`python tests/readme_blocks.py` writes them anew; a test says when that is due.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median

from harness.analysis import speed
from harness.analysis.emphasis import Emphasis
from harness.analysis.metrics import how_to_read
from harness.analysis.rows import Row, rows_of
from harness.analysis.stats import mean_interval, paired_difference, round_ratio
from harness.analysis.studies import studies
from harness.cli.listing import methods_tables
from harness.records import cost
from harness.records.cell import UNPRUNED
from harness.records.file import read_all
from harness.records.groups import answers_of, runs_of
from harness.records.ledger import mean_prefill_flops
from harness.records.record import EfficiencyRecord
from harness.records.timed import TimedCell
from harness.regress import table as gate_table
from harness.tables import accuracy, efficiency_notes, long, paper, yardsticks
from harness.tables.brief import at_a_glance, brief
from harness.tables.layouts import tables
from harness.tables.numbers import three_digits
from harness.tables.page.plots import accuracy_file
from harness.tables.table import Table, _markdown_text, markdown
from harness.tables.terminal import plain

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def _tables(directory: str) -> str:
    records = read_all([ROOT / directory], warn=print)
    return "\n".join(markdown(brief(table)) for table in tables(records))


def _printed(directory: str, what: str) -> str:
    """As a terminal shows it."""
    every = tables(read_all([ROOT / directory], warn=print))
    found = [table for table in every if table.title.startswith(what)]
    return f"```text\n{''.join(map(plain, at_a_glance(found, io.StringIO()))).strip()}\n```"


SPEED = ("Method", "Budget", "Tokens", "Selection ms", "Prefill ms", "Of theory", "End to end ms")


def _speed() -> str:
    """The columns of the efficiency tables that say what pruning gives, and that in a sentence."""
    records = runs_of(read_all([ROOT / "results/eighth"], warn=print))
    shown = [markdown(_columns(table, SPEED)) for table in tables(records)]
    reached = [_reached(r) for r in sorted(records, key=lambda r: r.identity.batch_size)]
    return "\n".join([*shown, " ".join([*reached, _at_equal_context()])])


VIDEO = "results/video-speed"


def _video() -> str:
    """The tables as printed, and what follows from each, the shorter video first."""
    records = runs_of(read_all([ROOT / VIDEO], warn=print))
    records.sort(key=lambda r: (r.identity.model, r.identity.frames or 0))
    told = [f"{_paying(record)} {_causally_reached(record)}" for record in records]
    return "\n\n".join([_printed(VIDEO, "Efficiency"), *told])


def _causally_reached(record: EfficiencyRecord) -> str:
    """Shares of the promised speed-up, where what causal kernels skip is not promised."""
    upper, *cells = [cell for cell in record.cells if cell.is_ok]

    def computed(cell: TimedCell) -> float:
        (row,) = cell.ledger
        skipped = cost.causally_skipped_flops(record.shape, row.entering, row.text)
        return mean_prefill_flops(cell.ledger, record.shape) - skipped

    shares = []
    for cell in cells:
        ratio = round_ratio(speed.rounds(cell, "prefill"), speed.rounds(upper, "prefill"))
        shares.append(computed(cell) / computed(upper) / ratio.value)
    return (
        f"Of the prefill's speed-up they reach {min(shares):.2f} to {max(shares):.2f} where only "
        "half of attention's products count, the others being skipped by causal kernels."
    )


def _paying(record: EfficiencyRecord) -> str:
    """Which methods take less time than unpruned, by the whole interval of the ratio."""
    upper, *cells = [cell for cell in record.cells if cell.is_ok]
    assert upper is record.unpruned
    ratios = {
        cell.label: round_ratio(speed.rounds(cell, "end_to_end"), speed.rounds(upper, "end_to_end"))
        for cell in cells
    }
    faster = {label: ratio.value for label, ratio in ratios.items() if ratio.high < 1}
    others = ", ".join(label for label in ratios if label not in faster)
    name = record.identity.model.removeprefix("random:")
    return (
        f"{name} with {record.identity.frames} frames: {len(faster)} of {len(ratios)} methods take "
        f"less time end to end than unpruned, {min(faster.values()):.2f} to "
        f"{max(faster.values()):.2f} of it{f'; not {others}' if others else ''}."
    )


def _reached(record: EfficiencyRecord) -> str:
    upper, *cells = record.cells
    assert upper is record.unpruned
    theory = [speed.theory_share(cell, upper, record)[1] for cell in cells]
    unpruned = {phase: median(speed.rounds(upper, phase)) for phase in ("prefill", "decode")}
    selection = max(median(speed.rounds(c, "selection")) for c in cells) / unpruned["prefill"]
    decode = [median(speed.rounds(cell, "decode")) / unpruned["decode"] for cell in cells]
    return (
        f"Batch {record.identity.batch_size}: all methods reach {min(theory):.2f} to "
        f"{max(theory):.2f} of the prefill's speed-up that FLOPs promise; no selection takes more "
        f"than {100 * selection:.1f} % of the unpruned prefill; a new token takes "
        f"{min(decode):.2f} to {max(decode):.2f} times the unpruned model's time."
    )


def _at_equal_context() -> str:
    (record,) = runs_of(read_all([ROOT / "results/equal-context"], warn=print))
    upper, *cells = record.cells
    ratios = [
        round_ratio(speed.rounds(cell, "decode"), speed.decode_at_equal_context(cell, record))
        for cell in cells
    ]
    values, batch = [ratio.value for ratio in ratios], record.identity.batch_size
    low, high = min(ratio.low for ratio in ratios), max(ratio.high for ratio in ratios)
    return (
        f"At equal context a new token takes {min(values):.2f} to {max(values):.2f} times the "
        f"unpruned model's time, all intervals within [{low:.2f}, {high:.2f}] "
        f"(`results/equal-context`: batch {batch}, {record.rounds} rounds, in an hour of "
        f"slower cores, when the unpruned prefill took "
        f"{median(speed.rounds(upper, 'prefill')):.1f} s)."
    )


def _columns(table: Table, titles: Sequence[str]) -> Table:
    chosen = [i for i, column in enumerate(table.columns) if column.title in titles]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in chosen),
        rows=tuple(tuple(row[i] for i in chosen) for row in table.rows),
    )


def _methods() -> str:
    """Four columns: the name that is typed, the paper, where it cuts, what it can meet."""
    (table,) = methods_tables()
    lines = ["| `--methods` | Paper | Cuts | Tokens a layer |", "| :-- | :-- | :-- | --: |"]
    controls = []
    for row in table.rows:
        name, label, venue, cuts, _, _, budgets, link = (text for (text,) in row)
        if not link and name != UNPRUNED:
            controls.append(f"`{name}`")
            continue
        paper = f"[{label}]({link})" if link else label
        lines.append(f"| `{name}` | {paper} {venue} | {cuts} | {budgets} |".replace("  ", " "))
    lines.append(f"| {' '.join(controls)} | controls | | |")
    return "\n".join(lines)


SHOWN_FIRST = ("vitcop", "fastv", "framefusion", "visionzip", "vidcom2", "random", "frames")


def _clips_short() -> str:
    """Unpruned and some methods in a sentence; the page of the embedded models has them all."""
    records = answers_of(read_all([ROOT / "results/video"], warn=print))
    rows = {row.asked.method: row for row in rows_of(records)}
    means = {name: mean_interval(row.outcomes).value for name, row in rows.items() if row.complete}
    shown = sorted(SHOWN_FIRST, key=lambda name: -means[name])
    told = ", ".join(f"{rows[name].label} {means[name]:.1f}" for name in shown)
    return (
        f"Clips, {rows['vitcop'].asked.budget} of 512 tokens: {told}; unpruned "
        f"{means[UNPRUNED]:.1f} %. [All of them, with intervals](docs/embedded.md#video)."
    )


def _described(checkpoint: str) -> str:
    text = (ROOT / checkpoint / "README.md").read_text().partition("\n\n")[2]
    return text.replace("../../../../docs/", "")


def _yardsticks(group: str, directory: str) -> str:
    records = list(read_all([ROOT / directory], warn=print))
    return f"{markdown(yardsticks.table(group))}\n{yardsticks.separation(records, 64)}"


CLAIMED = (
    ("vitcop", "visionzip"),
    ("vitcop", "sparsevlm"),
    ("vitcop", "pyramiddrop"),
    ("vitcop", "fastv"),
    ("visionzip", "fastv"),
    ("visionzip", "sparsevlm"),
    ("sparsevlm", "fastv"),
    ("pyramiddrop", "fastv"),
    ("divprune", "fastv"),
    ("cdpruner", "divprune"),
    ("cdpruner", "fastv"),
)
"""The former is ahead of the latter in its own paper."""


def _claims() -> str:
    """Differences of means over the tasks, by image, and how many of them have which sign."""
    records = answers_of(read_all([ROOT / "results/benchmark"], warn=print))
    rows = {(row.asked.method, row.asked.budget): row for row in rows_of(records)}
    names = {row.asked.method: row.label for row in rows.values()}
    lines = [
        "| What the former's paper prints | 192 tokens | 128 tokens | 64 tokens | Here |",
        "| :-- | --: | --: | --: | :-- |",
    ]
    for ours, theirs in CLAIMED:
        found = [
            paired_difference(rows[ours, budget].outcomes, rows[theirs, budget].outcomes)
            for budget in (192, 128, 64)
        ]
        told = [f"{d.value:+.1f} [{d.low:.1f}, {d.high:.1f}]" for d in found]
        ahead = sum(d.low > 0 for d in found)
        behind = sum(d.high < 0 for d in found)
        here = f"holds at {ahead} of 3" if ahead else "not seen"
        here += f", reversed at {behind}" if behind else ""
        claim = f"{names[ours]} before {names[theirs]}"
        lines.append(f"| {claim} | {' | '.join(told)} | {here} |")
    return "\n".join(lines)


def _rivals() -> str:
    """How far each method is ahead of fewer frames and of random at as many counted tokens."""
    records = answers_of(read_all([ROOT / "results/video"], warn=print))
    rows = [row for row in rows_of(records) if row.asked.budget is not None and row.complete]
    rivals = [next(r for r in rows if r.asked.method == name) for name in ("frames", "random")]
    lines = [
        "| Method | Tokens | Mean | Ahead of fewer frames | Ahead of random |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for row in rows:
        told = [_ahead(row, rival) for rival in rivals]
        mean = mean_interval(row.outcomes).value
        lines.append(
            f"| {row.label} | {row.asked.budget_label} | {mean:.1f} | {' | '.join(told)} |"
        )
    return "\n".join(lines)


def _ahead(row: Row, rival: Row) -> str:
    if row is rival:
        return "–"
    ahead = paired_difference(row.outcomes, rival.outcomes)
    return f"{ahead.value:+.1f} [{ahead.low:.1f}, {ahead.high:.1f}]"


def _sharing() -> str:
    measured = json.loads((ROOT / "results/sharing.json").read_text())
    seconds = {name: sum(times.values()) for name, times in measured["seconds"].items()}
    one = measured["seconds"]["apart"]["unpruned"]
    return (
        f"{len(measured['seconds']['shared'])} cells of {measured['questions']} questions took "
        f"{seconds['shared']:.0f} s sharing the tower's outputs, {seconds['apart']:.0f} s each by "
        f"itself: {seconds['shared'] / one:.1f} times the unpruned cell alone "
        f"(`python tests/benchmarks/sharing.py`, {measured['cpu']}, commit "
        f"{measured['commit'][:10]})."
    )


def _peer() -> str:
    measured = json.loads((ROOT / "results/peer.json").read_text())
    ours, theirs = (
        median(one["processor"] for one in measured["seconds"][side])
        for side in ("compare", "peer")
    )
    ratios = {
        kind: ", ".join(f"{ratio:.1f}" for ratio in found)
        for kind, found in measured["ratios"].items()
    }
    return (
        f"Unpruned and two methods at three budgets, {measured['questions']} questions: "
        f"{ours:.0f} s of one core as one comparison, {theirs:.0f} s as seven runs of "
        f"lmms-eval's own `llava_hf`, which answers unpruned each time. The ratio in each of "
        f"{len(measured['seconds']['peer'])} interleaved rounds: {ratios['processor']} in "
        f"processor seconds; {ratios['wall']} by the clock, beside other work that slowed them "
        f"unequally (`python tests/benchmarks/peer.py`, {measured['cpu']}, commit "
        f"{measured['commit'][:10]})."
    )


def _selection() -> str:
    """From what pytest-benchmark kept."""
    kept = json.loads((ROOT / "results/selection/cpu.json").read_text())
    timed = [b for b in kept["benchmarks"] if "method" in b["extra_info"]]
    clustered = next(b for b in kept["benchmarks"] if "loops_seconds" in b["extra_info"])
    lines = [
        "| Method | Batch | Median ms | Floor ms | Share of the unpruned prefill | Host reads |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for bench in sorted(timed, key=lambda b: b["extra_info"]["batch"]):
        info, median = bench["extra_info"], bench["stats"]["median"]
        lines.append(
            f"| {info['method']} | {info['batch']} | {three_digits(1000 * median)} "
            f"| {three_digits(1000 * info['floor_seconds'])} "
            f"| {100 * median / info['unpruned_prefill_seconds']:.2f} % | {info['host_reads']} |"
        )
    loops = clustered["extra_info"]["loops_seconds"] / clustered["stats"]["median"]
    machine = kept["machine_info"]
    return (
        "\n".join(lines)
        + f"\n\nAt {timed[0]['extra_info']['budget']} tokens a layer, {machine['device']}, "
        f"{machine['threads']} threads, float32, torch {machine['torch']}; the one host read is of "
        "the prompt's lengths. The floor is its FLOPs and the states it moves over this machine's "
        "measured rates. ViTCoP's clustering of 288 patches with 1024 dimensions is "
        f"{loops:.0f} times as fast as its formulas written with loops, with equal labels."
    )


def _legends() -> str:
    """What stands below each table, once, as `--wide` prints it."""
    bold = paper.BOLD[Emphasis.SIGNIFICANT]
    return "\n\n".join(
        f"**{name}.** {_markdown_text(text)}"
        for name, text in {
            "Accuracy": accuracy.HOW_TO_READ,
            "Efficiency": efficiency_notes.HOW_TO_READ.format(
                peak=" ".join(efficiency_notes.PEAKS.values())
            ),
            "Floors": efficiency_notes.FLOORS.replace("{flops:.3g}", "…").replace(
                "{bytes:.3g}", "…"
            ),
            "Equal context": efficiency_notes.EQUAL_CONTEXT,
            "A paper's table": f"{paper.HOW_TO_READ} {bold} {paper.NOISE}",
            "Fidelity": how_to_read(),
            "Long": long.HOW_TO_READ,
            "The gate": gate_table.HOW_TO_READ,
        }.items()
    )


BLOCKS = {
    "legends": _legends,
    "sharing": _sharing,
    "peer": _peer,
    "first": lambda: _printed("results/first", "Accuracy"),
    "times": lambda: _printed("results/first", "Efficiency"),
    "benchmark": lambda: _tables("results/benchmark"),
    "methods": _methods,
    "needs": lambda: markdown(methods_tables()[0]),
    "at64": lambda: _tables("results/methods"),
    "embedded": lambda: _described("harness/embedded/checkpoint"),
    "embedded_video": lambda: _described("harness/embedded/video/checkpoint"),
    "claims": _claims,
    "yardsticks": lambda: _yardsticks("embedded", "results/benchmark"),
    "clips_short": _clips_short,
    "clips_first": lambda: _printed("results/video-first", "Accuracy"),
    "families_speed": lambda: _tables("results/families"),
    "clips": lambda: _tables("results/video"),
    "clips_rivals": _rivals,
    "clips_yardsticks": lambda: _yardsticks("embedded-video", "results/video"),
    "selection": _selection,
    "speed": _speed,
    "video": _video,
}


def filled(text: str) -> str:
    """A page with every block that it has as it has to be."""
    for name in re.findall(r"<!-- begin: (\w+) -->", text):
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"
        block = _block(name) + "\n"
        text, times = re.subn(pattern, lambda m, b=block: m[1] + b + m[2], text, flags=re.DOTALL)
        assert times == 1, name
    return text


@cache
def _block(name: str) -> str:
    return BLOCKS[name]().strip()


def accuracy_figure() -> str:
    """SVG: the accuracy of `results/benchmark` against counted tokens, without what has no room:
    variants, and pooling far below the others.
    """
    records = answers_of(read_all([ROOT / "results/benchmark"], warn=print))
    shown = [r for r in records if not r.cell.method.settings and r.cell.method.name != "pooling"]
    (study,) = studies(shown)
    return accuracy_file(study)


FIGURES = {"results/accuracy.svg": accuracy_figure}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
    for name, drawn in FIGURES.items():
        (ROOT / name).write_text(drawn())
