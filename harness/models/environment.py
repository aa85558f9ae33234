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


def prepare_ray(alone: bool) -> None:
    """Sets what must stand before Ray is imported: it reports nothing of its use to a server.

    `alone`: its processes, which obey whoever reaches them, listen on this machine only. The
    variable has the name of the systems where that is so from the start.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if alone:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
