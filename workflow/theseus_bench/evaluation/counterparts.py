"""Which of our runs the papers' numbers and claims are about.

A compressed model is compared with the printed one of the same method, variant and share of the backbone's layers.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

from theseus_bench.suite.plan import Plan
from theseus_bench.suite.published import PUBLISHED_FOLDER, Claim, Paper, PublishedTable, load_published
from theseus_bench.suite.run_names import EQUAL, RunName

Kind = tuple[str, tuple[str, ...], Fraction | None]


def compared_tables(plan: Plan, experiment: str) -> dict[str, tuple[Paper, PublishedTable]]:
    """The published tables that the experiment is compared with."""
    keys = plan.suite.experiments[experiment].compare_with
    tables = load_published(PUBLISHED_FOLDER) if keys else {}
    return {key: tables[key] for key in keys}


def counterparts(plan: Plan, paper: Paper, row: str) -> set[Kind]:
    """What of ours a published row is compared with, under any protocol."""
    names = [name for spec in plan.specs.values() for name in spec.published.get(row, [])]
    return {reported_kind(plan, paper, name) for name in names}


def kind_of(plan: Plan, name: str) -> Kind:
    """What a run of ours is, whatever the protocol: method, parts but for the depth, and share of the layers."""
    layers = plan.run(name, plan.trained_tasks[0], 0).settings["layers"]
    return _kind(plan, name, Fraction(layers, plan.suite.backbone.layers))


def reported_kind(plan: Plan, paper: Paper, name: str) -> Kind:
    """What a run that a paper reports is, by the name that we have for it."""
    depth = RunName.parse(name).settings.get("layers", paper.compressed_layers)
    return _kind(plan, name, Fraction(depth, paper.layers))


def _kind(plan: Plan, name: str, share: Fraction) -> Kind:
    run_name = RunName.parse(name).without(EQUAL, "layers")
    return run_name.method, run_name.parts, share if plan.spec_of(name).compressed else None


def claims_of(plan: Plan, experiment: str) -> list[tuple[Claim, str, list[list[str]]]]:
    """(claim, protocol, our runs' names for each of its models) of every claim whose models the experiment has.

    Only claims of the tables that the experiment is compared with.
    """
    claims: list[tuple[Claim, str, list[list[str]]]] = []
    for paper, table in compared_tables(plan, experiment).values():
        for claim in paper.claims:
            for protocol in plan.suite.experiments[experiment].protocols:
                groups = [_names_of(plan, experiment, paper, names, protocol) for names in claim.models]
                if claim.table == table.table and all(groups):
                    claims.append((claim, protocol, groups))
    return claims


def claimed_pairs(claim: Claim, groups: list[list[str]]) -> list[tuple[str, str, float]]:
    """The differences that a claim is judged by: (name, other, share), the first less that share of the other."""
    share = 1.0 if claim.retains is None else claim.retains
    return [(a, b, share) for first, second in itertools.pairwise(groups) for a in first for b in second]


def _names_of(plan: Plan, experiment: str, paper: Paper, names: list[str], protocol: str) -> list[str]:
    """Those of the paper's `names` that the experiment has under the protocol; a control is the same under each."""
    kinds = {reported_kind(plan, paper, name) for name in names}
    return [
        name
        for name in plan.experiment_names(experiment)
        if kind_of(plan, name) in kinds and (RunName.parse(name).protocol == protocol or not plan.spec_of(name).trained)
    ]
