"""Which of an experiment's methods are compared with which: like with like, each pair once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from theseus_bench.evaluation.counterparts import claimed_pairs, claims_of
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.run_names import EQUAL, RunName
from theseus_bench.suite.search import Settings


@dataclass(frozen=True)
class Comparison:
    """A run's name beside another's: `name` less `share` times `other`.

    `primary`: a proposed method beside a baseline. `control`: `other` is what `name` is marked against in tables.
    """

    name: str
    other: str
    primary: bool = False
    control: bool = False
    share: float = 1.0

    @property
    def pair(self) -> tuple[frozenset[str], float]:
        """What is compared, whichever stands first."""
        return frozenset((self.name, self.other)), self.share


def list_comparisons(plan: Plan, experiment: str) -> list[Comparison]:
    """The comparisons that an experiment's methods allow, in the order of its table, each pair once.

    Every proposed method with every baseline; every trained method with its control; what the papers' claims compare.
    """
    names = plan.experiment_names(experiment)
    trained = [name for name in names if role_of(plan, name) != "control"]
    controls = {name: _nearest(plan, name, _controls(plan, experiment, name)) for name in trained}
    comparisons = []
    for name in trained:
        if role_of(plan, name) == "proposed":
            kinds: dict[tuple[str, ...], list[str]] = {}
            for other in names:
                if role_of(plan, other) == "baseline":
                    kinds.setdefault(_kind(plan, other, name), []).append(other)
            others = [_nearest(plan, name, others) for others in kinds.values()]
            comparisons += [Comparison(name, other, True, other == controls[name]) for other in others]
    comparisons += [Comparison(name, other, control=True) for name, other in controls.items()]
    for claim, _, groups in claims_of(plan, experiment):
        comparisons += [Comparison(name, other, share=share) for name, other, share in claimed_pairs(claim, groups)]
    by_pair: dict[tuple[frozenset[str], float], Comparison] = {}
    for comparison in comparisons:
        if comparison.other:
            by_pair.setdefault(comparison.pair, comparison)
    return list(by_pair.values())


def _controls(plan: Plan, experiment: str, name: str) -> list[str]:
    """Those of an experiment's names that are its control, under any protocol; the suite's control in every version.

    A control that the experiment itself names is that very run.
    """
    names, control_name = plan.experiment_names(experiment), plan.suite.experiments[experiment].control
    if control_name is None:
        kind = _kind(plan, plan.suite.significance.control, name)
        return [other for other in names if _kind(plan, other, name) == kind]
    control = RunName.parse(plan.canonical(control_name))
    return [other for other in names if other in (str(control), str(control.under(EQUAL)))]


def _kind(plan: Plan, other: str, name: str) -> tuple[str, ...]:
    """What makes `other` another method to `name`: its method, its variants, and settings that `name` does not have."""
    kind = RunName.parse(other).without(EQUAL, *plan.spec_of(name).options)
    return kind.method, *kind.parts


def _nearest(plan: Plan, name: str, others: Sequence[str]) -> str:
    """The one of `others` that is made most as `name` is; '' if that is `name` itself, or there is none.

    The protocol counts most, then in how many of the settings that are varied the two agree, as resolved.
    """
    keys = {key for one in (name, *others) for key in RunName.parse(one).settings}
    own_settings = _settings(plan, name)

    def likeness(other: str) -> tuple[bool, int]:
        settings = _settings(plan, other)
        same = RunName.parse(other).protocol == RunName.parse(name).protocol
        return same, sum(key in own_settings and settings.get(key) == own_settings[key] for key in keys | {"layers"})

    best = max(others, key=likeness, default="")
    return "" if name in others and likeness(name) == likeness(best) else best


def _settings(plan: Plan, name: str) -> Settings:
    return plan.run(name, plan.trained_tasks[0], 0).settings


def role_of(plan: Plan, name: str) -> str:
    return plan.spec_of(name).role
