"""The configuration: what is wrong in it is said on one line, all at once, where it stands and what was meant."""

import json

import pytest
import yaml
from theseus_bench.commands import run
from theseus_bench.data.tasks import load_tasks
from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import parse, read_config, read_overrides, read_yaml, suggest
from theseus_bench.suite.config import DataSource, Suite

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def values(**changes) -> dict:
    """A small valid configuration, with some keys changed."""
    return {
        "suite": "small",
        "data": {"source": "demo", "rows": 16},
        "backbone": {"source": "demo", "layers": 4},
        "student_layers": 2,
        "tasks": ["rte"],
        "seeds": [1],
        "experiments": {"first": {"title": "One", "methods": ["finetune"]}},
    } | changes


def complaint(**changes) -> str:
    """What is said of the configuration with these changes; one line."""
    with pytest.raises(UserError) as error:
        parse(Suite, values(**changes), "config")
    text = str(error.value)
    assert text.startswith("config: ")
    assert "\n" not in text
    return text


def test_valid_values_come_through_and_the_rest_has_defaults():
    suite = parse(Suite, values(seeds=[3, 1]), "config")
    assert (suite.suite, suite.seeds, suite.backbone.layers) == ("small", [3, 1], 4)
    assert (suite.device, suite.keep_models, suite.backbone.family) == ("auto", [], "bert")


@pytest.mark.parametrize(
    ("changes", "key", "suggestion"),
    [
        ({"student_layer": 2}, "student_layer", "student_layers"),
        ({"speed": {"repetition": 5}}, "speed.repetition", "repetitions"),
        ({"data": {"source": "demo", "row": 16}}, "data.row", "rows"),
        ({"experiments": {"tasks": {"titel": "T", "methods": ["m"]}}}, "experiments.tasks.titel", "title"),
        ({"settings": [{"set": {}}, {"set": {}, "metods": ["m"]}]}, "settings.1.metods", "methods"),
        ({"compact": {"small": {"source": "recipe", "stepps": 9}}}, "compact.small.stepps", "steps"),
    ],
)
def test_a_misspelt_key_is_named_with_its_path_and_a_suggestion(changes, key, suggestion):
    assert f"unknown key '{key}' (did you mean '{suggestion}'?)" in complaint(**changes)


def test_a_key_like_no_other_gets_the_known_ones():
    assert "(known: batch_sizes, headline, lengths, repetitions, seconds)" in complaint(speed={"zzzz": 1})
    assert suggest("x", []) == " (known: none)"


@pytest.mark.parametrize("speed", [{}, {"speed": {"repetitions": 7}}])
def test_the_demos_speed_is_measured_at_what_its_backbone_can_read_where_no_size_is_named(speed):
    demo = parse(Suite, values(**speed), "config").speed
    assert [size.model_dump() for size in demo.sizes] == [
        {"batch_size": 1, "length": 32},
        {"batch_size": 16, "length": 32},
    ]
    assert demo.headline in demo.sizes
    assert demo.repetitions == speed.get("speed", {}).get("repetitions", 100)
    given = {"batch_sizes": [2], "lengths": [64], "headline": {"batch_size": 2, "length": 64}}
    named = parse(Suite, values(speed=given), "config").speed
    assert named.headline.model_dump() == {"batch_size": 2, "length": 64}


def test_the_speed_of_the_headline_must_be_measured():
    assert "speed: headline: a batch of 32 at length 128 is not measured" in complaint(speed={"lengths": [32]})
    assert "speed.lengths names 128 twice" in complaint(speed={"lengths": [128, 128]})
    backbone = {"source": "hub", "name": "a/b", "revision": COMMIT, "layers": 4}
    default = parse(Suite, values(backbone=backbone), "config").speed
    assert default.headline.model_dump() == {"batch_size": 32, "length": 128}


def test_all_mistakes_are_reported_at_once():
    text = complaint(sedes=[1], threads=0, device="gpu", backbone={"source": "demo"}, suite="Not A Name")
    for part in ["unknown key 'sedes'", "threads: ", "device: ", "missing key 'backbone.layers'", "suite: "]:
        assert part in text


