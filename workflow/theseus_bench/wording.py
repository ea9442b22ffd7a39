"""Numbers, lists and plurals as a reader sees them."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "–"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOT_MEASURED = "not measured"
NOT_APPLICABLE = "not applicable: there is no trained model"


def duration(seconds: float) -> str:
    """Seconds in the two largest units: '3 d 4 h', '2 h 5 min', '4 min 10 s', '12 s'."""
    rest, parts = round(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if parts or count or unit == "s":
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count or len(parts) == 1)


def count_noun(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def is_or_are(number: int) -> str:
    return "is" if number == 1 else "are"


def signed(difference: float, decimals: int = 1) -> str:
    """A difference as it is shown: '+0.4', '−1.2', '0.0'."""
    text = format_number(difference, decimals)
    return text if text.startswith("−") or not float(text) else f"+{text}"


def power(value: float) -> str:
    """A large number as it is shown: '2.3 · 10¹⁵'; '0' for none."""
    if not value:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def series(words: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def format_number(value: float, decimals: int) -> str:
    rounded = round(value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:.{decimals}f}".replace("-", "−")
