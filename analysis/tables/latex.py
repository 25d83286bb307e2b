"""Tables for a paper: `tabular` with the rules of booktabs, everything escaped but the formulas that the user gave."""

import re
import textwrap
import unicodedata
from collections.abc import Collection

from ..names.naming import FORMULA
from .text_table import Cells

SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "…": r"\ldots{}",
    "‖": r"$\Vert$",
    "²": "$^2$",
    "₂": "$_2$",
    "°": r"$^\circ$",
    "→": r"$\to$",
    "“": "``",
    "”": "''",
    '"': "''",
}
NUMBER = re.compile(r"(?<![\w.])-(?=\d|\.\d)")


def escape(text: str, formulas: bool = False) -> str:
    """LaTeX that prints `text`. formulas: what stands between dollar signs is LaTeX already."""
    if not formulas:
        return "".join(map(_escaped, NUMBER.sub("−", text)))
    parts, at = [], 0
    for found in FORMULA.finditer(text):
        parts += [escape(text[at : found.start()].replace(r"\$", "$")), found[0]]
        at = found.end()
    return "".join([*parts, escape(text[at:].replace(r"\$", "$"))])


def tabular(cells: Cells, title: str, note: str, given: Collection[str] = ()) -> str:
    """cells: rows, the first of them the headings; the first column is text. given: cells that the user wrote."""
    head, *rows = [[escape(cell, cell in given) for cell in row] for row in cells]
    comment = [f"% {line}" for text in (title, note) for line in textwrap.wrap(text, 110)]
    lines = [
        *comment,
        r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"\toprule",
        f"{' & '.join(head)} \\\\",
        r"\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def document(tables: list[str]) -> str:
    """The content of a .tex file that a paper takes by \\input."""
    return "\n\n".join([r"% \usepackage{booktabs}", *tables]) + "\n"


def _escaped(letter: str) -> str:
    if letter in SPECIAL:
        return SPECIAL[letter]
    if ord(letter) < 128:
        return letter if letter.isprintable() else " "
    greek = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", unicodedata.name(letter, ""))
    if greek is None:
        return letter  # LaTeX reads UTF-8
    name = greek[2].lower().replace("lamda", "lambda")
    return f"$\\{name if greek[1] == 'SMALL' else name.capitalize()}$"
