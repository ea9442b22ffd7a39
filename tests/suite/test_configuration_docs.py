"""The page and the JSON schema of the configuration say what its types say."""

from pathlib import Path

import jsonschema
import pytest
from documentation import assert_current, load_generator
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.config import LoopSettings, Suite

SUITES = sorted(file for file in Path("config").glob("*.yaml") if "suite" in read_yaml(file))


@pytest.fixture(scope="module")
def generator():
    return load_generator()


def test_the_page_has_every_key_as_the_types_have_it(generator):
    assert_current("docs/configuration.md", generator.fill_blocks("docs/configuration.md"))


def test_the_schema_is_that_of_the_types(generator):
    assert_current("config/suite.schema.json", generator.json_schema())


def test_every_key_says_what_it_means():
    schema = Suite.model_json_schema()
    blocks = {"suite": schema, "loop": LoopSettings.model_json_schema()} | schema["$defs"]
    bare = [f"{b}.{k}" for b, block in blocks.items() for k, f in block["properties"].items() if "description" not in f]
    assert bare == []


def test_the_page_shows_a_default_its_limits_and_that_a_key_is_required(generator):
    lines = generator.suite_keys().splitlines()
    assert "| `threads` | whole number, at least 1 | `1` | processor threads of one run |" in lines
    assert next(line for line in lines if line.startswith("| `tasks` |")).split(" | ")[2] == "*required*"
    alpha = next(line for line in lines if line.startswith("| `alpha` |"))
    assert alpha.split(" | ")[1:3] == ["number, above 0 and below 1", "`0.05`"]


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.name)
def test_an_editor_finds_the_schema_and_no_fault_in_a_suite(generator, file):
    first = file.read_text(encoding="utf-8").splitlines()[0]
    path = first.removeprefix("# yaml-language-server: $schema=")
    schema = generator.json.loads((file.parent / path).read_text(encoding="utf-8"))
    jsonschema.validate(read_yaml(file), schema)


def test_an_editor_marks_a_misspelt_key(generator):
    schema = generator.json.loads(generator.json_schema())
    values = read_yaml(Path("config/demo.yaml"))
    values["speed"]["repetition"] = 5
    with pytest.raises(jsonschema.ValidationError, match="repetition"):
        jsonschema.validate(values, schema)
