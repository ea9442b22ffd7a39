r"""Text as pdflatex takes it, whatever is in it: a label, or the reason of a failure with a path and a <tag>."""

from __future__ import annotations

import re

LONG_WORD = 20  # characters; a longer word may break, at its signs and after every 12 letters or digits


def latex_text(text: str) -> str:
    r"""The text for a table's cell: special characters escaped, white space as one space, long words breakable.

    The result needs no package and the default encodings. A character that pdflatex then does not know is given by its
    number, as U+4E2D. What could be read as an argument of the \\ before it is in braces.
    """
    words = [_breakable(word) if len(word) > LONG_WORD else word for word in text.split()]
    return re.sub("-(?=-)", f"-{_NOTHING}", " ".join(words)).translate(_CHARACTERS)  # or two hyphens would be a dash


def _breakable(word: str) -> str:
    return re.sub(r"([^\W_]{12}|[\W_])(?=.)", rf"\1{_BREAK}", word)


class _Characters(dict):
    """The LaTeX of each character, by its number."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        plain = character.isascii() and character.isprintable()
        letter = character.isalpha() and code < 0x100 and character not in "ÐðÞþ"
        return character if plain or letter else f"U+{code:04X}"


_NOTHING, _BREAK = "\0", "\1"
_CHARACTERS = _Characters(
    str.maketrans(
        {c: "\\" + c for c in "&%$#_{}"}
        | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"}
        | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "*": "{*}", '"': "''"}
        | {"–": "--", "—": "---", "…": r"\ldots{}", "·": r"$\cdot$", "°": r"$^\circ$", "\u00a0": "~"}
        | {"†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "“": "``", "”": "''", "‘": r"\textquoteleft{}", "’": "'"}
        | {"×": r"$\times$", "±": r"$\pm$", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$"}
        | {"→": r"$\rightarrow$", "∞": r"$\infty$", "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$"}
        | {digit: f"$^{{{i}}}$" for i, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
        | {"⁻": "$^{-}$"}
        | {"µ": r"$\mu$", "μ": r"$\mu$", _NOTHING: "{}", _BREAK: r"\allowbreak{}"}
    )
)
