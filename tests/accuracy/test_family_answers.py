"""Other families than LLaVA-1.5: from a directory to answers, in batches of unequal images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from family_checkpoints import SAVED
from PIL import Image

from harness.accuracy.answers import Answer, Answerer, Question
from harness.accuracy.batches import together
from harness.cli.app import main
from harness.models.load import LoadedModel, load_model
from harness.models.protocols import OWN
from harness.records.file import read
from harness.records.record import AccuracyRecord
from methods import Budget, get_method

FOUR = {"max_new_tokens": 4}
SIZES = [(60, 40), (168, 168), (25, 60)]
COLOURS = ["red", "green", "yellow"]


@pytest.fixture(scope="module", params=SAVED)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    directory = tmp_path_factory.mktemp("models") / request.param
    SAVED[request.param](directory)
    return load_model(str(directory), "cpu")


def drawn(i: int) -> Image.Image:
    image = Image.new("RGB", SIZES[i], "white")
    image.paste(COLOURS[i], (5, 5, 20, 20))
    return image


def prompt(loaded: LoadedModel, i: int) -> str:
    words = ["how many red objects ?", "is there a circle ?", "what color ?"][i]
    return OWN.prompt(loaded.processor, words, 1)


def questions(loaded: LoadedModel) -> list[Question]:
    """Of three images, and one of none."""
    shown = [Question(str(i), lambda i=i: (prompt(loaded, i), [drawn(i)])) for i in range(3)]
    return [*shown, Question("3", lambda: (OWN.prompt(loaded.processor, "how many ?", 0), []))]


def answered(loaded: LoadedModel, method: str, budget: Budget, batch: int) -> list[Answer]:
    asked, answerer = questions(loaded), Answerer(loaded, get_method(method), budget)
    batches = [asked[i : i + batch] for i in range(0, len(asked), batch)]
    return [answer for own in batches for answer in answerer.answer(own, FOUR)]


def test_a_batch_is_answered_as_the_stock_model_answers_what_its_processor_makes(
    loaded: LoadedModel,
) -> None:
    both = Question("both", lambda: (OWN.prompt(loaded.processor, "how many ?", 2), images[3]))
    images = [*([drawn(i)] for i in range(3)), [drawn(0), drawn(1)]]
    texts = [*(prompt(loaded, i) for i in range(3)), both.read()[0]]
    asked = [*questions(loaded)[:3], both]
    unpruned = Answerer(loaded, get_method("unpruned"), Budget(fraction=1.0))
    found = unpruned.answer(asked, FOUR)
    inputs = loaded.processor(text=texts, images=images, padding=True, return_tensors="pt")
    with torch.no_grad():
        first = loaded.model(**inputs).logits[:, -1].log_softmax(-1)
    for answer, own in zip(found, first, strict=True):
        best = answer.first_token
        assert best["logprobs"] == pytest.approx(own[best["ids"]].tolist(), abs=2e-4)


def test_a_batch_keeps_for_each_image_what_it_keeps_alone(loaded: LoadedModel) -> None:
    budget = Budget(18)
    together_, alone = (answered(loaded, "fastv", budget, batch) for batch in (4, 1))
    for a, b in zip(together_, alone, strict=True):
        assert a.ledger == b.ledger
        assert a.selections == b.selections
        assert a.first_token["logprobs"] == pytest.approx(b.first_token["logprobs"], abs=2e-4)
    whole = [a.ledger["entering"][0] for a in together_]
    assert len(set(whole)) > 2
    means = [sum(a.ledger["entering"]) / len(a.ledger["entering"]) for a in together_]
    assert means == pytest.approx([min(18, tokens) for tokens in whole], abs=1)


def test_an_image_of_fewer_tokens_than_the_budget_stays_whole(loaded: LoadedModel) -> None:
    whole = [a.ledger["entering"][0] for a in answered(loaded, "unpruned", Budget(fraction=1.0), 4)]
    smallest, largest = min(filter(None, whole)), max(whole)
    for tokens, answer in zip(
        whole, answered(loaded, "fastv", Budget((smallest + largest) / 2), 4), strict=True
    ):
        entering = answer.ledger["entering"]
        assert entering[0] == tokens
        assert (entering[-1] < tokens) == (tokens == largest)


def test_the_comparison_says_what_a_family_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "llava-next"
    SAVED["llava-next"](model)
    words = "--methods flowcut,fastv,vitcop --budgets 20,6 --limit 3 --batch-size 2 --device cpu"
    words += " --no-efficiency --tasks embedded_count"
    places = ["--model", str(model), "--output", str(tmp_path / "records")]
    status = main(["compare", *words.split(), *places])
    printed = " ".join(capsys.readouterr().out.split())
    assert status == 0
    assert printed.count("Not defined for LlavaNextForConditionalGeneration: ") == 1
    assert "and what it does with them is not built: FlowCut" in printed
    assert "FastV, 6 tokens: infeasible (16–88)" in printed
    records = {
        record.cell.text: record
        for record in map(read, (tmp_path / "records").glob("*.json.gz"))
        if isinstance(record, AccuracyRecord)
    }
    assert {name: record.status for name, record in records.items()} == {
        **{"unpruned": "ok", "fastv@20": "ok", "fastv@6": "infeasible"},
        **{"flowcut@20": "infeasible", "flowcut@6": "infeasible"},
        **{"vitcop@20": "ok", "vitcop@6": "ok"},
    }
    assert records["fastv@6"].feasible == [16, 88]
    assert records["fastv@20"].ledger[0].mean_entering == pytest.approx(20, abs=1)
    item, kept = records["fastv@20"].samples.items[0], tmp_path / "kept.png"
    places = ["--item", item, "--png", str(kept)]
    assert main(["show", str(tmp_path / "records"), *places]) == 0
    assert Image.open(kept).size[0] > 1000


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["compare", "--no-efficiency", "--device", "cpu", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_needs_images_of_one_size_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SAVED["qwen2.5-vl"](tmp_path / "qwen")
    own = ["--model", str(tmp_path / "qwen"), "--output", str(tmp_path / "records")]
    capsys.readouterr()
    assert "--protocol hf" in refusal([*own, "--protocol", "llava"], capsys)
    assert "--match tokens" in refusal([*own, "--match", "flops"], capsys)


def row(*values: int) -> torch.Tensor:
    return torch.tensor([values])


def with_inputs(length: int, **inputs: torch.Tensor) -> tuple[torch.Tensor, dict]:
    return torch.ones(length, dtype=torch.long), inputs


def test_inputs_of_several_prompts_are_put_together() -> None:
    found = together(
        [
            with_inputs(3, kinds=row(0, 1, 1), pixels=torch.ones(1, 2, 2), sizes=row(4, 5)),
            with_inputs(2),
            with_inputs(2, kinds=row(1, 0), pixels=torch.ones(2, 1, 3), sizes=row(6, 7)),
        ]
    )
    assert found["kinds"].tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 0]]
    assert found["sizes"].tolist() == [[4, 5], [6, 7]]
    assert found["pixels"].tolist() == [
        [[1, 1, 0], [1, 1, 0]],
        *[[[1, 1, 1], [0, 0, 0]]] * 2,
    ]


def test_a_share_is_kept_of_every_image(loaded: LoadedModel) -> None:
    answers = answered(loaded, "fastv", Budget(fraction=1 / 3), batch=4)
    for answer in answers:
        entering, visual = answer.ledger["entering"], answer.ledger["visual"]
        assert sum(entering) / len(entering) == pytest.approx(visual / 3, abs=1)
    assert len({answer.ledger["visual"] for answer in answers}) > 2


def test_a_cut_of_crops_in_the_tower_is_counted_and_so_are_its_costs(tmp_path: Path) -> None:
    SAVED["llava-next"](tmp_path / "next")
    loaded = load_model(str(tmp_path / "next"), "cpu")
    for answer in answered(loaded, "visionzip", Budget(fraction=0.5), batch=4)[:3]:
        entering, visual = answer.ledger["entering"], answer.ledger["visual"]
        assert sum(entering) / len(entering) == pytest.approx(visual / 2, abs=1)
        assert answer.ledger["selection_flops"] > 0
        assert answer.ledger["tower_flops"] > 0
        overview, picture = answer.selections
        assert overview["rows"] == 1 + 16
        assert picture["rows"] % (1 + 16) == 0
