"""What a question of lmms-eval's shows: images, and videos by their files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from harness.accuracy.videos import Videos
from harness.errors import BadInput
from harness.models.videos import Video

if TYPE_CHECKING:
    from lmms_eval.protocol import ChatMessages


class Shown(NamedTuple):
    """Images as they are or by their files, and files of videos, each in prompt order."""

    images: Sequence[Image.Image | str]
    videos: Sequence[str]

    @property
    def number(self) -> int:
        """A video counts as one."""
        return len(self.images) + len(self.videos)

    def opened(self, videos: Videos) -> list[Image.Image | Video]:
        """All images, then all videos. Raises BadInput for a video that cannot be decoded."""
        images = [i if isinstance(i, Image.Image) else _open(i) for i in self.images]
        return [*images, *map(videos.read, self.videos)]


def shown_by(name: str, task: Any, document: Any) -> Shown:
    """By the question that `task` makes of a document. Raises BadInput for other media."""
    from lmms_eval.protocol import ChatMessages

    if hasattr(task, "doc_to_messages"):
        return shown_in(ChatMessages(messages=task.doc_to_messages(document)), name)
    return shown_as(task.doc_to_visual(document) or [], name)


def shown_as(visuals: Sequence[Any], task: str) -> Shown:
    """By what a task calls its visuals. Raises BadInput as `shown_by` does."""
    from lmms_eval.api.task import ConfigurableMessagesTask
    from lmms_eval.protocol import ChatMessages

    turn = ConfigurableMessagesTask._build_user_turn(visuals, "")
    return shown_in(ChatMessages(messages=turn), task)


def shown_in(chat: ChatMessages, task: str) -> Shown:
    """By messages. Raises BadInput as `shown_by` does."""
    images, videos, audios = chat.extract_media()
    if audios:
        raise BadInput(f"task {task} plays audio; only images and videos are supported")
    parts = [part for message in chat.messages for part in message.content if part.type == "video"]
    if any(part.start_time is not None or part.end_time is not None for part in parts):
        raise BadInput(f"task {task} shows parts of videos; only whole files are supported")
    for video in videos:
        if not isinstance(video, str):
            raise BadInput(
                f"task {task} shows a video as {type(video).__name__}; only whole files are "
                "supported"
            )
    return Shown(list(images), list(videos))


def _open(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
