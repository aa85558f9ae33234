"""A finished table as LaTeX and as HTML: the texts that `render` prints, escaped and set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby

from harness.tables.footnotes import DIGITS, LETTERS
from harness.tables.table import Column, Table

_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)(.*)", re.DOTALL)
_LATEX = {
    **{letter: f"\\{letter}" for letter in "%$&#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "†": r"$\dagger$",
    "−": r"$-$",
    **{r: rf"\textsuperscript{{{c}}}" for c, r in (LETTERS | DIGITS).items()},
}
_FALLING = ' aria-sort="descending"'
WIDE = 9
"""Letters in a line of a heading."""
_BEGIN = r"""% \input this file, with \usepackage{booktabs,siunitx,adjustbox} in the preamble,
% or compile it as it stands: outside a document the next lines make one.
\expandafter\ifx\csname @nodocument\endcsname\relax\let\harnessend\endinput\else
\documentclass{article}
\usepackage[utf8]{inputenc}\usepackage[margin=1.5cm,landscape]{geometry}
\usepackage{booktabs,siunitx,adjustbox}\pagestyle{empty}
\def\harnessend{\end{document}}
\begin{document}\fi
"""
_END = "\\harnessend\n"


def latex(tables: Iterable[Table]) -> str:
    """Floats with booktabs rules and numbers aligned by siunitx; the file compiles by itself."""
    return "\n".join([_BEGIN + "\n".join(map(_float, tables)), _END])


def _float(table: Table) -> str:
    columns = table.shown()
    texts = [[" ".join(lines) for lines in row] for row in table.texts()]
    specs = [_spec(c, [row[i] for row in texts]) for i, c in enumerate(columns)]
    body = [line for i, row in enumerate(texts) for line in _latex_row(table, i, row, specs)]
    notes = [rf"\par\smallskip\raggedright\footnotesize {latex_text(n)}" for n in table.notes]
    return "\n".join(
        [
            r"\begin{table}[tbp]\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{latex_text(table.title)}}}",
            r"\begin{adjustbox}{max width=\linewidth}",
            rf"\begin{{tabular}}{{@{{}}{' '.join(specs)}@{{}}}}",
            r"\toprule",
            *_latex_head(columns),
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            *notes,
            r"\end{table}",
        ]
    )


def _spec(column: Column, texts: Sequence[str]) -> str:
    """`S` with room for the widest number and for what follows it; `l` or `r` without numbers."""
    found = [m for text in texts if (m := _NUMBER.fullmatch(text))]
    if column.left or not found:
        return "l" if column.left else "r"
    wholes, decimals = zip(*(m[1].lstrip("+-").partition(".")[::2] for m in found), strict=True)
    sign = "+" if any(m[1][0] in "+-" for m in found) else ""
    form = f"{sign}{max(map(len, wholes))}.{max(map(len, decimals))}"
    rest = max((m[2] for m in found), key=len)
    room = f", table-space-text-post={{{_small(rest)}}}" if rest else ""
    return f"S[mode=text, detect-weight, table-format={form}{room}]"


def _latex_head(columns: Sequence[Column]) -> Iterator[str]:
    if any(column.group for column in columns):
        spans, rules = [], []
        for name, first, width in _groups(columns):
            spans.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_text(name)}}}")
            rules += [rf"\cmidrule(lr){{{first + 1}-{first + width}}}"] if name else []
        yield " & ".join(spans) + r" \\ " + "".join(rules)
    yield " & ".join(f"{{{_stacked(column.title)}}}" for column in columns) + r" \\"
    yield r"\midrule"


def _stacked(title: str) -> str:
    """A heading in lines of a number's width where its words allow: a suite has many columns."""
    lines = [""]
    for word in re.findall(r"[^ _]*[ _]?", title):
        if len(lines[-1] + word) > WIDE:
            lines.append("")
        lines[-1] += word
    texts = [latex_text(line.rstrip()) for line in lines if line]
    return texts[0] if len(texts) == 1 else r"\shortstack{" + r"\\".join(texts) + "}"


