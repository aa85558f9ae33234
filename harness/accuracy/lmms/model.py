"""lmms-eval's side of a pruned model: requests in, answers out, in the order of the requests.

No response cache, and an exception in a sample ends the run: an empty answer would look like a
wrong one. lmms-eval's command line prints any exception and exits with 0 all the same, so what goes
wrong in `--model pruned` ends the process.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from tqdm import tqdm

from harness.accuracy.answers import Answerer, SampleError
from harness.accuracy.generated import Answer
from harness.accuracy.lmms.media import Shown, shown_as, shown_in
from harness.accuracy.prompts import Question, Visual
from harness.accuracy.videos import Videos
from harness.errors import BadInput, cause, sentence, warn
from harness.models.load import load_model
from harness.models.protocols import HF, OWN, Protocol, protocol_of
from harness.models.videos import FRAMES, check_takes_videos
from harness.records.cell import UNPRUNED, Cell, MethodSpec, budget_of
from methods import InfeasibleBudgetError, PruningError

OnAnswer = Callable[[str, int, Answer], None]
"""Called with the task, the document's number and its answer."""


def _ignore(task: str, doc_id: int, answer: Answer) -> None: ...


class AnsweringModel(lmms):
    """Hands lmms-eval's requests to an answerer, in batches of equal generation settings."""

    is_simple = False

    def __init__(
        self,
        answerer: Answerer,
        batch_size: int,
        on_answer: OnAnswer = _ignore,
        bar: bool = False,
        protocol: Protocol = OWN,
        videos: Videos | None = None,
    ) -> None:
        super().__init__()
        self.answerer, self.batch_size, self.fits = answerer, batch_size, batch_size
        self.on_answer, self.bar = on_answer, bar
        self.protocol, self.videos = protocol, videos or Videos()
        self.is_simple = self.is_simple or self.protocol.simple

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One result a request. Raises SampleError and PruningError."""
        results: dict[int, GenerationResult] = {}
        with tqdm(total=len(requests), desc="Answering", disable=not self.bar) as bar:
            for batch in self._batches(requests):
                questions = [self._question(requests[i]) for i in batch]
                generation = self._generation(requests[batch[0]])
                answers = self._answers(questions, generation)
                for i, answer in zip(batch, answers, strict=True):
                    counts = TokenCounts(output_tokens=answer.new_tokens)
                    results[i] = GenerationResult(answer.text, counts)
                    self.on_answer(requests[i].task_name, int(requests[i].doc_id), answer)
                bar.update(len(batch))
        return [results[i] for i in range(len(requests))]

    def _answers(
        self, questions: Sequence[Question], generation: Mapping[str, Any]
    ) -> list[Answer]:
        """Half as many at once from where the GPU's memory does not hold them; `fits` tells."""
        found: list[Answer] = []
        while len(found) < len(questions):
            part = questions[len(found) : len(found) + self.fits]
            try:
                found += self.answerer.answer(part, generation)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise SampleError(f"{part[0].item}: {cause(error)}") from error
                self.fits = len(part) // 2
                torch.cuda.empty_cache()
        return found

    def _batches(self, requests: Sequence[Instance]) -> Iterator[list[int]]:
        """Indices of requests that are answered together: from short questions to long ones, so
        that little is padding.
        """
        alike: dict[str, list[int]] = {}
        words = [len(request.args[0].split()) for request in requests]
        for i in sorted(range(len(requests)), key=words.__getitem__):
            key = json.dumps(self._generation(requests[i]), sort_keys=True, default=str)
            alike.setdefault(key, []).append(i)
        for group in alike.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    def _generation(self, request: Instance) -> Mapping[str, Any]:
        return self.protocol.generation(request.args[1 if self.is_simple else 2])

    def _question(self, request: Instance) -> Question:
        *_, doc_id, task, split = request.args

        def read() -> tuple[str, Sequence[Visual]]:
            ask = self._turn if self.is_simple else self._chat
            try:
                return ask(request, self.task_dict[task][split][doc_id])
            except SystemExit as error:  # tasks end the process where a video is missing
                raise BadInput(str(error)) from error

        return Question(f"{task}/{doc_id}", read, request.args[0])

    def _chat(self, request: Instance, document: Any) -> tuple[str, Sequence[Visual]]:
        """The messages that the task makes of the document."""
        _, doc_to_messages, _, _, task, _ = request.args
        chat = ChatMessages(messages=doc_to_messages(document))
        visuals = self._opened(shown_in(chat, task))
        processor = self.answerer.loaded.processor
        return self.protocol.templated(processor, chat.to_hf_messages()), visuals

    def _turn(self, request: Instance, document: Any) -> tuple[str, Sequence[Visual]]:
        """One user turn of all images, all videos and the task's whole context."""
        context, _, doc_to_visual, _, task, _ = request.args
        shown = shown_as(doc_to_visual(document) or [], task)
        visuals, counts = self._opened(shown), map(len, shown)
        return self.protocol.prompt(self.answerer.loaded.processor, context, *counts), visuals

    def _opened(self, shown: Shown) -> Sequence[Visual]:
        if shown.videos:
            check_takes_videos(self.answerer.loaded.model)
        return shown.opened(self.videos)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        raise BadInput(
            f"task {requests[0].task_name} compares likelihoods; allowed are tasks that generate "
            "one answer (generate_until)"
        )

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        raise BadInput(
            f"task {requests[0].task_name} has several rounds; allowed are tasks that generate one "
            "answer (generate_until)"
        )

    def clean(self) -> None:
        """Frees nothing: the model may be shared with the next cell."""


