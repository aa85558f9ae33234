"""Which method a number is of: its file and what that imports, in every record and table."""

from __future__ import annotations

import re
from copy import deepcopy

import pytest
from from_bodies import (
    bodies_in,
    configurations,
    made,
    record_findings,
    requests_of,
    studies,
)
from stand_ins import Runner, Timer, asked, run
from synthetic_records import accuracy, efficiency, efficiency_cell
from table_rows import rows

from harness.analysis import frames as results
from harness.cli.app import main
from harness.cli.words import parse_methods
from harness.errors import BadInput
from harness.records import file as records
from harness.records.cell import Cell, MethodSpec
from harness.records.method_versions import told_apart
from harness.regress.records import Limits
from harness.regress.sources import IncomparableError

METHOD = """
from dataclasses import dataclass
from baselines.fastv import FastV
{extra}

@dataclass(frozen=True)
class {name}(FastV):
    answer = {value}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to write methods into, from which modules can be imported."""
    monkeypatch.syspath_prepend(tmp_path / "own")
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def write(
    folder, value: object = 1, name: str = "Mine", file: str = "my.py", extra: str = ""
) -> str:
    """Writes a method; how `--methods` names it."""
    folder.mkdir(exist_ok=True)
    path = folder / file
    path.write_text(METHOD.format(extra=extra, name=name, value=value))
    return f"{path}:{name}"


def cell(method: str, budget: int = 64) -> Cell:
    (spec,) = parse_methods(method)
    return Cell(spec, budget)


# specifications


@pytest.mark.parametrize("text", ["my.py:Mine@64", "my.py:Mine:layer=3@64#2", "my.py:fastv@64=61"])
def test_a_text_with_a_file_reads_back(text):
    assert Cell.parse(text).text == text


def test_a_users_class_is_called_by_its_file_whatever_its_name(folder):
    for name in ("fastv", "unpruned", "random"):
        own = cell(write(folder, name=name))
        assert own.text == f"my.py:{name}@64"
        assert own.method.described()["label"] == f"{name} (my.py)"
        assert own.order[4] == 0  # no control
        assert own.identity()["method"] == f"my.py:{name}"


def test_what_a_class_inherits_is_not_said_of_it(folder):
    shipped = MethodSpec("fastv").described()
    assert shipped["venue"]
    own = cell(write(folder)).method.described()
    assert own == {"name": "my.py:Mine", "label": "Mine (my.py)", "venue": "", "link": ""}
    labelled = write(
        folder, extra="from typing import ClassVar", value="2\n    label: ClassVar[str] = 'FastV'"
    )
    assert cell(labelled).method.described()["label"] == "FastV (my.py:Mine)"


def test_two_methods_with_one_name_are_refused_and_a_file_named_twice_is_one(folder):
    one, other = write(folder), write(folder / "more")
    with pytest.raises(
        BadInput, match=r"my\.py:Mine is asked for from .*own/my\.py and from .*more"
    ):
        parse_methods(f"{one},{other}")
    assert len(parse_methods(f"{one},{folder}/../own/my.py:Mine")) == 1
    assert len(parse_methods(f"{one},{write(folder, file='other.py')}")) == 2
    with pytest.raises(BadInput, match="rename it without @ and #"):
        parse_methods(write(folder, file="a#1.py"))


# reuse


def test_an_edited_method_or_helper_is_measured_again_in_both_kinds_of_record(tmp_path, folder):
    def ran() -> tuple[int, int]:
        runner, timer = Runner(), Timer()
        methods = parse_methods(write(folder, value=value, extra=extra))
        run(asked(tmp_path / "out", methods=methods, budgets=(64,)), runner, timer)
        return len([cell for cell, _ in runner.ran if cell != "unpruned"]), len(timer.calls)

    value, extra = "1", ""
    assert (ran(), ran()) == ((2, 1), (0, 0))
    value = "2"
    assert (ran(), ran()) == ((2, 1), (0, 0))
    value, extra = "K", "from helper_of_mine import K"
    (folder / "helper_of_mine.py").write_text("K = 50")
    assert (ran(), ran()) == ((2, 1), (0, 0))
    (folder / "helper_of_mine.py").write_text("K = 33")
    assert (ran(), ran()) == ((2, 1), (0, 0))
    (folder / "helper_of_mine.py").write_text("K = 50")
    assert ran() == (0, 0)


def test_an_efficiency_record_knows_every_cells_method(tmp_path):
    run(asked(tmp_path, accuracy=False), timer=Timer())
    (record,) = bodies_in(tmp_path)
    identities = record["identity"]["cell_identities"]
    assert [i["budget"] for i in identities] == [None, 192, 192, 64, 64]
    assert identities[1] == Cell.parse("vitcop@192").identity()