@pytest.mark.parametrize("missing", ["suite", "data", "backbone", "student_layers", "tasks", "seeds", "experiments"])
def test_a_missing_key_is_named(missing):
    incomplete = {key: value for key, value in values().items() if key != missing}
    with pytest.raises(UserError, match=f"missing key '{missing}'"):
        parse(Suite, incomplete, "config")


def test_depth_must_divide_the_backbones():
    text = complaint(student_layers=5, backbone={"source": "demo", "layers": 12})
    assert "student_layers 5 does not divide the backbone's 12 layers" in text
    assert "choose one of [1, 2, 3, 4, 6]" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"source": "hub"}}, "data: source hub needs a revision"),
        ({"data": {"source": "local"}}, "data: source local needs a path"),
        ({"data": {"source": "demo"}}, "data: source demo needs rows"),
        ({"backbone": {"source": "hub", "name": "a/b", "layers": 4}}, "backbone: source hub needs a revision"),
        ({"backbone": {"source": "folder", "layers": 4}}, "backbone: source folder needs a name"),
        ({"backbone": {"source": "package", "layers": 4}}, "backbone: source package needs a name"),
        ({"compact": {"m": {"source": "hub"}}}, "compact.m: source hub needs a name"),
        ({"data": {"source": "hub", "revision": "main"}}, "data.revision: "),
        ({"data": {"source": "hub", "revision": COMMIT[:12]}}, "data.revision: "),
    ],
)
def test_a_source_says_what_it_lacks(changes, message):
    assert message in complaint(**changes)


def test_a_pinned_hub_source_is_accepted():
    assert parse(Suite, values(data={"source": "hub", "revision": COMMIT}), "config").data.revision == COMMIT


def test_a_seed_named_twice_is_refused_wherever_it_stands():
    assert "seeds names 1 twice" in complaint(seeds=[1, 2, 1])
    experiments = {"first": {"title": "One", "methods": ["m"], "seeds": [4, 4]}}
    assert "experiments.first.seeds names" in complaint(experiments=experiments)


@pytest.mark.parametrize("key", ["tasks", "seeds", "experiments"])
def test_an_empty_list_is_refused(key):
    assert f"{key}: " in complaint(**{key: {} if key == "experiments" else []})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"suite: [1,\ntasks: }\n", "not valid YAML"),
        (b"- one\n- two\n", "expected keys and values, found list"),
        (b"", "expected keys and values, found NoneType"),
        ("suite: caf\xe9".encode("latin-1"), "not UTF-8"),
        (None, "no such file"),
    ],
    ids=["malformed", "list", "empty", "encoding", "missing"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    file = tmp_path / "suite.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_yaml(file)
    text = str(error.value)
    assert text.startswith(f"{file}: ")
    assert message in text
    assert "\n" not in text


def test_malformed_yaml_is_reported_with_its_line(tmp_path):
    (tmp_path / "suite.yaml").write_text("suite: a\ntasks: [rte\nseeds: [1]\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 3"):
        read_yaml(tmp_path / "suite.yaml")


def test_a_mistake_in_the_tasks_file_names_the_task(tmp_path):
    file = tmp_path / "tasks.yaml"
    file.write_text(
        "toy: {label: Toy, colums: [a], metrics: [accuracy], dev: [], test: [], rows: {}}", encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"tasks.yaml: toy: .*'colums' \(did you mean 'columns'\?\)"):
        load_tasks(file)


@pytest.mark.parametrize("name", ["report", "train", "scores_median"])
def test_an_experiment_cannot_take_a_name_that_the_workflow_uses(name):
    assert f"experiments: {name}: the workflow uses this name" in complaint(
        experiments={name: {"title": "One", "methods": ["m"]}}
    )


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused(seed):
    assert "seeds.0" in complaint(seeds=[seed])
    assert parse(Suite, values(seeds=[2**32 - 1]), "config").seeds == [2**32 - 1]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("speed.seconds", lambda number: {"speed": {"seconds": number}}),
        ("verdicts.tolerance", lambda number: {"verdicts": {"tolerance": number}}),
        ("verdicts.tolerance_by_task.rte", lambda number: {"verdicts": {"tolerance_by_task": {"rte": number}}}),
        ("significance.alpha", lambda number: {"significance": {"alpha": number}}),
    ],
)
def test_a_number_is_finite(key, changes, number):
    assert complaint(**changes(number)) == f"config: {key}: Input should be a finite number"