class RepeatingModel(AnsweringModel):
    """Gives answers that were given before, by the document's number."""

    batch_size = 1

    def __init__(self, answers: Mapping[int, str]) -> None:
        lmms.__init__(self)
        self.answers = answers

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        return [
            GenerationResult(self.answers[int(request.doc_id)], TokenCounts())
            for request in requests
        ]


class PrunedModel(AnsweringModel):
    """`--model pruned --model_args pretrained=PATH,method=vitcop,budget=64`.

    `pretrained` is as `--model` of `harness compare`; `method` NAME or NAME:SETTING=VALUE;
    `budget` visual tokens a layer; `frames` of a video; `protocol` as `harness compare` has it,
    but tasks word their questions for "pruned" under each. Raises BadInput and PruningError.
    """

    def __init__(
        self,
        pretrained: str = "embedded",
        method: str = UNPRUNED,
        budget: int | None = None,
        seed: int = 0,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "sdpa",
        protocol: str = HF,
        chat_template: str | None = None,
        frames: int = FRAMES,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        for name, number in (("batch_size", batch_size), ("frames", frames)):
            if not str(number).isdecimal() or int(number) < 1:
                raise BadInput(f"{name} is a positive integer, not {number!r}")
        asked = protocol_of(protocol, None if chat_template is None else Path(chat_template))
        cell = _cell(str(method), budget, seed)
        answerer = Answerer(
            method=cell.method.build(),
            budget=budget_of(cell),
            seed=cell.seed,
            loaded=load_model(str(pretrained), device, dtype, attention, asked),
        )
        videos = Videos(int(frames))
        super().__init__(answerer, int(batch_size), bar=True, protocol=asked, videos=videos)

    @classmethod
    def create_from_arg_string(cls, *args: Any, **kwargs: Any) -> PrunedModel:
        """As lmms-eval makes it. Ends the process with 2 for bad input."""
        with _ending_the_process():
            try:
                return super().create_from_arg_string(*args, **kwargs)
            except PruningError as error:
                raise BadInput(str(error)) from error

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One result a request. Ends the process with 1 for a failed sample, 2 for bad input."""
        with _ending_the_process():
            return super().generate_until(requests)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        with _ending_the_process():
            return super().loglikelihood(requests)

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        with _ending_the_process():
            return super().generate_until_multi_round(requests)


@contextmanager
def _ending_the_process() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not isinstance(error, BadInput | PruningError | SampleError):
            traceback.print_exc()
        warn(sentence(error))
        mendable = isinstance(error, BadInput | InfeasibleBudgetError)
        mendable = mendable or isinstance(error.__cause__, BadInput)
        raise SystemExit(2 if mendable else 1) from error


class SimplePrunedModel(PrunedModel):
    """The same for `--force_simple`: one user turn of all images and the task's whole context."""

    is_simple = True


def _cell(method: str, budget: object, seed: object) -> Cell:
    """What `--model_args` ask for. Raises BadInput."""
    spec = MethodSpec.parse(method)
    if spec.known_as == UNPRUNED:
        if budget is not None:
            raise BadInput("unpruned takes no budget: it keeps every token")
        return Cell(spec, None)
    if not (str(budget).isdecimal() and int(str(budget)) > 0):
        raise BadInput(f"{spec.name} needs a budget of whole visual tokens, not {budget!r}")
    return Cell(spec, int(str(budget)), int(str(seed)))
