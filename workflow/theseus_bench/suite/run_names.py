"""How a run is named: METHOD, or METHOD@PART+PART… for a method that is changed.

A part is `equal` (the protocol of equal effort), a variant that the method names, or a setting with its value, and
`trial=K` marks a run of a search: theseus@equal+constant+base_rate=0.7+trial=3. The parts together are the run's
variant. They are said in this order, so that one run has one name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import has_control_characters

PUBLISHED, EQUAL = "published", "equal"  # the protocols; the first has no part of its own
ADAPTED = "adapted"  # what the first is called where the suite's own settings change the recipes
TRIAL = "trial"


@dataclass(frozen=True)
class RunName:
    """A method and the parts that change it, which are put in order."""

    method: str
    parts: tuple[str, ...] = ()  # settings as `setting_part` writes them

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(sorted(self.parts, key=_rank)))

    @staticmethod
    @cache
    def parse(name: str) -> RunName:
        """The name that `name` says, equal settings in equal words; UserError on half a setting."""
        method, _, variant = name.partition("@")
        return RunName(method, tuple(_normal(part) for part in variant.split("+") if part))

    @staticmethod
    def of(method: str, variant: str) -> RunName:
        """The name of a method's runs of this variant, as records and tables have the two."""
        return RunName.parse(f"{method}@{variant}")

    def __str__(self) -> str:
        return f"{self.method}@{self.variant}" if self.parts else self.method

    @cached_property
    def variant(self) -> str:
        """The parts together: 'equal+constant'."""
        return "+".join(self.parts)

    @property
    def protocol(self) -> str:
        """The protocol that it follows."""
        return EQUAL if EQUAL in self.parts else PUBLISHED

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The parts that are settings."""
        return dict(setting for part in self.parts if (setting := read_part(part)) is not None)

    @property
    def trial(self) -> Any:
        """Which trial of a search it is; None for a run that is none."""
        return self.settings.get(TRIAL)

    @property
    def words(self) -> str:
        """What is changed, as tables say it after the method's label: ', constant, base rate 0.7'."""
        return "".join(f", {part.replace('=', ' ').replace('_', ' ')}" for part in self.parts if part != EQUAL)

    def adding(self, *parts: str) -> RunName:
        """The same with further parts."""
        return RunName(self.method, (*self.parts, *parts))

    def setting(self, *changes: str) -> RunName:
        """The same with further settings, each as a user writes it: 'base_rate=0.7'; UserError for what is none."""
        parts = []
        for change in changes:
            setting = read_part(change)
            if setting is None:
                raise UserError(f"{change!r}: expected SETTING=VALUE")
            parts.append(setting_part(*setting))
        return self.adding(*parts)

    def without(self, *keys: str) -> RunName:
        """The same without the parts of these names, and without these settings."""
        return RunName(self.method, tuple(part for part in self.parts if part.partition("=")[0] not in keys))

    def under(self, protocol: str) -> RunName:
        """The same under a protocol."""
        return self.without(EQUAL).adding(*[EQUAL] * (protocol == EQUAL))


def setting_part(key: str, value: Any) -> str:
    """A setting as a part of a name: 'base_rate=0.7'; UserError for text that no folder of a run can be called by."""
    if isinstance(value, float):
        return f"{key}={value:.10g}".replace("e+", "e")  # a plus parts the parts
    part = f"{key}={value if isinstance(value, str) else json.dumps(value)}"
    if has_control_characters(part) or any(mark in part for mark in "/{}+"):
        raise UserError(
            f"setting {key}: {value!r} would be part of the name of a folder, which has no /, {{, }}, + and no control "
            f"character; give the method a variant that sets it"
        )
    return part


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


def protocol_suffix(protocol: str) -> str:
    """What a label of a protocol's runs ends in."""
    return "" if protocol == PUBLISHED else f" ({protocol})"


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
