"""How much visual rows have to do with the question."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from methods.clip_checkpoint import clip_of
from methods.errors import PruningError
from methods.reads import Read, View


def relevance_to_text(visual: Tensor, text: Tensor, after_image: Tensor) -> Tensor:
    """Mean cosine of visual rows [b, v, D] with the text after the image: float32 [b, v].

    `text` [b, t, D] ends with the prompt's last token; `after_image` bool [b, t].
    """
    asked = after_image.clone()
    asked[:, -1] = ~after_image.any(-1)
    unit, words = normalize(visual.float(), dim=-1), normalize(text.float(), dim=-1)
    cosines = (unit @ words.transpose(1, 2)) * asked[:, None]
    return cosines.sum(-1) / asked.sum(-1, keepdim=True)


def what_is_asked(question: str) -> str:
    """Without its last line, which says how to answer, where it has several."""
    return question.rstrip().rsplit("\n", 1)[0]


def relevance_to_clip(view: View, clip: str) -> Tensor:
    """Mean cosine of patches with the question in the space of the CLIP checkpoint in directory
    `clip`: float32 [b, v]. `view` is an encoder stage's. Raises PruningError without questions.
    """
    if not view.questions:
        raise PruningError("relevance=clip reads the questions: attach(..., questions=…)")
    asked = [what_is_asked(question) for question in view.questions]
    patches = view[Read.FEATURES][:, -view.count :]
    return clip_of(clip, view.segments.device).likeness(patches, asked)
