"""The environment variables that dependencies need; nothing of the project's own is set in one."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """Sets what must stand before lmms-eval is imported or torch's profiler starts.

    The datasets library reports every load of a local file to a server, unless told not to; the
    profiler prints its own progress to standard error.
    """
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
