"""docs/adding-a-method.md as a new user follows it: its files are written and its commands run, in its order."""

import dataclasses
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from copies import copy_project
from theseus_bench.training.conformance import CHECKS
from theseus_bench.training.method import Method, ParameterGroup, RunContext, load_method
from tiny import make_config
from transformers import AutoModelForSequenceClassification

PAGE = Path("docs/adding-a-method.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:# |<!-- )(\S+)(?: -->)?\n(.*)", re.DOTALL)  # a block that begins with where it is to be written


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A copy of the project in which the page was followed, and what each command has printed."""
    project = tmp_path_factory.mktemp("project")
    copy_project(project)
    output = {}
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "sh":
            for command in text.splitlines():
                done = subprocess.run(command, shell=True, cwd=project, capture_output=True, text=True, check=False)
                output[command] = done.stdout + done.stderr
                assert done.returncode == 0, f"{command}\n{output[command][-3000:]}"
        else:
            path, content = FILE.fullmatch(text).groups()
            (project / path).write_text(content.lstrip("\n"), encoding="utf-8")
    return project, output


def test_the_method_of_the_page_passes_its_check(followed):
    assert (
        followed[1]["theseus-bench check-method llrd"].splitlines()[-1]
        == f"{len(CHECKS)} of {len(CHECKS)} checks passed"
    )


def test_it_has_a_row_in_the_table_and_so_has_its_variant(followed):
    table = pd.read_csv(followed[0] / "results/llrd/tables/llrd.csv", keep_default_na=False)
    rows = table.set_index(["method", "variant"])["rte"]
    assert {("finetune", ""), ("llrd", ""), ("llrd", "steep")} <= set(rows.index)
    assert (pd.to_numeric(rows) > 0).all()
    assert (followed[0] / "results/llrd/tables/llrd.md").is_file()


def test_a_run_by_hand_has_its_settings_and_stands_beside_the_suites_own(followed):
    folder = followed[0] / "results/llrd/runs"
    record = pd.read_json(folder / "llrd@decay=0.9+max_steps=5/rte/seed-1/run.json", typ="series")
    assert (record["settings"]["decay"], record["steps"]) == (0.9, 5)
    assert pd.read_json(folder / "llrd/rte/seed-1/run.json", typ="series")["settings"]["decay"] == 0.8


def test_its_rates_fall_from_layer_to_layer(followed):
    method = load_method(followed[0] / "methods/llrd")
    method.decay = 0.8
    model = AutoModelForSequenceClassification.from_config(make_config(layers=2))
    given = method.parameters(model)
    groups = [one for one in given if isinstance(one, ParameterGroup)]
    assert [group.rate_factor for group in groups] == pytest.approx([0.8**3, 0.8**2, 0.8])  # embeddings, two layers
    head = {id(one) for one in given if not isinstance(one, ParameterGroup)}
    names = {name.rpartition(".")[0] for name, parameter in model.named_parameters() if id(parameter) in head}
    assert names == {"bert.pooler.dense", "classifier"}


def test_the_page_names_all_that_a_method_is_given_and_can_define():
    text = PAGE.read_text(encoding="utf-8")
    fields = {field.name for field in dataclasses.fields(RunContext)}
    functions = {name for name, value in vars(RunContext).items() if name.startswith("load_") and callable(value)}
    assert [name for name in sorted(fields | functions) if f"`run.{name}" not in text] == []
    members = {name: callable(value) for name, value in vars(Method).items() if not name.startswith("_")}
    mentions = [f"| `{name}(" if is_function else f"`{name} = " for name, is_function in members.items()]
    assert [mention for mention in mentions if mention not in text] == []


def test_an_edit_of_the_page_s_method_retrains_as_the_page_says(followed):
    method = followed[0] / "methods/llrd/method.py"
    text = method.read_text(encoding="utf-8")
    command = "theseus-bench train results/llrd llrd rte 1"

    def train() -> str:
        return subprocess.run(command, shell=True, cwd=followed[0], capture_output=True, text=True).stdout

    method.write_text(f"# A comment.\n{text}", encoding="utf-8")
    assert "kept, as it was made of the same" in train()
    method.write_text(text.replace("self.decay ** (len", "self.decay ** (1 + len"), encoding="utf-8")
    assert "dev score" in train()
    method.write_text(text, encoding="utf-8")