@pytest.mark.parametrize("name", ["published", "published/mine"])
def test_a_suite_does_not_go_where_the_papers_numbers_are(name):
    assert "results/published holds the papers' numbers; choose another name" in complaint(suite=name)


@pytest.mark.parametrize(
    "changes", [{"suite": "a" * 300}, {"experiments": {"a" * 300: {"title": "", "methods": ["m"]}}}]
)
def test_a_name_that_no_file_can_have_is_refused(changes):
    assert "at most 100 characters" in complaint(**changes)


@pytest.mark.parametrize("title", ["bell\a", "two\nlines", "\0", "\ud800"])
def test_a_title_has_no_control_characters(title):
    message = complaint(experiments={"first": {"title": title, "methods": ["finetune"]}})
    assert message.startswith("config: experiments.first.title: ")
    assert "has control characters" in message


def test_a_title_may_be_of_any_script():
    title = "β₁ – 双语 𝔽, a\u00a0b"
    experiments = {"first": {"title": title, "methods": ["finetune"]}}
    assert parse(Suite, values(experiments=experiments), "config").experiments["first"].title == title


@pytest.mark.parametrize(("name", "shown"), [("\r", r"\r"), ("\x85", r"\x85"), ("\u2028", r"\u2028"), ("β", "β")])
def test_a_complaint_is_one_line_whatever_it_names(tmp_path, capsys, name, shown):
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(values(experiments={name: {"title": "One", "methods": ["finetune"]}})))
    assert run(["plan", str(file)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"experiments.{shown}." in line


def test_a_backbone_of_impossible_depth_is_refused_at_once():
    assert "backbone.layers: Input should be less than or equal to 1000" in complaint(
        backbone={"source": "demo", "layers": 2**64}
    )


def yaml_of(folder, text):
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return read_yaml(folder / "suite.yaml")


@pytest.mark.parametrize(
    "text", ["seeds: [1]\ntasks: [rte]\nseeds: [2]\n", "a: 1\nb:\n  c: 1\n  c: 1\n", "a: 1\nb: 2\n'b': 3\n"]
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path, text):
    with pytest.raises(UserError, match=r"suite.yaml: not valid YAML: the key '[a-z]+' stands twice; .* line [34]"):
        yaml_of(tmp_path, text)


def test_equal_keys_of_different_blocks_and_merged_ones_are_none(tmp_path):
    text = "base: &base {a: 1, b: 2}\nfirst: {<<: *base, a: 3}\n1: x\n'1': y\n"
    base = {"a": 1, "b": 2}
    assert yaml_of(tmp_path, text) == {"base": base, "first": base | {"a": 3}, 1: "x", "1": "y"}


@pytest.mark.parametrize(
    "text", ["2020-13-01", "!!int abc", "!!int ''", "!!timestamp abc", "!!float x", "1" * 5000, "0x" + "f" * 5000]
)
def test_a_value_that_yaml_cannot_make_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"suite.yaml: not valid YAML: .") as error:
        yaml_of(tmp_path, f"a: {text}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("2E5", 2e5), ("-1e+2", -100.0), ("1.5e3", 1500.0), (".5e1", 5.0), ("1.0e-3", 1e-3), ("10", 10)],
)
def test_numbers_with_an_exponent_are_numbers(tmp_path, text, number):
    value = yaml_of(tmp_path, f"rates: [{text}]")["rates"][0]
    assert (value, type(value)) == (number, type(number))


def test_what_the_command_line_says_is_read_as_a_file_is():
    texts = [
        "seeds=[1, 2]",
        "settings=[{methods: [theseus], set: {full_rate_at: 1e3, clip_frozen: true}}]",
        "device=cpu",
    ]
    assert read_overrides(texts) == {
        "seeds": [1, 2],
        "settings": [{"methods": ["theseus"], "set": {"full_rate_at": 1000.0, "clip_frozen": True}}],
        "device": "cpu",
    }
    assert read_overrides(["data={source: demo}", 'data={"rows": 16}', "threads="]) == {
        "data": {"source": "demo", "rows": 16},
        "threads": None,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds", "--config: 'seeds' is no KEY=VALUE"),
        ("=1", "--config: '=1' is no KEY=VALUE"),
        ("seeds=[1", "--config seeds: not valid YAML: "),
        ("seeds=" + "[" * 50_000, "--config seeds: line 1: more than 100 brackets"),
        ("seeds={a: 1, a: 2}", "--config seeds: not valid YAML: the key 'a' stands twice"),
    ],
)
def test_what_the_command_line_says_wrongly_is_refused(text, said):
    with pytest.raises(UserError) as caught:
        read_overrides([text])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_commands_lay_the_command_line_over_the_files(tmp_path, capsys):
    """Several pairs after one --config, as snakemake takes them, or each after its own."""
    folder = str(tmp_path / "suite")
    pairs = ["seeds=[7]", "settings=[{methods: [theseus], set: {full_rate_at: 1e-1}}]"]
    assert run(["configure", folder, "config/demo.yaml", "--config", *pairs]) == 0
    config = json.loads((tmp_path / "suite" / "suite.json").read_text())
    assert (config["seeds"], config["settings"][-1]["set"]) == ([7], {"full_rate_at": 0.1})
    assert run(["plan", "config/demo.yaml", "--config", "seeds=[1]", "--config", "tasks=[rte]"]) == 0
    few = capsys.readouterr().out
    assert run(["plan", "config/demo.yaml"]) == 0
    assert runs_in_all(few) < runs_in_all(capsys.readouterr().out)


