"""The phases of a timed run, in the order in which records hold them: to add one is to add a row.

Every list of phases, of the watch, of the form of a record, of tables, figures and frames, is made
of these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Phase:
    """`name`: its key among a record's raw seconds.

    `title` and `unit`: of its column in tables, none where it has none; `colour`: its number among
    the colours of the page's figure, None where it is not drawn. `once`: a run up to the first
    token has it once; the others are of the answer. `listed`: a round holds several seconds of it,
    one for each new token or stage. `within`: the phase whose seconds hold these, too. `held`: by
    which records; those with device rates are the newer ones. `never_0`: it always takes time.
    """

    name: str
    title: str = ""
    unit: str = "ms"
    colour: int | None = None
    once: bool = False
    listed: bool = False
    within: str = ""
    held: Literal["by all", "with rates", "by some"] = "by all"
    never_0: bool = False


PHASES = (
    Phase("vision_tower", "Vision tower", colour=5, once=True),
    Phase("projector", "Projector", colour=6, once=True),
    Phase("selection", "Selection", colour=1, once=True),
    Phase("prefill", "Prefill", colour=0, once=True, never_0=True),
    Phase("stages", listed=True, within="selection", held="by some"),
    Phase("decode", "Decode", "ms/token", colour=2, listed=True),
    Phase("between_tokens", listed=True, held="with rates"),
    Phase("end_to_end", "End to end", never_0=True),
)

ONCE = tuple(phase.name for phase in PHASES if phase.once)
"""Until the first token; the selection is not in the prefill."""
OF_TOKENS = tuple(phase.name for phase in PHASES if phase.listed and not phase.within)
"""Lists of a new token's seconds."""
SHOWN = tuple(phase for phase in PHASES if phase.title)
"""Those that have a column."""
