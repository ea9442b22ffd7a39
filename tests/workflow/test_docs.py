"""The documentation says what is there: places, imports, rules, numbers; and its site is built without a warning."""

import itertools
import json
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from documentation import COMMAND, assert_current, load_generator
from scipy import stats
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.evaluation.significance_file import read_significance
from theseus_bench.evaluation.speed import read_speed
from theseus_bench.suite.method_spec import METHODS_FOLDER, load_specs

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
PACKAGE = Path("workflow/theseus_bench")
TOPS = r"(?:workflow|methods|config|profiles|results|report|tests|benchmarks|docs)/"
PRODUCTS = {"results/paper", "report/index.html", "results/llrd/tables/llrd.md"}  # by a run of the workflow
STAGES = r"(?:data|suite|modeling|training|evaluation|tables|figures|report)/\w+\.py"
METHODS = {spec.label: name for name, spec in load_specs(METHODS_FOLDER)[0].items()}
TASKS = {task.label: name for name, task in load_tasks(TASKS_FILE).items()}
LABELS = {name: label for label, name in TASKS.items()}
REFERENCE = Path("results/reference/minilm")
BASELINES = ("finetune", "vanilla_kd", "pkd")


@pytest.fixture(scope="module")
def generator():
    return load_generator()


@pytest.fixture(scope="module")
def reference_scores():
    return reference_table("glue_dev")


def reference_table(experiment):
    """The CSV of scores by method and variant."""
    frame = pd.read_csv(REFERENCE / f"partial/tables/{experiment}.csv", dtype={"variant": str})
    return frame.fillna({"variant": ""}).set_index(["method", "variant"])


def reference_tests():
    return read_significance("glue_dev", REFERENCE / "partial")


def variant_of(method, start):
    """Of equal effort, with the layers of the backbone or the predecessor; '' for what trains nothing."""
    if method == "theseus":
        return {"predecessor": "equal", "backbone": "equal+pretrained_start"}[start]
    return {"predecessor": "equal+start=predecessor", "backbone": "equal", "": ""}[start]


def describe_score(mean, deviation, seeds, failed, most):
    """A cell, where `most` seeds stand in the column's head."""
    if pd.isna(mean):
        return ""
    words = [f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"]
    words += [f"{seeds:.0f} of {most:.0f} seeds"] if seeds < most else []
    words += ["*failed*" if failed == seeds else f"*{failed:.0f} failed*"] if failed else []
    return ", ".join(words)


def read_readme_table(name):
    """The cells of each line of the table that stands in README's block of that name."""
    block = Path("README.md").read_text(encoding="utf-8").partition(f"<!-- {name} -->")[2].partition("<!--")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines() if line.startswith("|")]


def test_the_arrows_of_the_architecture_are_those_of_the_imports(generator):
    assert_current("docs/architecture.md", generator.fill_blocks("docs/architecture.md"))
    assert_current("docs/imports.svg", generator.imports_picture())


def test_the_picture_of_the_way_of_the_data_is_drawn_by_its_command(generator):
    assert_current("docs/data-path.svg", generator.data_path_picture())


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the list is of Python 3.11, as environment.yml")
def test_the_licences_are_those_that_the_packages_state(generator):
    assert_current("docs/licences.md", generator.fill_blocks("docs/licences.md"))
    table = Path("docs/licences.md").read_text(encoding="utf-8").partition("<!-- licences of packages -->")[2]
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split("[<>=]", dependency)[0].replace("_", "-") for dependency in project["dependencies"]}
    assert named <= set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE))