def runs_in_all(output: str) -> int:
    line = next(line for line in output.splitlines() if line.startswith("in all "))
    return int(line.split()[2])


@pytest.mark.parametrize("text", ["'1e-3'", "1e", "e3", "1e3x", "theseus@learning_rate=2e-5", "0x1e3g", "1.2.3e4"])
def test_text_that_looks_like_one_stays_text(tmp_path, text):
    assert yaml_of(tmp_path, f"rate: {text}")["rate"] == text.strip("'")


def test_brackets_without_end_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(UserError, match=r"suite.yaml: line 2: more than 100 brackets or blocks in one another"):
        yaml_of(tmp_path, "a: 1\nb: " + "[" * 100_000 + "]" * 100_000)
    assert yaml_of(tmp_path, "b: " + "[" * 90 + "]" * 90)


@pytest.mark.parametrize(
    ("name", "message"),
    [(".", "is a directory; a folder is in the place of a file"), ("a" * 300, "file name too long; choose a shorter")],
)
def test_a_configuration_that_cannot_be_opened_is_named(tmp_path, capsys, name, message):
    assert run(["plan", str(tmp_path / name)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"theseus-bench: {tmp_path / name}: {message}")


def test_files_are_laid_over_each_other_as_snakemake_does(tmp_path):
    from snakemake.utils import update_config

    files = [tmp_path / "below.yaml", tmp_path / "above.yaml"]
    files[0].write_text("seeds: [1, 2]\ndata: {source: demo, rows: 16}\nexperiments: {first: {title: One}}\n")
    files[1].write_text("seeds: [3]\ndata: {rows: 32}\nexperiments: {second: {title: Two}}\n")
    expected = {
        "seeds": [3],
        "data": {"source": "demo", "rows": 32},
        "experiments": {"first": {"title": "One"}, "second": {"title": "Two"}},
    }
    assert read_config(*files) == expected
    config = read_yaml(files[0])
    update_config(config, read_yaml(files[1]))
    assert config == expected
    assert list(read_config(*files)["experiments"]) == ["first", "second"], "in the order of the report"


def test_a_folder_of_tables_takes_the_place_of_any_other_source():
    hub = {"source": "hub", "revision": COMMIT, "samples": ["rte"], "max_train": {"rte": 30}}
    data = parse(Suite, values(data=hub, glue="my/tables"), "config").data
    assert data == DataSource(source="local", path="my/tables", samples=["rte"], max_train={"rte": 30})
    assert parse(Suite, values(glue="my/tables") | {"data": None}, "config").data.path == "my/tables"


def test_a_folder_of_tables_that_is_no_text_is_refused():
    assert complaint(glue=["a"]).startswith("config: glue: ")
