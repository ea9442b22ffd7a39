"""Whatever stands in a configuration, a method.yaml, published numbers or a parquet file: the command ends in success
or in one line, never in a traceback, and leaves its file whole or not at all.

    THESEUS_EXAMPLES=20000 pytest tests/suite/test_any_input.py

tries so many inputs in each test; without that it is a few, the same ones every time. docs/reliability.md says what
was tried.
"""

import contextlib
import copy
import io
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from theseus_bench.checksums import LIST
from theseus_bench.commands import run
from theseus_bench.data.encoding import encode_task, open_split, summary
from theseus_bench.data.synthetic import generate
from theseus_bench.data.tasks import load_tasks
from theseus_bench.errors import UserError, message_of
from theseus_bench.suite.load import read_plan
from tiny import ROOT, write_checkpoint

EXAMPLES = int(os.environ.get("THESEUS_EXAMPLES", "20"))
FEW = EXAMPLES <= 1000
any_input = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=FEW,
    database=None,
    phases=[Phase.generate, Phase.shrink] if FEW else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
TASKS = load_tasks(ROOT / "config" / "tasks.yaml")
CONFIG = {
    "suite": "small",
    "data": {"source": "demo", "rows": 16, "samples": ["rte"], "max_train": {"mnli": 20}},
    "backbone": {"source": "demo", "layers": 4, "family": "bert", "steps": 10},
    "compact": {"distilbert": {"source": "recipe", "steps": 80, "learning_rate": 2e-3}},
    "student_layers": 2,
    "tasks": ["rte", "mnli", "stsb", "ax"],
    "seeds": [1, 2],
    "device": "cpu",
    "threads": 1,
    "keep_models": ["theseus", "theseus@equal"],
    "settings": [
        {"set": {"learning_rate": 1e-3, "epochs": 3}},
        {"methods": ["theseus"], "tasks": ["rte"], "set": {"full_rate_at": 0.5, "evaluate_every": None}},
    ],
    "search": {"budget": {"published": 1, "equal": 2}, "seeds": [101], "space": {"temperature": [1.0, 5.0]}},
    "equal": {
        "set": {"epochs": 4, "batch_size": 32},
        "per_task": {"rte": {"max_steps": 10}},
        "search": {"learning_rate": [1e-3, 2e-3], "start": ["pretrained", "predecessor"]},
        "space": {"full_rate_at": [0.3, 0.5]},
    },
    "verdicts": {"tolerance": 1.0, "tolerance_by_task": {"rte": 2.0}},
    "significance": {"control": "finetune", "alpha": 0.05, "resamples": 1000},
    "speed": {"batch_sizes": [1, 2], "lengths": [8], "headline": {"batch_size": 1, "length": 8}, "repetitions": 3},
    "experiments": {
        "first": {
            "title": "One",
            "methods": ["majority", "predecessor", "finetune", "distilbert", "vanilla_kd", "theseus@constant"],
            "protocols": ["published", "equal"],
            "compare_with": ["theseus: Table 2", "distilbert: Table 1", "pkd: result files"],
            "submission": True,
        },
        "second": {
            "title": "Two",
            "methods": ["predecessor", "theseus", "theseus_transfer"],
            "vary": [{"layers": 1}, {"layers": 2, "learning_rate": 1e-4}],
            "tasks": ["rte"],
            "seeds": [3],
            "control": "theseus",
        },
    },
}
WORDS = ["", "~nobody", "{x}", "../..", "a" * 300, "1e-3", "\0", "\ud800", "β\n", "0" * 40, "yes"]
WORDS += [
    "published",
    "all",
    "hub",
    "local",
    "recipe",
    "folder",
    "package",
    "rte",
    "ax",
    "wnli",
    "layers",
    "epochs",
    "start",
]
WORDS += ["predecessor", "theseus", "theseus@", "theseus@equal", "@", "+", "=", ".", "predecessor@layers=2"]
WORDS += ["theseus@layers=1", "theseus@layers=0", "theseus@constant+base_rate=nan", "theseus@trial=0", "majority@equal"]
WORDS += ["theseus@constant+constant", "theseus: Table 2"]
NUMBERS = [0, -1, 1, 2, 3, 7, 2**31, 2**32, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf")]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NUMBERS + WORDS)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3))


PIECES = [b"\n", b": ", b"[" * 200, b"&a ", b"*a", b"- ", b"!!int ", b"2020-13-01", b"0x" + b"f" * 5000]


def places(tree, above=()) -> list[tuple]:
    """The path of every value of a tree but the whole."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in inner for path in [(*above, key), *places(value, (*above, key))]]


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def changed(draw, tree):
    """The tree, with one to four of its values taken away, doubled, replaced, or called otherwise."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 4))):
        paths = places(tree)
        if not paths:
            break
        *above, key = draw(st.sampled_from(paths))
        block = at(tree, above)
        change = draw(st.sampled_from(["replace", "replace", "move", "move", "remove", "add", "rename"]))
        if change == "replace":
            block[key] = draw(VALUES)
        elif change == "move":
            block[key] = copy.deepcopy(at(tree, draw(st.sampled_from(paths))))
        elif change == "remove":
            del block[key]
        elif isinstance(block, list):
            block.append(draw(VALUES))
        else:
            block[draw(SCALARS)] = block.pop(key) if change == "rename" else draw(VALUES)
    return tree


@st.composite
def damaged(draw, content: bytes):
    """The contents with some bytes replaced, put in or left out, or cut off."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.sampled_from([start, start + 1, start + 1, start + 5, len(content)]))
        content[start:end] = draw(st.binary(max_size=6) | st.sampled_from(PIECES))
    return bytes(content)


def as_yaml(tree) -> bytes:
    return yaml.safe_dump(tree, sort_keys=False).encode()


def outcome(*arguments) -> int:
    """The exit code of a command, which has told what is wrong in one line."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = run([str(argument) for argument in arguments])
    assert code in (0, 1), errors.getvalue()
    if code:
        (line,) = errors.getvalue().splitlines()
        assert line.startswith("theseus-bench: ")
    return code


def assert_configured_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        file, suite = Path(folder, "config.yaml"), Path(folder, "suite")
        file.write_bytes(content)
        if outcome("configure", suite, file) == 0:
            assert [path.name for path in suite.iterdir()] == ["suite.json"]
            assert read_plan(suite).runs
        else:
            assert not suite.exists()


@any_input
@given(changed(CONFIG).map(as_yaml))
def test_any_configuration(content):
    assert_configured_or_refused(content)


@any_input
@given(damaged(as_yaml(CONFIG)))
def test_any_text_for_a_configuration(content):
    assert_configured_or_refused(content)


@any_input
@given(st.dictionaries(st.sampled_from(list(CONFIG)), VALUES).map(lambda values: CONFIG | values), st.text())
def test_any_pair_of_the_command_line(values, text):
    with TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_bytes(as_yaml(CONFIG))
        pairs = [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not CONFIG[key]]
        outcome("plan", file, *(part for pair in [*pairs, f"seeds={text}"] for part in ("--config", pair)))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the project's methods, tasks and published numbers, of which the tests change one file."""
    project = tmp_path_factory.mktemp("project")
    for name in ("methods", "config", "results/published"):
        shutil.copytree(ROOT / name, project / name)
    (project / "config.yaml").write_bytes(as_yaml(CONFIG))
    return project


def plan_with(project: Path, file: Path, content: bytes) -> None:
    """Make a plan with the file changed, and change it back."""
    original = file.read_bytes()
    file.write_bytes(content)
    try:
        with contextlib.chdir(project):
            outcome("plan", "config.yaml")
    finally:
        file.write_bytes(original)


METHODS = {
    name: yaml.safe_load((ROOT / "methods" / name / "method.yaml").read_bytes())
    for name in ("theseus", "finetune", "vanilla_kd", "predecessor", "distilbert", "theseus_transfer")
}


@any_input
@given(
    st.sampled_from(list(METHODS)).flatmap(
        lambda name: st.tuples(st.just(name), changed(METHODS[name]).map(as_yaml) | damaged(as_yaml(METHODS[name])))
    )
)
def test_any_method(project, case):
    name, content = case
    plan_with(project, project / "methods" / name / "method.yaml", content)


PAPERS = {file.name: yaml.safe_load(file.read_bytes()) for file in sorted((ROOT / "results/published").glob("*.yaml"))}


@any_input
@given(
    st.sampled_from(list(PAPERS)).flatmap(
        lambda name: st.tuples(st.just(name), changed(PAPERS[name]).map(as_yaml) | damaged(as_yaml(PAPERS[name])))
    )
)
def test_any_published_numbers(project, case):
    from theseus_bench.suite.published import _load

    _load.cache_clear()
    name, content = case
    plan_with(project, project / "results/published" / name, content)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32()]
