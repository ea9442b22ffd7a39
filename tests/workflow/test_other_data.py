"""Data that is not GLUE's: the page on it, followed to the letter, and what its tables and entries can have wrong."""

import re
import subprocess
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import yaml
from copies import copy_project
from theseus_bench.data.synthetic import generate
from theseus_bench.data.tasks import TASKS_FILE, load_tasks

PAGE = Path("docs/other-data.md")
GLUE = load_tasks(TASKS_FILE)
SUITE = {
    "suite": "other",
    "data": {"source": "hub", "revision": "0" * 40},  # which `glue` takes the place of
    "backbone": {"source": "demo", "layers": 4, "steps": 20},
    "student_layers": 2,
    "seeds": [1, 2],
    "settings": [{"set": {"max_steps": 4}}],
    "speed": {"batch_sizes": [1], "lengths": [8], "headline": {"batch_size": 1, "length": 8}, "repetitions": 3},
    "tasks": ["rte"],
    "experiments": {
        "glue_dev": {
            "title": "Other data",
            "methods": ["majority", "predecessor", "finetune", "theseus"],
            "compare_with": ["theseus: Table 2"],
        },
        "glue_alone": {"title": "RTE", "methods": ["finetune"], "tasks": ["rte"]},
    },
}


def blocks_of(page: Path) -> list[str]:
    """The indented blocks of a page, in order."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in blocks if block.strip()]


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the project with the page's entries in its tasks, and a folder of tables that fit them."""
    copy_project(tmp_path)
    entries, _ = blocks_of(PAGE)
    with (tmp_path / TASKS_FILE).open("a", encoding="utf-8") as file:
        file.write(f"\n{entries}\n")
    for name, like in (("boolq", "rte"), ("cb", "mnli")):
        columns = dict(zip(GLUE[like].columns, yaml.safe_load(entries)[name]["columns"], strict=True))
        for split, frame in generate(GLUE[like], 40).items():
            file = tmp_path / "tables" / name / f"{'validation' if split in GLUE[like].dev else split}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            frame.rename(columns=columns).drop(columns="idx").to_parquet(file, index=False)
    (tmp_path / "config/other.yaml").write_text(yaml.safe_dump(SUITE))
    return tmp_path


def follow_page(project: Path) -> subprocess.CompletedProcess:
    """Run the page's command on our configuration and folder."""
    _, command = blocks_of(PAGE)
    command = command.replace("config/minilm.yaml", "config/other.yaml").replace("FOLDER", "tables")
    command = command.replace("--cores all", "--cores 2")
    return subprocess.run(
        f"theseus-bench with-preload {command}", shell=True, cwd=project, capture_output=True, text=True
    )


def test_the_page_followed_to_the_letter_ends_in_a_table_of_both_tasks(project):
    process = follow_page(project)
    assert process.returncode == 0, process.stderr[-3000:]
    suite = project / "results/other"
    table = pd.read_csv(suite / "tables/glue_dev.csv")
    table = table[table["role"].isin(["control", "teacher", "baseline", "proposed"])].set_index("method")
    assert list(table.index) == ["majority", "predecessor", "finetune", "theseus"]
    assert table[["boolq", "cb", "macro"]].notna().all(axis=None)
    assert "macro F1" in (suite / "tables/glue_dev.md").read_text(encoding="utf-8")
    scores = pd.read_parquet(suite / "scores/glue_dev.parquet")
    one = scores[(scores["method"] == "finetune") & (scores["task"] == "cb") & (scores["seed"] == 1)]
    values = one.set_index("metric")["value"]
    assert values["score"] == pytest.approx((values["accuracy"] + values["f1_macro"]) / 2)
    assert not (suite / "tables/glue_alone.csv").exists()


def test_a_label_that_is_no_class_is_told_with_its_file_and_row(project):
    file = project / "tables/cb/train.parquet"
    table = pd.read_parquet(file)
    table.loc[3, "label"] = 3
    table.to_parquet(file, index=False)
    process = follow_page(project)
    assert process.returncode == 1
    fault = "tables/cb/train.parquet: row 3: label 3, expected one of 0..2 (entailment, contradiction, neutral)"
    assert fault in process.stderr + process.stdout


def test_a_table_that_is_not_there_is_told_before_anything_starts(project):
    (project / "tables/boolq/train.parquet").unlink()
    process = follow_page(project)
    assert process.returncode == 1
    assert "theseus-bench: " in process.stderr
    assert "tables/boolq/train.parquet" in process.stderr
    assert not (project / "results/other").exists()
