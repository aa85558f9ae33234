"""The console script in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def harness(
    *arguments: str, before: str = "pass", code: str = "sys.exit(main())"
) -> subprocess.CompletedProcess:
    """Status and output of `harness ARGUMENTS`; `code` runs it, `before` is done before imports."""
    script = f"import sys; {before}; from harness.cli.app import main; {code}"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
