"""Records of right form and wrong content: skipped by name, everywhere, never a traceback."""

from __future__ import annotations

import gzip
import os
import random
from copy import deepcopy
from pathlib import Path

import pytest
from hostile_records import FAULTS, mutated, put
from synthetic_records import accuracy, efficiency

from harness.analysis import frames as results
from harness.cli.app import main
from harness.records import file as records

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(p for p in (ROOT / "results").rglob("*-*.json.gz"))
(TIMED,) = (ROOT / "results" / "equal-context").glob("*.json.gz")
NAME = "accuracy-bad.json.gz"


def timed() -> dict:
    return dict(records.read(TIMED).body)


def good() -> list[dict]:
    return [accuracy("unpruned", None), accuracy("fastv"), accuracy("vitcop"), timed()]


@pytest.fixture
def beside(tmp_path):
    """Puts a record under `NAME` into a directory of good ones."""
    directory = tmp_path / "results"
    for record in good():
        records.write(directory, record)

    def put_beside(record: dict) -> Path:
        put(directory / NAME, record)
        return directory

    return put_beside


def changed(*path, to) -> dict:
    record = deepcopy(accuracy("random"))
    inside = record
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = to
    return record


WRONG = [
    (changed("samples", 0, "score", to="1.0"), "its samples score is '1.0', not a number"),
    (changed("samples", 0, "score", to=None), "its samples score is None, not a number"),
    (changed("samples", 0, "score", to=1e400), "its samples score is inf, not a number"),
    (changed("samples", 0, "score", to=float("nan")), "its samples score is nan, not a number"),
    (changed("samples", 0, "score", to=10**400), "not a number"),
    (changed("samples", 0, "ledger", to=7), "a sample names a row of the ledger beyond its 1"),
    (changed("samples", to={}), "its samples is {}, not a list"),
    (changed("samples", to=[]), "its samples is [], not a list that is not empty"),
    (changed("ledger", 0, "entering", to=[64] * 3), "its ledger is not of 4 layers"),
    (changed("ledger", 0, "mlp", to=[64] * 3), "its ledger is not of 4 layers"),
    (changed("ledger", 0, "samples", to=10**8), "its ledger is not of its 4 samples"),
    (changed("ledger", 0, "text", to="ten"), "its ledger text is 'ten', not a whole number"),
    (changed("shape", to={}), "it lacks layers in its shape"),
    (changed("method", "label", to=["x"]), "its method label is ['x'], not text"),
    (changed("identity", "dtype", to="int9"), "dtype is 'int9', not one of float32"),
    (changed("identity", "budget", to=128), "its cell 'random@64' is of another budget or seed"),
    (changed("identity", "settings", to={"a": 1e400}), "it holds the number inf"),
    (changed("identity", "settings", to={"a": FAULTS["deep"]}), "it is nested too deep"),
    (changed("cell", to="random@many"), "a cell is METHOD@BUDGET#SEED, not 'random@many'"),
    (changed("samples", 0, "answer", to="\ud800"), "it holds half a letter"),
    (changed("status", to="odd"), "its status is 'odd', not one of ok, failed, infeasible"),
]


@pytest.mark.parametrize(("record", "why"), WRONG, ids=[why for _, why in WRONG])
def test_wrong_content_is_skipped_by_name_and_the_rest_is_shown(beside, capsys, record, why):
    directory = beside(record)
    assert main(["table", str(directory), "--layout", "accuracy"]) == 0
    printed = capsys.readouterr()
    assert f"harness: skipping {directory / NAME}: " in printed.err
    assert why in printed.err
    assert "FastV" in printed.out
    assert "Random" not in printed.out


