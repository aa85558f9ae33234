"""Text from records, labels and answers, as it may be printed: all of it shows, nothing acts."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad"  # control characters, soft hyphen
    "\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width; direction
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of letters; tags
)


def visible(text: str, keep: str = "") -> str:
    """`text` with what has no picture of its own as an escape, such as `\\x1b` or `\\u202e`.

    That is every control character, also tabs and line ends, unless in `keep`.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
