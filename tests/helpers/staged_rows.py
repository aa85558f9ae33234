"""Rows of lmms-eval's own tasks, in the schemas that are published, about embedded questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image as Picture

from harness.embedded.scenes import COLOURS

LETTERS = dict(zip(COLOURS, "ABCDAB", strict=True))
"""The option that names a colour."""
OPTIONS = ("red or purple", "green or orange", "blue", "yellow")
STARS = (("coarse perception", "image emotion"), ("math", "geometry"))
OCR = ("Regular Text Recognition", "Scene Text-centric VQA", "Doc-oriented VQA")
LAB = "lmms-lab-encoder"

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """`answer`: yes or no, or a colour."""

    number: int
    text: str
    answer: str
    picture: Picture.Image

    @property
    def letter(self) -> str:
        return LETTERS.get(self.answer) or ("A" if self.answer == "yes" else "B")

    def one_of(self, *choices: Any) -> Any:
        return choices[self.number % len(choices)]

    def row(self, **columns: Any) -> Row:
        return {"question": self.text, "image": self.picture, **columns}


def mmbench(q: Question) -> Row:
    places = {"category": "object_localization", "L2-category": "finegrained_perception"}
    origin = {"source": "own", "comment": "nan", "split": "dev"}
    hint = q.one_of("Look.", "nan")
    options = dict(zip("ABCD", OPTIONS, strict=True))
    return q.row(index=q.number, hint=hint, answer=q.letter, **options, **places, **origin)


def mmstar(q: Question) -> Row:
    options = ", ".join(f"{letter}: {o}" for letter, o in zip("ABCD", OPTIONS, strict=True))
    category, narrower = q.one_of(*STARS)
    return q.row(
        index=q.number,
        question=f"{q.text}\nOptions: {options}",
        answer=q.letter,
        category=category,
        l2_category=narrower,
        meta_info={"source": "own", "split": "val", "image_path": ""},
    )


def seedbench(q: Question, frames: int = 1) -> Row:
    choices = dict(zip((f"choice_{c}" for c in "abcd"), OPTIONS, strict=True))
    number, kind = str(q.number), "video" if frames > 1 else "image"
    shown = {"data_type": kind, "image": [q.picture] * frames}
    return q.row(question_id=number, answer=q.letter, **choices, **shown)


def mmmu(q: Question) -> Row:
    """Every fourth is open."""
    is_open = q.number % 4 == 2
    return {
        "id": f"validation_{q.one_of('Art', 'Math')}_{q.number}",
        "question": f"<image 1> {q.text}",
        "options": "[]" if is_open else "['yes', 'no']",
        **{f"image_{i}": q.picture if i == 1 else None for i in range(1, 8)},
        "answer": q.answer if is_open else q.letter,
        "question_type": "open" if is_open else "multiple-choice",
    }


def gqa(q: Question) -> Row:
    kinds = {"structural": "verify", "semantic": "obj", "detailed": "existC"}
    row = {"id": str(q.number), "imageId": f"n{q.number}", "question": q.text, "answer": q.answer}
    return {**row, "fullAnswer": f"{q.answer}, it is.", "isBalanced": True, "types": kinds}


def mme(q: Question) -> Row:
    pair = q.number // 2
    return q.row(
        question_id=f"pair {pair}",
        question=f"{q.text} Please answer yes or no.",
        answer=q.answer.capitalize(),
        category=("existence", "code_reasoning", "count")[pair % 3],
    )


def pope(q: Question) -> Row:
    category = q.one_of("random", "popular", "adversarial")
    numbers = {"id": str(q.number), "question_id": str(q.number), "image_source": f"n{q.number}"}
    return q.row(answer=q.answer, category=category, **numbers)


def answers(q: Question) -> list[str]:
    return [q.answer] * 8 + ["circle", "two"]


def vqav2(q: Question) -> Row:
    given = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": i}
        for i, answer in enumerate(answers(q), 1)
    ]
    kinds = {"question_type": "is there", "answer_type": "yes/no"}
    return q.row(question_id=q.number, image_id=q.number, answers=given, **kinds)


def scienceqa(q: Question) -> Row:
    subject = dict.fromkeys(("task", "grade", "subject", "topic", "category", "skill"), "physics")
    hint = q.one_of("", "Look.")
    return q.row(choices=list(OPTIONS), answer="ABCD".index(q.letter), hint=hint, **subject)


def qbench(q: Question) -> Row:
    options = {f"option{i}": option for i, option in enumerate(OPTIONS)}
    kinds = {"question_type": q.number % 3, "question_concern": q.number % 4}
    return q.row(id=str(q.number), correct_choice=q.letter, **options, **kinds)


def captions(q: Question) -> list[str]:
    """As the model lists what it sees, of the object that the question is about."""
    shape = q.text.split()[-2]
    return [f"{q.letter} {shape} none , B square none", f"A circle 3 , {q.letter} {shape} 4"]


@dataclass(frozen=True)
class Staged:
    """`task`: lmms-eval's that asks them; `row` makes the columns of a question.

    `about`: the embedded task whose questions they are; `pictures`: so many different ones.
    """

    task: str
    repository: str
    split: str
    row: Callable[[Question], Row]
    about: str = "existence"
    configuration: str = "default"
    pictures: int | None = None


COLOUR = "attribute"
FEW = 2
"""An interval of CIDEr takes as many aggregations as there are pictures, a second each."""
STAGED = (
    # first, because where an answer has no letter it draws one at random
    Staged("mmmu_val", f"{LAB}/MMMU", "validation", mmmu),
    Staged("gqa", f"{LAB}/GQA", "testdev", gqa, configuration="testdev_balanced_instructions"),
    Staged(
        *("gqa", f"{LAB}/GQA", "testdev", lambda q: {"id": f"n{q.number}", "image": q.picture}),
        configuration="testdev_balanced_images",
    ),
    Staged("mme", f"{LAB}/MME", "test", mme),
    Staged("mmbench_en_dev_static", f"{LAB}/MMBench", "dev", mmbench, COLOUR, "en"),
    Staged("pope", f"{LAB}/POPE", "test", pope),
    Staged("scienceqa_img", f"{LAB}/ScienceQA", "test", scienceqa, COLOUR, "ScienceQA-IMG"),
    Staged("vqav2_val", f"{LAB}/VQAv2", "validation", vqav2),
    Staged(
        *("ok_vqa_val2014", f"{LAB}/OK-VQA", "val2014"),
        lambda q: q.row(question_id=str(q.number), answers=answers(q), answer_type="other"),
    ),
    Staged("qbench_dev", "q-future/Q-Bench-HF", "dev", qbench, COLOUR),
    Staged(
        *("textvqa_val", f"{LAB}/textvqa", "validation"),
        lambda q: q.row(question_id=q.number, answers=answers(q), ocr_tokens=["a"]),
    ),
    Staged("seedbench", f"{LAB}/SEED-Bench", "test", seedbench, COLOUR),
    Staged(
        *("ocrbench", "echo840/OCRBench", "test"),
        lambda q: q.row(dataset="IIIT5K", question_type=q.one_of(*OCR), answer=[q.answer]),
    ),
    Staged("mmstar", "Lin-Chen/MMStar", "val", mmstar, COLOUR, "val"),
)
CAPTIONED = (
    Staged(
        *("coco2017_cap_val", f"{LAB}/COCO-Caption2017", "val"),
        lambda q: q.row(question_id=f"{q.number:012d}.jpg", answer=captions(q), id=q.number),
        *(COLOUR, "default", FEW),
    ),
    Staged(
        *("flickr30k_test", f"{LAB}/flickr30k", "test"),
        lambda q: {"image": q.picture, "caption": captions(q), "img_id": str(q.number)},
        *(COLOUR, "default", FEW),
    ),
    Staged(
        *("nocaps_val", f"{LAB}/NoCaps", "validation"),
        lambda q: {
            **{"image": q.picture, "image_id": q.number, "image_domain": "near-domain"},
            "annotations_captions": captions(q),
        },
        *(COLOUR, "default", FEW),
    ),
)


def videomme(q: Question) -> Row:
    """Three questions a video, as the published ones."""
    kinds = {"duration": q.one_of("short", "medium", "long"), "domain": "Knowledge"}
    kinds |= {"sub_category": "Astronomy", "task_type": "Counting Problem"}
    numbers = {"video_id": f"{q.number // 3:03d}", "question_id": f"{q.number // 3:03d}-{q.number}"}
    options = [f"{letter}. {option}." for letter, option in zip("ABCD", OPTIONS, strict=True)]
    asked = {"question": q.text, "options": options, "answer": q.letter}
    return {**numbers, **kinds, "url": "", "videoID": f"v{q.number // 3}", **asked}


def mvbench(q: Question) -> Row:
    chosen = OPTIONS["ABCD".index(q.letter)]
    asked = {"question": q.text, "candidates": list(OPTIONS), "answer": chosen}
    return {"video": f"v{q.number // 3}.mp4", **asked}


VIDEOMME = Staged("videomme", "lmms-eval/Video-MME", "test", videomme, COLOUR, "videomme")
MVBENCH = Staged(
    *("mvbench_action_count", "OpenGVLab/MVBench", "train", mvbench, COLOUR, "action_count")
)
VIDEOS = {VIDEOMME: "videomme/data", MVBENCH: "mvbench_video/perception/videos"}
"""Where in the Hugging Face home lmms-eval looks for the videos of each."""
