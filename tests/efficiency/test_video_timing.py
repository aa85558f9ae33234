"""A timed prompt with a video in place of images, on every family that takes videos."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from from_bodies import made
from tiny_families import FAMILIES
from video_checkpoints import WITH_VIDEOS

from harness.analysis import speed
from harness.cli.app import main
from harness.efficiency.workload import Load, Workload
from harness.models.load import LoadedModel
from harness.records.faults import fault
from harness.records.file import read
from harness.records.record import EfficiencyRecord
from harness.tables.page import clock
from methods import Budget, get_method
from methods.clips import clips_of

IN_TIME = 18 * 18
VISUAL = {
    **{"onevision_videos": 5 * 9 + 1, "llava_next_video": 5 * 4, "video_llava": 5 * 17},
    **{"internvl_frames": 5 * 4, "qwen2_vl_video": 3 * IN_TIME},
    **{"qwen2_5_vl_video": 3 * IN_TIME, "qwen3_vl_video": 3 * IN_TIME},
}
"""Of five frames; Qwens see two frames at once."""
APART = {"internvl_frames": 4, "qwen3_vl_video": 2}
"""Text tokens between the parts in which a video is given."""


def workload_of(family: str, **load: int) -> Workload:
    model, _ = FAMILIES[family]()
    loaded = LoadedModel(model, None, family, "", "cpu", "float32", "sdpa")
    return Workload.of(loaded, Load(prompt_tokens=20, new_tokens=2, **load))


@pytest.mark.parametrize("family", VISUAL)
@pytest.mark.parametrize("name", ["fastv", "frames"])
def test_a_timed_video_is_pruned_by_a_share(family: str, name: str) -> None:
    workload = workload_of(family, batch_size=2, frames=5)
    text = 20 + APART.get(family, 0)
    assert workload.visual == VISUAL[family]
    assert workload.inputs["input_ids"].shape == (2, text + VISUAL[family])
    with workload.attached(get_method(name), Budget(fraction=0.7)) as trace:
        workload.generate()
    prefill = trace.prefills[-1]
    assert prefill.text.tolist() == [text, text]
    (clip,) = clips_of("", prefill.sizes[0])
    assert clip.frames == (3 if "qwen" in family else 5)
    for entering in prefill.entering.double().mean(1).tolist():
        assert entering == pytest.approx(0.7 * VISUAL[family], abs=1)


@pytest.mark.parametrize(
    ("family", "load", "runs"),
    [
        ("qwen3_vl_video", {"images": 3}, [0, 1, 0]),
        ("qwen3_vl_video", {"frames": 5}, [0, 2, 0, 2, 0, 2, 0]),
        ("qwen2_5_vl_video", {"frames": 5}, [0, 2, 0]),
    ],
)
def test_text_stands_between_parts_of_a_video_alone(
    family: str, load: dict[str, int], runs: list[int]
) -> None:
    kinds = workload_of(family, **load).inputs["mm_token_type_ids"]
    assert kinds[0].unique_consecutive().tolist() == runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, EfficiencyRecord], Path]:
    """Records by their frames, and where they are."""
    place = tmp_path_factory.mktemp("video")
    WITH_VIDEOS["onevision"](place / "model")
    words = "--methods fastv,frames,vitcop,cdpruner --budgets 50% --frames 2,4 --batch-size 2"
    asked = ["--model", str(place / "model"), "--output", str(place / "records")]
    rounds = "--repeats 2 --new-tokens 2 --prompt-tokens 9 --device cpu"
    assert main(["efficiency", *words.split(), *rounds.split(), *asked]) == 0
    found = [read(path) for path in (place / "records").glob("*.json.gz")]
    return {r.identity.frames or 0: r for r in found if isinstance(r, EfficiencyRecord)}, place


def test_a_list_of_frames_is_one_record_each(run: tuple) -> None:
    records, _ = run
    assert records.keys() == {2, 4}
    for frames, record in records.items():
        assert "images" not in record.identity.body
        assert record.image_tokens == 9 * frames + 1
        assert [cell.status for cell in record.cells] == ["ok", "ok", "ok", "ok", "infeasible"]


def test_the_table_says_what_was_shown(run: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    _, place = run
    assert main(["table", str(place / "records"), "--wide"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Efficiency, 4 frames, batch 2" in printed
    assert "Prompt: 1 video of 4 frames, 37 visual and 9 text tokens" in printed
    assert "CDPruner is not defined here for videos" in printed
    assert main(["table", str(place / "records")]) == 0
    assert "Efficiency, 2 frames, batch 2 ·" in capsys.readouterr().out


def test_the_page_says_that_frames_were_timed(run: tuple) -> None:
    record = run[0][4]
    assert clock(record) == "batch 2 of 4 frames on cpu, float32"
    body = deepcopy(record.body)
    del body["identity"]["frames"]
    assert clock(*made([body])) == "batch 2 on cpu, float32"


def test_floors_of_frames_are_what_torchs_counter_counts(run: tuple) -> None:
    records, _ = run
    for record in records.values():
        held = [cell for cell in record.cells if cell.is_ok]
        for cell in held:
            errors = speed.flop_errors(cell, record)
            assert errors.keys() == {"vision_tower", "projector", "prefill"}
            assert errors == {phase: pytest.approx(0, abs=0.01) for phase in errors}
            assert not [doubt for doubt in speed.doubts(cell, record) if "formula" in doubt]
    two, four = (speed.floors(records[f].cells[0], records[f]) for f in (2, 4))
    assert four["vision_tower"].flops == 2 * two["vision_tower"].flops
    assert four["prefill"].flops > two["prefill"].flops


def test_a_frame_less_in_the_towers_formula_is_a_doubt(run: tuple) -> None:
    record = run[0][4]
    body = deepcopy(record.body)
    for row in body["cells"][0]["ledger"]:
        row["tower_flops"] *= 3 / 4
    (planted,) = made([body])
    assert any("FLOPs of vision_tower" in d for d in speed.doubts(planted.cells[0], planted))
    assert not any("FLOPs of" in d for d in speed.doubts(record.cells[0], record))


def test_a_record_of_neither_images_nor_frames_is_none(run: tuple) -> None:
    body = deepcopy(run[0][4].body)
    assert fault(body, whole=True) is None
    del body["identity"]["frames"]
    assert fault(body, whole=True) == "its identity has neither images nor frames"


def test_cache_and_memory_are_of_all_frames(run: tuple) -> None:
    records, _ = run
    two, four = (records[frames].cells[0] for frames in (2, 4))
    rows = {2: 2 * 9 + 1 + 9, 4: 4 * 9 + 1 + 9}
    assert four.kv_cache_bytes / two.kv_cache_bytes == pytest.approx(rows[4] / rows[2])
    assert not [d for d in speed.doubts(four, records[4]) if "KV cache" in d]


@pytest.mark.parametrize(
    ("model", "more", "sentence"),
    [
        ("random:tiny", (), "a LlavaForConditionalGeneration takes no videos; allowed: LLaVA-One"),
        ("random:onevision-7b-eighth", ("--images", "2"), "--images has no effect with --frames"),
        ("random:tiny", ("--frames", "0"), "a number of frames is a whole number from 1 up, not "),
        ("random:tiny", ("--frames", "8,5000"), "--frames is at most 4096, not 5000"),
    ],
)
def test_what_cannot_be_timed_is_refused(
    model: str, more: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    asked = ("efficiency", "--model", model, "--frames", "2", *more, "--methods", "fastv")
    assert main([*asked, "--budgets", "50%", "--device", "cpu", "-o", str(tmp_path / "r")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"harness: {sentence}")
    assert not list(tmp_path.rglob("*.json.gz"))