def test_an_untouched_record_beside_it_is_shown(beside, capsys):
    assert main(["table", str(beside(accuracy("random"))), "--layout", "accuracy"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "Random" in printed.out


@pytest.mark.parametrize(
    ("details", "why"),
    [
        ({"selections": [{"stage": "s", "layer": 2, "kept": "zz", "rows": 8}]}, "not hexadecimal"),
        ({"selections": [{"stage": "s", "layer": 2, "kept": "ff", "rows": 9}]}, "not of 9 rows"),
        ({"selections": [{"stage": "s", "layer": 2}]}, "lacks what it kept"),
        ({"first_token": {"ids": [1], "logprobs": []}}, "as many ids as log-probabilities"),
        ({"first_token": {"ids": [1], "logprobs": [1e4]}}, "not a log-probability"),
    ],
)
def test_wrong_details_are_found_where_they_are_read(beside, details, why):
    record = accuracy("random")
    record["samples"][2].update(details)
    path = beside(record) / NAME
    assert records.read_outline(path)
    with pytest.raises(records.WrongContentError, match=why):
        records.read(path)


@pytest.mark.parametrize("commits", [COMMITTED[i::8] for i in range(8)], ids=range(8))
def test_every_committed_record_is_read(commits):
    assert commits
    for path in commits:
        assert records.read(path)
        assert records.read_outline(path)


@pytest.mark.parametrize(
    "command",
    [["show", "--item", "embedded_count/3"], ["table", "--layout", "paper", "--fidelity"]],
)
def test_a_baseline_which_has_digests_alone_is_shown(command, capsys):
    assert main([*command, str(ROOT / "results" / "baselines" / "embedded")]) == 0
    printed = capsys.readouterr()
    assert "fastv@64" in printed.out or "FastV" in printed.out
    assert printed.err == ""


def test_what_is_no_regular_file_is_named_and_not_waited_for(beside, capsys):
    directory = beside(accuracy("random"))
    os.mkfifo(directory / "accuracy-pipe.json.gz")
    (directory / "accuracy-folder.json.gz").mkdir()
    (directory / "accuracy-lost.json.gz").symlink_to(directory / "nowhere")
    assert main(["table", str(directory), "--layout", "accuracy"]) == 0
    printed = capsys.readouterr()
    for name in ("pipe", "folder"):
        assert f"accuracy-{name}.json.gz: it is no regular file" in printed.err
    assert f"skipping {directory / 'accuracy-lost.json.gz'}: [Errno 2]" in printed.err
    assert "Random" in printed.out
    assert main(["show", str(directory / "accuracy-pipe.json.gz")]) == 2


def test_a_file_that_unpacks_without_end_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_BYTES", 2**20)
    path = tmp_path / "accuracy-bomb.json.gz"
    path.write_bytes(gzip.compress(b"0" * 2**21) * 2)
    with pytest.raises(records.UnreadableRecordError, match="unpacks to more than any record"):
        records.read_outline(path)
    path.write_bytes(b"0" * 2**21)
    with pytest.raises(records.UnreadableRecordError, match="larger than any record"):
        records.read_outline(path)


@pytest.mark.parametrize("text", ["[" * 10**5, "[" + "1" * 5000 + "]", '{"kind": ' * 10**4])
def test_no_parser_is_led_astray(tmp_path, text):
    path = tmp_path / "accuracy-odd.json.gz"
    path.write_bytes(gzip.compress(text.encode()) + gzip.compress(b" "))
    with pytest.raises(records.UnreadableRecordError, match="not a record"):
        records.read_outline(path)


def test_a_letter_in_two_halves_is_one(beside):
    path = beside(changed("samples", 0, "answer", to="😀")) / NAME
    assert b"\\ud83d" in gzip.decompress(path.read_bytes())
    assert records.read(path).samples.answers[0] == "😀"


@pytest.mark.parametrize("number", [0, 2, 5, 11])
def test_the_gate_leaves_wrong_records_out_and_calls_nothing_a_regression(capsys, tmp_path, number):
    before, after = tmp_path / "before", tmp_path / "after"
    for directory in (before, after):
        for record in good()[:2]:
            records.write(directory, record)
    records.write(before, accuracy("random"))
    put(after / NAME, WRONG[number][0])
    for sides, side in (((before, after), "baseline"), ((after, before), "current")):
        status = main(["regress", "--against", *map(str, sides)])
        printed = capsys.readouterr()
        assert status == 0, printed
        assert f"skipping {after / NAME}: " in printed.err
        assert "no regression" in printed.out
        assert f"count only in the {side}" in printed.out


def test_a_comparison_does_not_reuse_what_it_cannot_read(beside):
    from harness.records.store import Store

    record = changed("samples", 0, "score", to=None)
    warnings: list[str] = []
    assert Store(beside(record), warnings.append).find(record["identity"]) is None
    assert NAME in warnings[0]
    assert Store(beside(accuracy("random")), pytest.fail).find(record["identity"])


def commands(directory: Path) -> list[list[str]]:
    text, bad = str(directory), str(directory / NAME)
    return [
        ["table", text],
        ["table", text, "--layout", "long", "--format", "csv"],
        ["table", text, "--layout", "paper", "--fidelity", "--intervals", "small"],
        ["show", bad],
        ["show", text, "--item", "count/1"],
        ["regress", "--against", text, str(directory.parent / "good")],
    ]


@pytest.mark.parametrize("seed", range(10))
def test_no_fault_at_any_place_ends_a_command_in_a_traceback(beside, tmp_path, seed):
    draw = random.Random(seed)
    before = [accuracy("random"), efficiency(), timed()]
    for record in before:
        put(tmp_path / f"{record['kind']}.json.gz", record)
        (tmp_path / "good").mkdir(exist_ok=True)
        records.write(tmp_path / "good", record)
    record, fault = mutated(draw.choice(before), draw)
    directory = beside(record)
    for command in commands(directory):
        assert main(command) in (0, 1, 2, 3), (fault, command)
    assert len(results.load(directory)) >= 12
    results.load_timings(directory)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1010))
def test_no_fault_ends_a_report_in_a_traceback(beside, tmp_path, seed):
    record, fault = mutated(accuracy("random"), random.Random(seed))
    page = tmp_path / "page.html"
    assert main(["report", str(beside(record)), "-o", str(page)]) == 0, fault
    assert "FastV" in page.read_text()
