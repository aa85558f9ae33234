"""A budget as a share of each sample's own visual tokens."""

from __future__ import annotations

import re
from fractions import Fraction

_WRITTEN = re.compile(r"\d+(\.\d+)?%|\d+/0*[1-9]\d*", re.ASCII)


class Share(Fraction):
    """Above 0 and below 1: `33%`, or `1/9` where no tenth of a percent says it."""

    @classmethod
    def parse(cls, text: str) -> Share:
        """Reads `33%`, `12.5%` and `1/9`. Raises ValueError for anything else."""
        if not _WRITTEN.fullmatch(text):
            raise ValueError(f"{text!r} is no share")
        value = Fraction(text[:-1]) / 100 if text.endswith("%") else Fraction(text)
        if not 0 < value < 1 or value.denominator > 10**6:
            raise ValueError(f"{text!r} is no share between 0 and 100 %")
        return cls(value)

    def __str__(self) -> str:
        percent = Fraction(self) * 100
        if (10 * percent).denominator > 1:
            return f"{self.numerator}/{self.denominator}"
        return f"{float(percent):g}%"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    @property
    def words(self) -> str:
        """`33 %`, for tables."""
        return str(self).replace("%", " %")
