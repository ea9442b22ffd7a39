"""Files of results that do not fit their types: refused when they are written, and in one clear line when read."""

import pytest
from pydantic import ValidationError
from suites import make_plan
from theseus_bench.errors import UserError
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.evaluation.significance_file import read_significance, save_significance
from theseus_bench.evaluation.speed import method_timings, read_speed
from theseus_bench.files import read_json, write_json
from theseus_bench.suite.search import read_choice, save_choice

from results import DIFFERENCE, choice_of, significance_of

OLDER = {key: value for key, value in DIFFERENCE.items() if key != "tested_in"}


@pytest.mark.parametrize(
    ("file", "values", "read", "line"),
    [
        (
            "significance/first.json",
            significance_of() | {"differences": [OLDER]},
            lambda folder: read_significance("first", folder),
            "not tests as this version writes them (differences.0.tested_in: Field required); "
            "make it again with: theseus-bench significance {folder} first",
        ),
        (
            "speed/first.json",
            {"methods": {}, "device": "cpu"},
            lambda folder: read_speed("first", folder),
            "not speeds as this version writes them (threads: Field required); "
            "make it again with: theseus-bench speed {folder} first",
        ),
        (
            "search/finetune/rte.json",
            {"chosen": {"trial": 0, "settings": {}, "score": "high"}},
            lambda folder: read_choice(folder / "search/finetune/rte.json"),
            "not a search's choice as this version writes it (chosen.score: Input should be a valid number, unable to "
            "parse string as a number); delete it, and the same snakemake command makes it again",
        ),
    ],
)
def test_a_file_of_an_older_form_is_one_line_with_the_fault_and_what_to_do(tmp_path, file, values, read, line):
    write_json(tmp_path / file, values)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value) == f"{tmp_path / file}: {line.format(folder=tmp_path)}"
    (tmp_path / file).write_text('{"alpha": 0.05, ')
    with pytest.raises(UserError, match="Invalid JSON"):
        read(tmp_path)


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(ValidationError, match="tested_in"):
        save_significance("first", tmp_path, significance_of() | {"differences": [OLDER]})
    assert not (tmp_path / "significance").exists()


def test_a_file_is_read_again_when_it_has_changed(tmp_path):
    save_significance("first", tmp_path, significance_of())
    assert read_significance("first", tmp_path).differences == []
    save_significance("first", tmp_path, significance_of({"p_holm": 0.25}))
    assert [row.p_holm for row in read_significance("first", tmp_path).differences] == [0.25]


def test_a_choice_is_read_as_it_was_written_and_its_bytes_are_those_of_the_values(tmp_path):
    plan = make_plan(
        tasks=["rte"],
        search={"budget": 3},
        experiments={"first": {"title": "One", "methods": ["theseus"]}},
    )
    values, file = choice_of(plan.run("theseus", "rte", 1)), tmp_path / "choice.json"
    save_choice(file, values)
    assert list(read_json(file)) == ["chosen", "trials", "device_seconds", "nested"]
    assert read_choice(file).model_dump(by_alias=True) == values
    assert [trial.mean_score for trial in read_choice(file).trials] == [70, 71, 72]


def test_where_nothing_was_measured_or_chosen_there_is_nothing(tmp_path):
    assert read_speed("first", tmp_path) is None
    assert method_timings("first", tmp_path) == {}
    assert read_choice(tmp_path / "search/finetune/rte.json") is None
    with pytest.raises(UserError, match=r"no such file; make it with: theseus-bench significance"):
        read_significance("first", tmp_path)


def test_scores_that_cannot_be_read_are_named(tmp_path):
    file = tmp_path / "scores/first.parquet"
    file.parent.mkdir()
    file.write_bytes(b"junk")
    with pytest.raises(UserError, match=rf"^{file}: not readable as scores \(.*\); delete it, and the same snakemake"):
        read_scores("first", tmp_path)
