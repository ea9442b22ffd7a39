"""How a run is named: METHOD, or METHOD@PART+PART… for a method that is changed.

A part is `equal` (the protocol of equal effort), a variant that the method names, or a setting with its value, and
`trial=K` marks a run of a search: theseus@equal+constant+base_rate=0.7+trial=3. The parts together are the run's
variant. They are said in this order, so that one run has one name.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from theseus_bench.errors import UserError

PUBLISHED, EQUAL = "published", "equal"  # the protocols; the first has no part of its own
ADAPTED = "adapted"  # what the first is called where the suite's own settings change the recipes
TRIAL = "trial"


@cache
def split_name(name: str) -> tuple[str, tuple[str, ...]]:
    """The method and the parts of a run's name, settings as `setting_part` writes them."""
    method, _, variant = name.partition("@")
    return method, tuple(_normal(part) for part in variant.split("+") if part)


def join_name(method: str, parts: tuple[str, ...]) -> str:
    """The name with these parts, put in order."""
    return f"{method}@{'+'.join(sorted(parts, key=_rank))}" if parts else method


def setting_part(key: str, value: Any) -> str:
    """A setting as a part of a name: 'base_rate=0.7'."""
    if isinstance(value, float):
        return f"{key}={value:.10g}".replace("e+", "e")  # a plus parts the parts
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def read_part(part: str) -> tuple[str, Any] | None:
    """The setting and the value of a part such as 'base_rate=0.7'; None for a part that is a name."""
    key, equals, text = part.partition("=")
    if not equals:
        return None
    if not key or not text:
        raise UserError(f"{part!r}: expected SETTING=VALUE")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, text


def protocol_of(variant: str) -> str:
    """The protocol that a run with this variant follows."""
    return EQUAL if EQUAL in variant.split("+") else PUBLISHED


def label_of(variant: str, protocol: str) -> str:
    """A variant in words, as tables give it after the method's label: ', constant, base rate 0.7 (equal)'."""
    parts = [part for part in variant.split("+") if part and part != EQUAL]
    words = "".join(f", {part.replace('=', ' ').replace('_', ' ')}" for part in parts)
    return words + (f" ({protocol})" if protocol != PUBLISHED else "")


def _normal(part: str) -> str:
    setting = read_part(part)
    return part if setting is None else setting_part(*setting)


def _rank(part: str) -> tuple[int, str]:
    """The protocol first, then named variants in alphabetical order, then settings, the trial last."""
    if part == EQUAL:
        return 0, ""
    if "=" not in part:
        return 1, part
    return (3 if part.startswith(f"{TRIAL}=") else 2), part
