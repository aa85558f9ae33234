"""`harness efficiency` from command line to table, where lmms-eval is not installed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from command_line import harness

from harness.cli.app import main
from harness.records.file import read_all

without_lmms_eval = partial(harness, before="sys.modules['lmms_eval'] = None")
SMALL = ("--model", "random:tiny", "--device", "cpu", "--methods", "fastv,vitcop")
QUICK = (*SMALL, "--budgets", "64", "--repeats", "2", "--new-tokens", "3")


@pytest.mark.slow
def test_runs_without_lmms_eval_and_is_resumed(tmp_path: Path) -> None:
    command = ("efficiency", *QUICK, "--batch-size", "2,1", "-o", str(tmp_path))
    first = without_lmms_eval(*command)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("Efficiency, batch ") == 2
    assert (tmp_path / "efficiency-batch-2.md").exists()
    assert "of the speed-up that FLOPs promise" in first.stdout
    records = list(read_all([tmp_path], print))
    assert {record.identity.batch_size for record in records} == {1, 2}
    assert [cell.status for record in records for cell in record.cells] == ["ok"] * 6
    again = without_lmms_eval(*command)
    assert again.stderr.count("reused the efficiency record") == 2
    assert again.stdout == first.stdout
    table = without_lmms_eval("table", str(tmp_path))
    assert table.stdout.splitlines() == first.stdout.splitlines()
    whole = without_lmms_eval("table", str(tmp_path), "--wide").stdout
    assert "floor" in whole
    assert "Attention in every cell" in whole


@pytest.mark.slow
def test_compare_without_accuracy_times_presets(tmp_path: Path) -> None:
    options = ("--model", "random:tiny", "--methods", "fastv", "--budgets", "64")
    done = without_lmms_eval(
        "compare", "--no-accuracy", *options, "--repeats", "2", "-o", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert "FastV" in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--model", "random:llava-1.5-7"), "unknown preset 'random:llava-1.5-7'; did you mean"),
        (("--model", "random:llava-1.5-13b"), "random:llava-1.5-13b takes 49.7 GiB and"),
        (("--batch-size", "1,0"), "a batch size is a whole number from 1 up, not '0'"),
        (("--batch-size", "100000000"), "the inputs of batch 100000000 take"),
        (("--new-tokens", "1"), "Invalid value for '--new-tokens'"),
        (("--new-tokens", str(10**12)), "Invalid value for '--new-tokens'"),
        (("--images", "0"), "Invalid value for '--images'"),
        (("--minutes", "inf"), "--minutes is a number above 0, not inf"),
        (("--find-max-batch", "nan"), "--find-max-batch is a number above 0, not nan"),
        (("--find-max-batch", "much"), "--find-max-batch is a number above 0, not much"),
        (("--find-max-batch", "-3"), "--find-max-batch is a number above 0, not -3"),
        (("--saturate", "0"), "--saturate is a number above 0, not 0"),
        (("--saturate", "all"), "--saturate is a number above 0, not all"),
        (("--saturate", "0.001"), "--saturate 0.001 is no more than the weights, which take 0.0"),
        (("--device", "cuda"), "device cuda is not available on this machine; allowed: cpu"),
        (("--budgets", "577"), "budget 577 is above the image's 576 visual tokens"),
        (("--attention", "flash_attention_2"), "flash_attention_2 needs"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("harness.models.presets.free_bytes", lambda device: 40 * 2**30)
    assert main(["efficiency", *QUICK, "-o", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert not list(tmp_path.iterdir())


def test_a_preset_cannot_be_asked(tmp_path, capsys) -> None:
    assert main(["compare", "--model", "random:tiny", "-o", str(tmp_path)]) == 2
    assert "random:tiny has random weights and no tokenizer" in capsys.readouterr().err
