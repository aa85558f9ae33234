"""Marks of footnotes: raised letters and digits that every form of a table can print."""

from __future__ import annotations

from dataclasses import dataclass, field

LETTERS = dict(zip("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", strict=True))
DIGITS = dict(zip("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))


@dataclass
class Footnotes:
    """Hands out one mark a text, in the order in which they are first asked for."""

    numbered: bool = False
    _texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        if text not in self._texts:
            self._texts.append(text)
        return self._mark(self._texts.index(text))

    def lines(self) -> list[str]:
        return [f"{self._mark(i)} {text}" for i, text in enumerate(self._texts)]

    def _mark(self, index: int) -> str:
        if self.numbered:
            return "".join(DIGITS[digit] for digit in str(index + 1))
        letters = list(LETTERS.values())
        return letters[index % len(letters)] * (1 + index // len(letters))
