"""What a table looks like in a terminal."""

from __future__ import annotations

import io
import re

from harness.tables.terminal import show


def terminal(found):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    screen = Screen()
    show(found, screen)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
