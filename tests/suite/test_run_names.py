"""The names of runs."""

import pytest
from theseus_bench.errors import UserError
from theseus_bench.suite.run_names import RunName, protocol_suffix, read_part, setting_part


@pytest.mark.parametrize(
    ("name", "method", "parts"),
    [
        ("theseus", "theseus", ()),
        ("theseus@constant", "theseus", ("constant",)),
        ("theseus@equal+constant+base_rate=0.7+trial=3", "theseus", ("equal", "constant", "base_rate=0.7", "trial=3")),
    ],
)
def test_a_name_comes_apart_and_together_again(name, method, parts):
    assert RunName.parse(name) == RunName(method, parts)
    assert str(RunName(method, parts)) == name
    assert RunName.of(method, "+".join(parts)) == RunName(method, parts)


def test_parts_have_one_order():
    parts = ("trial=2", "layers=4", "base_rate=0.5", "constant", "equal")
    name = "theseus@equal+constant+base_rate=0.5+layers=4+trial=2"
    assert str(RunName("theseus", parts)) == name
    assert RunName.parse(f"theseus@{'+'.join(parts)}") == RunName.parse(name)


def test_a_name_says_its_protocol_its_settings_and_its_trial():
    name = RunName.parse("theseus@equal+constant+base_rate=0.5+start=predecessor+trial=2")
    assert (name.protocol, name.variant, name.trial) == (
        "equal", "equal+constant+base_rate=0.5+start=predecessor+trial=2", 2,
    )  # fmt: skip
    assert name.settings == {"base_rate": 0.5, "start": "predecessor", "trial": 2}
    plain = RunName.parse("theseus")
    assert (plain.protocol, plain.variant, plain.trial, plain.settings) == ("published", "", None, {})
    assert [RunName.of("theseus", v).protocol for v in ("constant", "equal", "equal+layers=4")] == [
        "published", "equal", "equal",
    ]  # fmt: skip


def test_a_name_with_other_parts():
    name = RunName.parse("theseus@equal+constant+layers=4")
    assert str(name.adding("trial=1", "base_rate=0.5")) == "theseus@equal+constant+base_rate=0.5+layers=4+trial=1"
    assert str(name.without("layers", "equal")) == "theseus@constant"
    assert str(name.without("constant")) == "theseus@equal+layers=4"
    assert (name.under("equal"), str(name.under("published"))) == (name, "theseus@constant+layers=4")
    assert str(RunName("theseus").under("equal")) == "theseus@equal"


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
    assert RunName.parse("theseus@learning_rate=2e-5") == RunName.parse("theseus@learning_rate=0.00002")


@pytest.mark.parametrize("value", [1.0e6, 1.0e9, 123456789.0, 2.5e-7])
def test_large_and_small_numbers_do_not_break_a_name(value):
    name = str(RunName("theseus", (setting_part("full_rate_at", value), "constant")))
    assert [read_part(part) for part in RunName.parse(name).parts] == [None, ("full_rate_at", value)]


def test_a_name_is_no_setting_and_half_a_setting_is_a_mistake():
    assert read_part("constant") is None
    for half in ("layers=", "=4"):
        with pytest.raises(UserError, match="expected SETTING=VALUE"):
            read_part(half)


def test_variants_in_words():
    assert RunName("theseus").words == ""
    assert RunName.parse("theseus@constant+base_rate=0.7").words == ", constant, base rate 0.7"
    assert RunName.parse("theseus@equal+layers=4").words == ", layers 4"
    assert [protocol_suffix(protocol) for protocol in ("published", "equal", "adapted")] == [
        "",
        " (equal)",
        " (adapted)",
    ]


@pytest.mark.parametrize("value", ["a/b", "../up", "{x}", {"a": 1}, "a+b", "two\nlines", "bell\a", [1e30]])
def test_a_setting_that_cannot_be_in_the_name_of_a_folder_is_refused(value):
    with pytest.raises(UserError, match=r"^setting mode: .*give the method a variant that sets it$"):
        setting_part("mode", value)