def test_every_task_has_its_terms_named():
    rows = re.findall(
        r"^\| `(\w+)` \| .+ \| .+ \|$", Path("docs/licences.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted(load_tasks(TASKS_FILE))


def test_every_rule_of_the_workflow_is_in_one_box_of_that_picture(generator):
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(Path("workflow/rules").glob("*.smk")))
    rules = re.findall(r"^(?:use rule \w+ as|rule) (\w+)", text, re.MULTILINE)
    boxes = [rule for _, _, rules_of_box in generator.DATA_PATH.values() for rule in rules_of_box]
    assert sorted(boxes) == sorted(rules)


def test_an_import_that_is_added_makes_the_architecture_stale(generator, monkeypatch):
    imports = generator.imports() | {("data", "report"): 1}
    monkeypatch.setattr(generator, "imports", lambda: imports)
    with pytest.raises(AssertionError, match=COMMAND):
        assert_current("docs/architecture.md", generator.fill_blocks("docs/architecture.md"))


def test_the_reference_tables_of_the_readme_are_those_of_the_records(generator):
    assert_current("README.md", generator.fill_blocks("README.md"))


@pytest.mark.parametrize("ahead", [["Predecessor"], ["Predecessor", "BERT-of-Theseus"]])
def test_no_difference_is_told_of_a_method_that_lacks_a_seed_of_its_column(generator, monkeypatch, ahead):
    tables = generator.reference_tables
    points, failures = tables._points()
    more = {row: {task: values * (1 + (row[0] in ahead)) for task, values in points[row].items()} for row in points}
    cells = [[cell for _, _, *cells in tables.differences()[1] for cell in cells]]
    monkeypatch.setattr(tables, "_points", lambda: (more, failures))
    cells.append([cell for _, _, *cells in tables.differences()[1] for cell in cells])
    assert any(cells[0])
    assert not any(cells[1])


def test_the_reference_tables_of_the_readme_have_the_numbers_of_the_tables_of_results(reference_scores):
    """By another way than theirs: from the CSV of scores and the file of tests; a difference is that of two means."""
    scores, differences = (read_readme_table(f"reference {name}") for name in ("scores", "differences"))
    tasks = [TASKS[head.partition(",")[0]] for head in scores[0][3:]]
    seeds = reference_scores.loc["predecessor", "equal"][[f"{task}_n" for task in tasks]].tolist()
    counted = [int((re.findall(r", (\d+) seeds?$", head) or [3])[0]) for head in scores[0][3:]]
    assert counted == seeds
    rows = {(METHODS[label], variant_of(METHODS[label], start)): cells for label, _, start, *cells in scores[2:]}
    assert rows.keys() == set(reference_scores[reference_scores[tasks].notna().any(axis=1)].index)
    assert len(rows) == len(scores) - 2
    for key, cells in rows.items():
        numbers = reference_scores.loc[key]
        for task, cell, most in zip(tasks, cells, seeds, strict=True):
            assert cell == describe_score(*(numbers[task + end] for end in ("", "_sd", "_n", "_failed")), most)

    assert differences[0][2:] == scores[0][3:]
    tests = {(row.name, row.other, row.target): row for row in reference_tests().differences if row.primary}
    assert [(METHODS[label], start) for label, start, *_ in differences[2:]] == [
        (method, start) for start in ("predecessor", "backbone") for method in BASELINES
    ]
    for label, start, *cells in differences[2:]:
        pair = [(method, variant_of(method, start)) for method in ("theseus", METHODS[label])]
        for task, cell, most in zip(tasks, cells, seeds, strict=True):
            own, other = (reference_scores.loc[key][task] for key in pair)
            row = tests.get((*("@".join(key) for key in pair), task))
            is_whole = all(reference_scores.loc[key][f"{task}_n"] == most for key in pair)
            reach = [stats.t.ppf(0.975, row.df) * row.error] if row and row.p is not None else []
            expected = [own - other, *(own - other + sign * size for size in reach for sign in (-1, 1))]
            expected = expected if is_whole else []
            shown = list(map(float, re.findall(r"[+-]?[0-9.]+", cell.replace("−", "-"))))
            assert shown == pytest.approx(expected, abs=0.051)
            assert cell.startswith("**") == bool(row and row.p_holm is not None and row.p_holm < 0.05)


def test_what_the_readme_says_of_the_reference_results_is_what_their_records_say(reference_scores):
    """Each number that the sentences name, and that Theseus leads nowhere significantly; a new record changes them."""
    text = " ".join(Path("README.md").read_text(encoding="utf-8").split())
    predecessor = reference_scores.loc["predecessor", "equal"]
    tasks = [name for name in TASKS.values() if predecessor.get(f"{name}_n", 0) > 0]
    assert tasks == ["cola", "stsb"]
    assert reference_scores.loc[["predecessor", "theseus", *BASELINES], ["cola_n", "stsb_n"]].eq(3).all(axis=None)
    assert "of the new runs CoLA and STS-B have their three seeds" in text
    tests = [row for row in reference_tests().differences if row.p is not None]
    assert [row for row in tests if row.p_holm < 0.05 and row.primary] == []
    assert f"significant among the {tests[0].tests} of its family" in text

    for task in ("stsb", "cola"):
        own = [row for row in tests if (row.name, row.target) == ("theseus@equal", task) and row.primary]
        low, high = (describe_signed(end(row.difference for row in own)) for end in (min, max))
        p = [describe_p(end(row.p for row in own), 2) for end in (min, max)]
        assert f"n {LABELS[task]} its differences from the three lie between {low} and {high}" in text
        assert f"{low} and {high} points (p from {p[0]} to {p[1]})" in text

    starts, leads, frozen = {}, {}, {}
    control = "+base_rate=1+schedule=constant"
    for task in ("stsb", "cola"):
        other = reference_scores.loc["finetune", variant_of("finetune", "backbone")][task]
        starts[task] = reference_scores.loc["finetune", variant_of("finetune", "predecessor")][task] - other
        leads[task] = reference_scores.loc["theseus", "equal"][task] - other
        without = reference_table("replacing_pretrained").loc["theseus"][task]["equal+pretrained_start" + control]
        frozen[task] = without - other
    assert "give fine-tuning {stsb:.1f} points on STS-B and {cola:.1f} on CoLA;".format(**starts) in text
    assert "Theseus leads by {stsb:.1f} and {cola:.1f}.".format(**leads) in text
    assert "leads fine-tuning by {stsb:.1f} points on STS-B and {cola:.1f} on CoLA.".format(**frozen) in text
    frame = pd.read_csv(REFERENCE / "partial/scores/glue_dev.csv").query("metric == 'score' and task == 'stsb'")
    seeds = frame.set_index(["method", "variant"]).loc[("finetune", "equal")].value.to_numpy()
    assert "fine-tuning has {:.1f}, {:.1f} and {:.1f} on STS-B,".format(*seeds) in text
    for experiment, start in (("replacing_pretrained", "backbone"), ("replacing", "predecessor")):
        rows = {row.target: row for row in read_significance(experiment, REFERENCE / "partial").differences}
        said = (
            f"{describe_signed(rows[task].difference)} on {LABELS[task]} ({describe_interval(rows[task])}, "
            f"p = {describe_p(rows[task].p, 3)})"
            for task in ("stsb", "cola")
        )
        assert f"rom the {start}'s layers replacing adds {' and '.join(said)}" in text

    speed = read_speed("glue_dev", REFERENCE).methods["theseus@equal"]
    assert f"{speed.speedup:.2f} times as fast ({speed.low:.2f} to {speed.high:.2f}," in text
    costs = reference_flops(tasks)
    shares = [100 * costs["theseus", task] / costs[other, task] - 100 for task in tasks for other in BASELINES]
    low, high = (f"{value:.0f}" for value in (min(shares), max(shares)))
    assert f"**It costs** {low if low == high else f'{low} to {high}'} % more FLOPs in training than" in text


def describe_interval(row):
    """Of a difference by itself, at 95 %."""
    reach = stats.t.ppf(0.975, row.df) * row.error
    return f"{row.difference - reach:.1f} to {row.difference + reach:.1f}".replace("-", "−")


def describe_signed(points):
    return f"{points:+.1f}".replace("-", "−")


def describe_p(p, digits):
    """As pages write it."""
    return f"{p:.{digits}f}".removeprefix("0")


def reference_flops(tasks):
    """Of a run's training, the mean over the seeds, by method (with the predecessor's layers) and task."""
    flops = {}
    for method, task in itertools.product(("theseus", *BASELINES), tasks):
        folder = REFERENCE / f"runs/{method}@{variant_of(method, 'predecessor')}/{task}"
        runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("seed-*/run.json"))]
        flops[method, task] = statistics.mean(run["flops"]["training"] for run in runs)
    return flops


