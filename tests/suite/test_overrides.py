"""What --config sets, as Snakemake hands it over, in the types that a file would give it."""

import pytest
from snakemake.cli import parse_config
from theseus_bench.suite.overrides import read_override


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ('settings=[{"methods": ["pkd"], "set": {"temperature": 3.0, "normalise": true, "max_steps": null}}]',
         [{"methods": ["pkd"], "set": {"temperature": 3.0, "normalise": True, "max_steps": None}}]),
        ("settings=[{set: {beta: 1e2, start: predecessor}}]", [{"set": {"beta": 100.0, "start": "predecessor"}}]),
        ("seeds=[1, 2]", [1, 2]),
        ("search={budget: {equal: 2}, space: {learning_rate: [1.0e-5, 2e-5]}}",
         {"budget": {"equal": 2}, "space": {"learning_rate": [1e-5, 2e-5]}}),
        ('data={"path": "2020", "samples": ["rte"]}', {"path": "2020", "samples": ["rte"]}),
        ("experiments={glue_dev: {title: 2020, methods: [theseus@constant]}}",
         {"glue_dev": {"title": "2020", "methods": ["theseus@constant"]}}),
        ("threads=2", 2),
        ("suite=mine", "mine"),
        ('data={"path": "~"}', {"path": "~"}),
    ],
)  # fmt: skip
def test_values_have_the_types_that_a_file_would_give_them(entry, value):
    (key,) = parsed = parse_config([entry])
    read = read_override(parsed)[key]
    assert read == value
    assert repr(read) == repr(value), "True is 1, and is not meant"