def _groups(columns: Sequence[Column]) -> Iterator[tuple[str, int, int]]:
    """Name, first column and number of columns of each run of neighbours."""
    for name, run in groupby(enumerate(columns), lambda pair: pair[1].group):
        places = [place for place, _ in run]
        yield name, places[0], len(places)


def _latex_row(table: Table, index: int, row: Sequence[str], specs: Sequence[str]) -> Iterator[str]:
    if index in table.sections and index:
        yield r"\midrule"
    if index in table.headings:
        heading = latex_text(table.headings[index])
        yield rf"\multicolumn{{{len(row)}}}{{@{{}}l}}{{\textit{{{heading}}}}} \\"
        yield r"\midrule"
    bold, apart = table.is_bold(index), index in table.apart
    cells = zip(row, specs, bold, strict=True)
    yield " & ".join(_latex_cell(*cell, apart=apart) for cell in cells) + r" \\"


def _latex_cell(text: str, spec: str, bold: bool, apart: bool) -> str:
    style = r"\bfseries " if bold else r"\itshape " if apart else ""
    number = _NUMBER.fullmatch(text)
    if spec.startswith("S") and number:
        rest = f"{{{_small(number[2])}}}" if number[2] else ""
        return f"{style}{number[1]}{rest}"
    return f"{{{style}{latex_text(text)}}}"


def _small(rest: str) -> str:
    return rf"\,\scriptsize {latex_text(rest.strip())}"


def latex_text(text: str) -> str:
    """`text` letter by letter; a letter that pdflatex cannot set, by its code point."""
    known = ((_LATEX.get(c), c) for c in text)
    return "".join(new or (c if ord(c) < 0x180 else f"U+{ord(c):04X}") for new, c in known)


def html_page(tables: Iterable[Table]) -> str:
    """The tables as a page of their own."""
    head = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Tables</title>\n'
    return head + "\n".join(map(html, tables))


def html(table: Table, classes: str = "", falling: str = "") -> str:
    """A `<table>` with scoped headers, a `<tbody>` a section, and the notes after it.

    `falling`: the title of the column by which each section is sorted, the largest first.
    """
    columns = table.shown()
    head = "".join(
        f'<th scope="col"{_FALLING * (column.title == falling)}>{escape(column.title)}</th>'
        for column in columns
    )
    above = "".join(
        f'<th scope="colgroup" colspan="{width}">{escape(name)}</th>'
        for name, _, width in _groups(columns)
    )
    rows = "".join(_html_row(table, i, row) for i, row in enumerate(table.texts()))
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in table.notes)
    grouped = f"<tr>{above}</tr>\n" if any(column.group for column in columns) else ""
    return (
        f'<table class="{" ".join(["harness", classes]).strip()}">\n'
        f"<caption>{escape(table.title)}</caption>\n"
        f"<thead>\n{grouped}<tr>{head}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n</table>\n{notes}"
    )


def _html_row(table: Table, index: int, row: Sequence[Sequence[str]]) -> str:
    section = "</tbody>\n<tbody>\n" if index in table.sections and index else ""
    heading = ""
    if index in table.headings:
        text = escape(table.headings[index])
        heading = (
            f'<tr><th class="heading" scope="rowgroup" colspan="{len(row)}">{text}</th></tr>\n'
        )
    bold = table.is_bold(index)
    cells = "".join(
        _html_cell(lines, place, strong, column.left)
        for place, (lines, strong, column) in enumerate(zip(row, bold, table.shown(), strict=True))
    )
    kind = ' class="apart"' if index in table.apart else ""
    return f"{section}{heading}<tr{kind}>{cells}</tr>\n"


def _html_cell(lines: Sequence[str], place: int, bold: bool, left: bool) -> str:
    first, *others = (escape(line) for line in lines or [""])
    value = f"<strong>{first}</strong>" if bold else first
    text = " ".join([value, *(f"<small>{line}</small>" for line in others)])
    if place == 0:
        return f'<th scope="row">{text}</th>'
    return f'<td class="left">{text}</td>' if left else f"<td>{text}</td>"
