"""Which settings a search tries: within the grid, the default first, evenly, and the same ones every time."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from theseus_bench.suite.search import draw_trials

GRID = {"rate": [1, 2], "base": [0.1, 0.3], "full": [10, 50, 100, 300]}  # the paper's: 16 settings
WIDE = {"start": ["a", "b"], "rate": [1, 2, 3, 4], "warmup": [0.0, 0.1], "decay": [0.0, 0.01], "base": [0.1, 0.3, 0.5]}
DEFAULT = {"start": "a", "rate": 2, "warmup": 0.0, "decay": 0.0, "base": 0.3}


def test_a_grid_that_fits_is_tried_whole_with_the_default_first():
    trials = draw_trials(GRID, {"rate": 2, "base": 0.3, "full": 50}, 16, "theseus")
    assert trials[0] == {"rate": 2, "base": 0.3, "full": 50}
    assert sorted(tuple(trial.values()) for trial in trials) == sorted(itertools.product(*GRID.values()))


def test_a_default_outside_the_grid_takes_one_of_the_tries():
    trials = draw_trials(GRID, {"rate": 2, "base": 0.3, "full": 7}, 16, "theseus")
    assert trials[0]["full"] == 7
    assert len(trials) == 16
    assert all(trial["full"] in GRID["full"] for trial in trials[1:])
    assert len(draw_trials(GRID, {"rate": 2, "base": 0.3, "full": 7}, 99, "theseus")) == 17


@pytest.mark.parametrize("budget", [2, 7, 16])
def test_draws_are_different_settings_of_the_grid(budget):
    trials = draw_trials(WIDE, DEFAULT, budget, "any")
    assert len(trials) == budget
    assert trials[0] == DEFAULT
    assert len({tuple(trial.values()) for trial in trials}) == budget
    assert all(trial[key] in WIDE[key] for trial in trials for key in WIDE)


@given(salt=st.text(max_size=5))
def test_every_value_of_every_setting_is_tried(salt):
    trials = draw_trials(WIDE, DEFAULT, 17, salt)[1:]
    for key, values in WIDE.items():
        counts = [sum(trial[key] == value for trial in trials) for value in values]
        # Equal shares, but for the few draws that a repeated setting is made up for by.
        assert min(counts) >= 16 // len(values) - 3, (key, counts)


def test_the_same_search_tries_the_same_settings_and_another_one_others():
    first, again, other = (draw_trials(WIDE, DEFAULT, 8, salt) for salt in ("pkd", "pkd", "minilm"))
    assert first == again
    assert first != other


def test_a_budget_of_one_or_nothing_to_choose_is_no_search():
    assert draw_trials(GRID, {"rate": 2, "base": 0.3, "full": 50}, 1, "theseus") == []
    assert draw_trials({"rate": [2]}, {"rate": 2}, 16, "theseus") == []
    assert draw_trials({"rate": [3]}, {"rate": 2}, 16, "theseus") == [{"rate": 2}, {"rate": 3}]
