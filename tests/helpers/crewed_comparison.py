"""A comparison by two workers of a Ray of its own, or of a cluster, to be killed; run as a script.

`python crewed_comparison.py DIRECTORY [HOST:PORT]`: all embedded tasks, four methods, two questions
a shard.
"""

from __future__ import annotations

import sys
from typing import Any

METHODS = "fastv,vitcop,visionzip,random"
QUESTIONS, OF_A_SHARD, TASKS, CELLS = 4, 2, 5, 5


def compare(directory: str, **changes: Any):
    from harness import compare

    return compare(
        methods=METHODS,
        budgets="64",
        model="tiny",
        device="cpu",
        output=directory,
        limit=QUESTIONS,
        efficiency=False,
        shard_questions=OF_A_SHARD,
        **changes,
    )


if __name__ == "__main__":
    compare(sys.argv[1], workers=2, ray=sys.argv[2] if len(sys.argv) > 2 else None)