TYPES += [
    pa.float64(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("us"),
    pa.decimal128(10, 2),
    pa.list_(pa.string()),
    pa.null(),
]
TYPES += [pa.dictionary(pa.int8(), pa.string()), pa.struct([("a", pa.string())]), pa.string_view()]
CELLS = {
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    pa.binary(): st.binary(max_size=4),
    pa.int8(): st.integers(-1, 5),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats() | st.sampled_from([0.0, 1.0, 2.5]),
}


@st.composite
def tables(draw, task):
    """A table like a split of the task's, with what its columns hold changed, or their types."""
    rows = draw(st.integers(0, 4))
    columns = {}
    for name in [*task.columns, "label", "idx", "more"]:
        usual = pa.string() if name in task.columns else pa.int64() if name == "idx" else pa.float64()
        kind = draw(st.sampled_from([usual] * 4 + TYPES + [None]))
        if kind is None:
            continue
        cells = CELLS.get(kind, st.sampled_from([0, 1, "0", "word", 1.5, True]))
        if name in ("label", "idx") and draw(st.booleans()):
            cells = st.integers(0, 1)
        values = draw(st.lists(cells | st.none() if draw(st.booleans()) else cells, min_size=rows, max_size=rows))
        with contextlib.suppress(pa.ArrowException, OverflowError, TypeError, ValueError, AttributeError):
            columns[name] = pa.array(values, kind)
    return pa.table(columns)


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except pa.ArrowException:  # parquet has no such type
        return b""
    return sink.getvalue()


def content_of(task) -> bytes:
    return as_parquet(pa.Table.from_pandas(generate(task, 8)["validation"], preserve_index=False))


@any_input
@given(
    st.sampled_from([TASKS["rte"], TASKS["stsb"], TASKS["cola"]]).flatmap(
        lambda task: st.tuples(
            st.just(task), tables(task).map(as_parquet) | tables(task).map(as_parquet) | damaged(content_of(task))
        )
    ),
    st.booleans(),
)
def test_any_table(tokenizer, case, sample):
    task, content = case
    task = task.model_copy(update={"rows": {"validation": 3}})
    with TemporaryDirectory() as folder:
        file, output = Path(folder, "validation.parquet"), Path(folder, "data", task.name)
        file.write_bytes(content)
        output.parent.mkdir()
        said = None
        try:
            encode_task(task, {"validation": file}, tokenizer, output, sample=sample, verify=True)
        except (UserError, OSError) as error:
            said = message_of(error)
        if said is not None:
            assert "\n" not in said
            assert list(output.parent.iterdir()) == []
            return
        files = {"data.json", "validation.rows.npy", "validation.tokens.npy", LIST}
        assert {path.name for path in output.iterdir()} == files
        assert len(open_split(output, "validation")) == summary(output)["splits"]["validation"]["rows"]
