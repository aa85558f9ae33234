"""A broken promise is a failure to every reader: tables, frames, pages, the gate, reuse."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
from from_bodies import made, record_findings, studies
from synthetic_records import (
    accuracy,
    efficiency,
    efficiency_cell,
    without_result,
)

from harness.analysis import frames as results
from harness.cli.app import main
from harness.records import file as records
from harness.records.cell import Asked
from harness.records.store import Store
from harness.regress.findings import Verdict
from harness.regress.records import Limits
from harness.tables.layouts import LAYOUTS
from harness.tables.show import opened

REASON = "layer 3 caches 148 rows, 74 tokens entered it"


def broken(cell):
    """A record or a timed cell of which one layer cached more than entered it."""
    cell = deepcopy(cell)
    cell["ledger"][0]["cached"][3] = 148
    return cell


@pytest.fixture
def kept(tmp_path):
    """Writes records into a directory of that name."""

    def write(name, *found):
        for record in found:
            records.write(tmp_path / name, record)
        return tmp_path / name

    return write


def timed(change=lambda cell: cell):
    return efficiency(
        [efficiency_cell("unpruned", None, 0.1), change(efficiency_cell("fastv", 64, 0.1))]
    )


def both(change=lambda cell: cell):
    """Unpruned, and FastV as `change` leaves it, answered and timed."""
    return accuracy("unpruned", None), change(accuracy()), timed(change)


def test_it_is_judged_when_it_is_read_with_its_reason_and_others_stay_as_they_are():
    upper, pruned, run = made(both())
    assert [result.status for result in (upper, pruned, *run.cells)] == ["ok"] * 4
    (found,) = made([broken(accuracy())])
    assert (found.status, found.reason, found.broken) == ("failed", REASON, True)
    assert found.body["status"] == "ok"
    (run,) = made([timed(broken)])
    assert [cell.status for cell in run.cells] == ["ok", "failed"]


@pytest.mark.parametrize("layout", [None, *LAYOUTS])
def test_the_table_fails_and_says_so_with_its_exit_status(kept, capsys, layout):
    options = ["--layout", layout] if layout else []
    good, bad = kept("good", *both()), kept("bad", *both(broken))
    assert main(["table", str(good), *options]) == 0
    assert main(["table", str(bad), *options, "--format", "csv"]) == 1
    assert REASON in capsys.readouterr().out


@pytest.mark.parametrize("emitted", ["rich", "markdown", "html"])
def test_a_failed_cell_is_exit_status_1_in_every_format(kept, emitted):
    failed = without_result("failed", reason="no memory")
    assert main(["table", str(kept("a", failed)), "--format", emitted]) == 1


def test_frames_leave_it_out(kept):
    good, bad = kept("good", *both()), kept("bad", *both(broken))
    assert set(results.load(good)["method"]) == {"unpruned", "fastv"}
    assert set(results.load(bad)["method"]) == {"unpruned"}
    assert set(results.load_timings(good)["method"]) == {"unpruned", "fastv"}
    assert set(results.load_timings(bad)["method"]) == {"unpruned"}


def test_show_says_so_and_scores_nothing(kept, capsys):
    directory = kept("bad", *both(broken))
    (path,) = directory.glob("accuracy-fastv*")
    assert main(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"failed: {REASON}" in out
    assert "Ledger 1" in out
    assert "mean score" not in out
    assert "kept" not in out
    assert main(["show", str(directory), "--item", "count/0"]) == 0
    assert "fastv" not in capsys.readouterr().out
    (path,) = directory.glob("efficiency*")
    assert main(["show", str(path)]) == 0
    assert REASON in "".join(capsys.readouterr().out.split("\n"))
    statuses = {r.cell.text: r.status for r in opened(directory, print) if r.kind == "accuracy"}
    assert statuses == {"unpruned": "ok", "fastv@64": "failed"}


def test_show_finds_a_promise_in_flops_kept(kept, capsys):
    cell = accuracy(ledger=[{**accuracy()["ledger"][0]}])
    cell["cell"], cell["identity"] = (
        "fastv@61=64",
        {**cell["identity"], "budget": 61, "matched": 64},
    )
    assert main(["show", str(next(kept("a", cell).iterdir()))]) == 0
    assert "kept" in capsys.readouterr().out


def test_the_report_draws_nothing_of_it(kept):
    def shown(change):
        (study,) = studies(both(change))
        return {p.asked.method for p in study.points}, set(study.layers), len(study.timings)

    assert shown(lambda cell: cell) == (
        {"unpruned", "fastv"},
        {Asked("unpruned", None), Asked("fastv", 64)},
        2,
    )
    assert shown(broken) == ({"unpruned"}, {Asked("unpruned", None)}, 1)


def test_it_is_not_reused(tmp_path):
    records.write(tmp_path, broken(accuracy()))
    records.write(tmp_path, accuracy("unpruned", None))
    store = Store(tmp_path, print)
    assert store.find(accuracy()["identity"]) is None
    assert store.find(accuracy("unpruned", None)["identity"]) is not None


# the gate


def gate(capsys, *arguments):
    status = main(["regress", "--against", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_two_directories_of_failures_are_nothing_comparable(kept, capsys):
    failures = [
        [broken(accuracy()), timed(broken)],
        [without_result("failed", reason="no memory")],
    ]
    for number, found in enumerate(failures):
        found = [r for r in found if r["kind"] == "accuracy"]
        directory = kept(f"bad{number}", *found)
        status, out = gate(capsys, directory, directory)
        assert status == 3
        assert "failed in both" in out


def test_what_is_broken_now_is_a_regression_with_its_reason_and_what_was_is_better():
    found = {f.quantity: f for f in record_findings([accuracy()], [broken(accuracy())], Limits())}
    assert found["KV rows"].verdict is Verdict.WORSE
    assert found["KV rows"].why == f"layer 3: 74 → 148 in 4 of 4 questions; {REASON}"
    back = record_findings([broken(accuracy())], [accuracy()], Limits())
    assert [(f.quantity, f.verdict) for f in back] == [("status of count", Verdict.BETTER)]


def test_a_promise_that_only_the_plan_breaks_is_a_regression_all_the_same():
    other = deepcopy(accuracy())
    other["ledger"][0]["planned"] = [63] * 4
    worse = [f for f in record_findings([accuracy()], [other], Limits()) if f.verdict == "worse"]
    assert [(f.quantity, f.why) for f in worse] == [
        ("promise", "64 visual tokens entered layer 0, planned were 63")
    ]


def without_cache(cell):
    """As a runtime leaves it that no longer finds the KV cache."""
    cell = deepcopy(cell)
    cell["ledger"][0]["cached"] = [0] * 4
    return cell


def newer(record):
    versions = {"python": "3.11", "torch": "2.12", "transformers": "5.24.0"}
    return {**record, "identity": {**record["identity"], "versions": versions}}


def test_a_broken_dependency_is_named_first_and_then_every_cell(kept, capsys, tmp_path):
    before = [accuracy("unpruned", None), accuracy(), timed()]
    cells = [
        without_cache(efficiency_cell(*cell, 0.1)) for cell in (("unpruned", None), ("fastv", 64))
    ]
    after = [
        without_cache(accuracy("unpruned", None)),
        without_cache(accuracy()),
        efficiency(cells),
    ]
    files = ["--json", tmp_path / "gate.json", "--markdown", tmp_path / "gate.md"]
    status, out = gate(capsys, kept("a", *before), kept("b", *map(newer, after)), *files)
    assert status == 1
    changed = "Versions changed: torch 2.11 → 2.12, transformers None → 5.24.0. Regression gate: "
    assert " ".join(out.split()).startswith(changed)
    assert (tmp_path / "gate.md").read_text().startswith(f"**{changed}")
    content = json.loads((tmp_path / "gate.json").read_text())
    assert next(iter(content)) == "versions_changed"
    assert content["versions_changed"] == ["torch 2.11 → 2.12", "transformers None → 5.24.0"]
    worse = [f for f in content["findings"] if f["verdict"] == "worse"]
    assert {f["cell"] for f in worse} == {"unpruned", "fastv@64"}
    assert {(f["cell"], f["quantity"]) for f in worse} >= {
        (cell, quantity)
        for cell in ("unpruned", "fastv@64")
        for quantity in ("KV rows", "timed KV rows")
    }
    assert all("caches 0 rows" in f["why"] for f in worse if "KV rows" in f["quantity"])


def test_cells_that_fail_as_a_whole_are_regressions_with_their_reason(kept, capsys):
    before = [accuracy("unpruned", None), accuracy(), timed()]
    failed = {"status": "failed", "reason": "PruningError: the KV cache was not seen"}
    cells = [
        {"cell": cell["cell"], "method": cell["method"], "budget": cell["budget"], **failed}
        for cell in timed()["cells"]
    ]
    after = [
        *(
            without_result(method=m, budget=b, **failed)
            for m, b in (("unpruned", None), ("fastv", 64))
        ),
        efficiency(cells, shape={}, order=[]),
    ]
    findings = record_findings(before, after, Limits())
    assert {(f.cell, f.quantity) for f in findings if f.verdict is Verdict.WORSE} == {
        (cell, status)
        for cell in ("unpruned", "fastv@64")
        for status in ("status of count", "status of timing")
    }
    assert {f.why for f in findings} == {"PruningError: the KV cache was not seen"}
    status, out = gate(capsys, kept("a", *before), kept("b", *after))
    assert status == 1
    assert "Versions changed" not in out