def test_a_method_edited_while_it_is_measured_stays_what_it_was(tmp_path, folder):
    class Editing(Runner):
        def run(self, cell, task, on_item, earlier=None):
            if cell.budget is not None:
                answers.append(cell.method.build().answer)
                write(folder, value=answers[-1] + 1)
            return super().run(cell, task, on_item)

    answers: list[int] = []
    methods = parse_methods(write(folder, value=1))
    run(asked(tmp_path / "out", methods=methods, budgets=(64,), efficiency=False), Editing())
    assert answers == [1, 1]
    found = [r for r in bodies_in(tmp_path / "out") if r["identity"]["budget"]]
    assert {r["identity"]["method_file"] for r in found} == {methods[0].digest}
    assert cell(write(folder, value=2)).identity()["method_file"] != methods[0].digest


# tables


def of_version(digest: str, method: str = "my.py:Mine", **changes):
    record = accuracy(method, **changes)
    identity = {**record["identity"], "method": method, "method_file": digest}
    return {**record, "identity": identity, "method": {"name": method, "label": "Mine (my.py)"}}


FIRST, SECOND = "a" * 64, "b" * 64


def test_versions_of_a_method_never_share_a_row():
    base = [accuracy("unpruned", None, task=task) for task in ("count", "digits")]
    edited = [of_version(FIRST, task="count"), of_version(SECOND, task="digits")]
    found = {r["method"]: r for r in rows([*base, *edited]) if r["method"] != "Unpruned"}
    assert list(found) == [f"Mine (my.py) file-digest={d * 10}" for d in "ab"]
    assert {r["mean"] for r in found.values()} == {""}
    assert {r["note"] for r in found.values()} == {"1 of 2 runs"}
    same = [of_version(FIRST, task=task) for task in ("count", "digits")]
    (row,) = [r for r in rows([*base, *same]) if r["method"] != "Unpruned"]
    assert (row["method"], row["mean"]) == ("Mine (my.py)", "75.0")


def test_other_settings_under_one_text_are_another_row():
    other = accuracy(task="digits")
    other["identity"] = {**other["identity"], "settings": {"layer": 3}}
    assert len(rows([accuracy(task="count"), other])) == 2


def test_a_shipped_method_and_an_old_record_of_a_class_of_its_name_are_told_apart():
    own = of_version(FIRST, "fastv", scores=[0.0] * 4)
    assert [r["method"] for r in rows([accuracy("fastv"), own])] == [
        "FastV",
        f"Mine (my.py) file-digest={'a' * 10}",
    ]


def test_frames_name_the_version(tmp_path):
    for record in (of_version(FIRST, task="count"), of_version(SECOND, task="digits")):
        records.write(tmp_path, record)
    frame = results.load(tmp_path)
    assert sorted(set(frame["cell"])) == [f"my.py:Mine:file-digest={d * 10}@64" for d in "ab"]


def run_of(digest: str | None):
    """A run of timing; None as it was kept when it did not know its methods' files."""
    cells = [efficiency_cell("unpruned", None, 0.1), efficiency_cell("my.py:Mine", 64, 0.1)]
    record = efficiency(cells)
    if digest is not None:
        identities = [{"method": "unpruned"}, {"method": "my.py:Mine", "method_file": digest}]
        record["identity"]["cell_identities"] = identities
    return record


@pytest.mark.parametrize(("digest", "timed"), [(FIRST, True), (SECOND, False), (None, False)])
def test_a_report_never_pairs_the_score_of_one_version_with_the_time_of_another(digest, timed):
    (study,) = studies([accuracy("unpruned", None), of_version(FIRST), run_of(digest)])
    scored = {point.asked.method for point in study.points}
    assert ({timing.asked.method for timing in study.timings} <= scored) == timed


def test_show_never_gives_a_score_the_time_of_another_version(tmp_path, capsys):
    path = records.write(tmp_path, of_version(FIRST))
    records.write(tmp_path, run_of(SECOND))
    assert main(["show", str(path)]) == 0
    assert "Prefill" not in capsys.readouterr().out
    records.write(tmp_path, run_of(FIRST))
    assert main(["show", str(path)]) == 0
    assert "Prefill" in capsys.readouterr().out


def test_old_records_of_a_users_method_are_read_as_before():
    old = of_version(FIRST, "Mine")
    ((record, *_),), _ = configurations([old])
    assert record.body == old
    shipped = made([accuracy("unpruned", None), accuracy(), efficiency()])
    assert told_apart(shipped) == shipped


# the gate


def test_the_gate_compares_versions_but_none_that_is_made_of_two():
    before = [of_version(FIRST, task=task) for task in ("count", "digits")]
    after = [of_version(SECOND, task=task) for task in ("count", "digits")]
    assert record_findings(before, after, Limits())
    mixed = [before[0], after[1]]
    with pytest.raises(IncomparableError, match=re.escape("the baseline holds answers of two")):
        record_findings(mixed, after, Limits())
    with pytest.raises(IncomparableError, match="the current records hold answers of two versions"):
        record_findings(before, mixed, Limits())


@pytest.mark.parametrize("record", [of_version(FIRST), run_of(FIRST), run_of(None)])
def test_a_run_of_a_users_method_is_not_repeated_from_its_record(tmp_path, record):
    with pytest.raises(BadInput, match=r"my\.py:Mine@64 is a method of a file of its own"):
        requests_of([deepcopy(record)], tmp_path)
