"""The timed input of other families than LLaVA-1.5, and a run of rounds over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from family_checkpoints import SAVED
from tiny_families import FAMILIES

from harness.analysis import speed
from harness.cli.app import main
from harness.efficiency.workload import Load, Workload
from harness.models import presets
from harness.models.family_presets import FAMILIES as FAMILY_PRESETS
from harness.models.load import LoadedModel
from harness.records.file import read
from harness.records.record import EfficiencyRecord
from methods import Budget, get_method

VISUAL = {
    **{"llava_next": 16 + 8 * 9, "onevision": 25 + 3 * 9 * 3, "internvl": 5 * 4, "smolvlm": 5 * 4},
    **{"qwen2_vl": 36 * 36, "qwen2_5_vl": 36 * 36, "qwen3_vl": 36 * 36},
}


@pytest.mark.parametrize("name", VISUAL)
def test_the_timed_input_fits_the_family_and_is_pruned_by_a_share(name: str) -> None:
    model, _ = FAMILIES[name]()
    loaded = LoadedModel(model, None, name, "", "cpu", "float32", "sdpa")
    workload = Workload.of(loaded, Load(2, 1, prompt_tokens=20, new_tokens=2))
    assert workload.inputs["input_ids"].shape == (2, 20 + workload.visual)
    if name != "onevision":
        assert workload.visual == VISUAL[name]
    with workload.attached(get_method("fastv"), Budget(fraction=0.5)) as trace:
        workload.generate()
    for entering in trace.prefills[-1].entering.double().mean(1).tolist():
        assert entering == pytest.approx(workload.visual / 2, abs=1)


def test_rounds_over_a_familys_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SAVED["llava-next"](tmp_path / "next")
    words = "--methods fastv,vitcop,flowcut --budgets 50% --repeats 2 --new-tokens 2 --batch-size 2"
    places = ["--model", str(tmp_path / "next"), "--output", str(tmp_path / "records")]
    assert main(["efficiency", "--device", "cpu", *words.split(), *places]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "50 % of the tokens a layer" in printed
    assert "Not defined for LlavaNextForConditionalGeneration: " in printed
    (record,) = map(read, (tmp_path / "records").glob("*.json.gz"))
    assert isinstance(record, EfficiencyRecord)
    assert record.image_tokens == 88
    fastv = next(cell for cell in record.cells if cell.cell.text == "fastv@50%")
    assert fastv.status == "ok"
    assert fastv.ledger[0].mean_entering == pytest.approx(44, abs=1)
    vitcop = next(cell for cell in record.cells if cell.cell.text == "vitcop@50%")
    assert vitcop.status == "ok"
    assert vitcop.ledger[0].mean_entering == pytest.approx(44, abs=1)
    for cell in (fastv, vitcop, record.unpruned):
        assert {"vision_tower", "projector", "end_to_end"} < speed.floors(cell, record).keys()
        errors = speed.flop_errors(cell, record)
        assert errors.keys() == {"vision_tower", "projector", "prefill"}
        assert errors == {phase: pytest.approx(0, abs=0.01) for phase in errors}


BILLIONS = {
    **{"llava-next-7b-anyres": 7.06, "onevision-7b": 8.03, "internvl3-8b": 7.94},
    "llava-next-video-7b": 7.06,
    **{"qwen2.5-vl-7b": 8.29, "qwen3-vl-8b": 8.77},
}


@pytest.mark.parametrize("name", BILLIONS)
def test_a_preset_has_the_published_number_of_weights(name: str) -> None:
    assert presets.parameters(f"random:{name}") / 1e9 == pytest.approx(BILLIONS[name], rel=0.005)
    text = FAMILY_PRESETS[f"random:{name}"].made().get_text_config()
    small = FAMILY_PRESETS[f"random:{name}-eighth"].made().get_text_config()
    assert small.num_hidden_layers == text.num_hidden_layers
    assert small.head_dim == text.head_dim == 128
