"""The documentation says what is there: places, imports, rules, numbers; and its site is built without a warning."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from documentation import COMMAND, assert_current, load_generator
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
PARTS = ("scores", "differences")  # README's two tables of the reference results
METHODS = {spec.label: name for name, spec in load_specs(METHODS_FOLDER)[0].items()}


@pytest.fixture(scope="module")
def generator():
    return load_generator()


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


def test_the_reference_tables_of_the_readme_have_the_means_and_differences_of_the_tables_of_results():
    """By another way than theirs: from the CSV of scores, each difference as that of two of its means."""
    text = Path("README.md").read_text(encoding="utf-8")
    scores, differences = (
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
        for part in (text.partition(f"<!-- reference {name} -->")[2].partition("<!--")[0] for name in PARTS)
    )
    frame = pd.read_csv("results/reference/minilm/partial/tables/glue_dev.csv", keep_default_na=False)
    means = {(row.method, row.variant): {"CoLA": row.cola, "MRPC": row.mrpc} for row in frame.itertuples()}
    starts = {"predecessor": "equal+start=predecessor", "backbone": "equal", "": ""}
    theseus = {"predecessor": "equal", "backbone": "equal+pretrained_start"}
    assert len(scores) == 2 + sum(bool(cells["CoLA"]) for cells in means.values())
    for label, _, start, *cells in scores[2:]:
        variant = theseus[start] if label == "BERT-of-Theseus" else starts[start]
        for task, cell in zip(scores[0][3:], cells, strict=True):
            assert cell.split()[0].rstrip(",") == f"{float(means[METHODS[label], variant][task]):.1f}"
    assert len(differences) == 2 + 6
    for label, start, *cells in differences[2:]:
        for task, cell in zip(differences[0][2:], cells, strict=True):
            own, other = (means["theseus", theseus[start]], means[METHODS[label], starts[start]])
            shown = float(cell.split()[0].strip("*").replace("−", "-"))
            assert shown == pytest.approx(float(own[task]) - float(other[task]), abs=0.051)
            bold = label == "BERT-PKD" and start == "backbone" and task == "CoLA"  # the one below .05 in significance
            assert cell.startswith("**") == bold


def test_what_the_readme_says_of_the_reference_results_is_what_their_tests_say():
    """Each number that the sentences name, and what is significant; a record that is added changes them."""
    text = " ".join(Path("README.md").read_text(encoding="utf-8").split())
    results = read_significance("glue_dev", Path("results/reference/minilm/partial"))
    rows = {(row.name, row.other, row.target): row for row in results.differences if row.primary}
    tasks = ("cola", "mrpc")
    baselines = ("finetune", "vanilla_kd", "pkd")
    same = {
        (name, task): rows["theseus@equal", f"{name}@equal+start=predecessor", task]
        for task in tasks
        for name in baselines
    }
    own = {
        (name, task): rows["theseus@equal+pretrained_start", f"{name}@equal", task]
        for task in tasks
        for name in baselines
    }
    assert [key for key, row in same.items() if results.is_significant(row)] == []
    assert [key for key, row in own.items() if results.is_significant(row)] == [("pkd", "cola")]
    assert f"that holds for all {same['finetune', 'cola'].tests} tests together" in text

    below, above = ([f"{abs(same[name, task].difference):.1f}" for name in baselines] for task in tasks)
    assert f"On CoLA it is {min(below)} to {max(below)} points below" in text
    assert f"on MRPC {min(above)} to {max(above)} above" in text
    pkd = own["pkd", "cola"]
    assert f"{pkd.difference:.1f} points above PKD on CoLA (p = {f'{pkd.p_holm:.3f}'.lstrip('0')} after Holm)" in text
    scores = pd.read_csv("results/reference/minilm/partial/tables/glue_dev.csv", keep_default_na=False)
    scores = scores.set_index(["method", "variant"])[list(tasks)].replace("", "nan").astype(float)
    own_start, other_start = scores.loc["finetune", "equal"], scores.loc["finetune", "equal+start=predecessor"]
    leads = [f"{lead:.1f}" for lead in scores.loc["theseus", "equal"] - own_start]
    starts = [f"{gain:.1f}" for gain in other_start - own_start]
    assert f"leads fine-tuning by {leads[0]} points on CoLA and {leads[1]} on MRPC" in text
    assert f"the start alone gives fine-tuning {starts[0]} and {starts[1]}." in text
    theseus = read_speed("glue_dev", Path("results/reference/minilm")).methods["theseus@equal"]
    assert f"{theseus.speedup:.2f} times as fast ({theseus.low:.2f} to {theseus.high:.2f})" in text


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
