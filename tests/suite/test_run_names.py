"""The names of runs."""

import pytest
from theseus_bench.errors import UserError
from theseus_bench.suite.run_names import join_name, label_of, protocol_of, read_part, setting_part, split_name


@pytest.mark.parametrize(
    ("name", "method", "parts"),
    [
        ("theseus", "theseus", ()),
        ("theseus@constant", "theseus", ("constant",)),
        ("theseus@equal+constant+base_rate=0.7+trial=3", "theseus", ("equal", "constant", "base_rate=0.7", "trial=3")),
    ],
)
def test_a_name_comes_apart_and_together_again(name, method, parts):
    assert split_name(name) == (method, parts)
    assert join_name(method, parts) == name


def test_parts_have_one_order():
    parts = ("trial=2", "layers=4", "base_rate=0.5", "constant", "equal")
    assert join_name("theseus", parts) == "theseus@equal+constant+base_rate=0.5+layers=4+trial=2"


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("layers", 4, "layers=4"),
        ("learning_rate", 2.0e-5, "learning_rate=2e-05"),
        ("start", "predecessor", "start=predecessor"),
        ("normalise", True, "normalise=true"),
    ],
)
def test_a_setting_is_read_as_it_was_written(key, value, part):
    assert setting_part(key, value) == part
    assert read_part(part) == (key, value)
    assert type(read_part(part)[1]) is type(value)


def test_equal_numbers_make_equal_parts():
    assert split_name("theseus@learning_rate=2e-5") == split_name("theseus@learning_rate=0.00002")


@pytest.mark.parametrize("value", [1.0e6, 1.0e9, 123456789.0, 2.5e-7])
def test_large_and_small_numbers_do_not_break_a_name(value):
    name = join_name("theseus", (setting_part("full_rate_at", value), "constant"))
    assert [read_part(part) for part in split_name(name)[1]] == [None, ("full_rate_at", value)]


def test_a_name_is_no_setting_and_half_a_setting_is_a_mistake():
    assert read_part("constant") is None
    for half in ("layers=", "=4"):
        with pytest.raises(UserError, match="expected SETTING=VALUE"):
            read_part(half)


def test_variants_in_words():
    assert label_of("", "published") == ""
    assert label_of("constant+base_rate=0.7", "published") == ", constant, base rate 0.7"
    assert label_of("equal+layers=4", "equal") == ", layers 4 (equal)"
    assert label_of("layers=4", "adapted") == ", layers 4 (adapted)"
    assert [protocol_of(v) for v in ("", "constant", "equal", "equal+layers=4")] == ["published"] * 2 + ["equal"] * 2