@pytest.mark.parametrize("page", PAGES)
def test_the_places_that_a_page_names_are_there(page):
    text = Path(page).read_text(encoding="utf-8")
    paths = re.findall(rf"`({TOPS}[\w./-]*|{STAGES})`", text)
    paths += re.findall(r"\]\((?!http)([^)#]+)\)", text)
    here = (Path(), PACKAGE, Path(page).parent)
    patterns = [path.replace("NAME", "*") for path in paths if path not in PRODUCTS]
    missing = [pattern for pattern in patterns if not any(list(base.glob(pattern)) for base in here)]
    assert missing == []


def test_the_functions_that_the_architecture_names_are_where_it_says():
    text = Path("docs/architecture.md").read_text(encoding="utf-8")
    functions = re.findall(rf"`(\w+)` in\s+`({STAGES})`", text)
    assert len(functions) > 10
    for name, file in functions:
        text = (PACKAGE / file).read_text(encoding="utf-8")
        assert re.search(rf"^(def |class )?{name}\b", text, re.MULTILINE), f"{file} has no {name}"


def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed: make docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    pages = {page.stem for page in tmp_path.glob("*.html")}
    assert pages - {"404"} == {"index", *(Path(page).stem for page in PAGES if page.startswith("docs/"))} - {"README"}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    addresses = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=.(https?://[^\"' >]+)", page)
    assert addresses == []


def test_the_hooks_before_a_commit_are_local_and_run_what_lint_runs():
    hooks = yaml.safe_load(Path(".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    lint = Path("Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    for hook in hooks[0]["hooks"]:
        assert hook["language"] == "system"
        program = " ".join(hook["entry"].removeprefix(".venv/bin/").replace("--force-exclude", "").split())
        assert f"$(BIN)/{program}" in lint
