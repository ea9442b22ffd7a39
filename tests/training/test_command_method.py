"""A method that is a command: what it is given, what is made of what it leaves, and what of that is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from copies import link_project_but_methods
from new_method import replace_words
from slurm_cluster import wait_until
from theseus_bench import stopping
from theseus_bench.errors import UserError
from theseus_bench.suite.method_spec import METHODS_FOLDER, create_method, load_spec
from theseus_bench.training import command_method, conformance
from theseus_bench.training.conformance_bench import STEPS, Bench, make_bench, make_plan
from theseus_bench.training.run import execute
from transformers import AutoModelForSequenceClassification

ROOT = Path(__file__).parents[2]
# A program that leaves what train.py has left for the same job, after CHANGE has been made to it.
STAND_IN = """\
import json, shutil, sys, time
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
output, kept = Path(job["output"]), Path(job["checkpoints"])
shutil.copytree({left!r}, output, dirs_exist_ok=True)
def edit(name, **changes):
    file = output / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
CHANGE
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A project with the method `program`, made from the template of commands."""
    root = tmp_path_factory.mktemp("project")
    link_project_but_methods(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        replace_words(create_method("program", is_command=True))
    return root


@pytest.fixture(scope="module")
def made(root, tmp_path_factory) -> tuple[Bench, Path]:
    """A bench in which the program has trained a run, and what it has left of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        bench = make_bench("program", tmp_path_factory.mktemp("bench"))
        left = bench.folder / "left"
        file = METHODS_FOLDER / "program/train.py"
        text = file.read_text()
        # the job's folder goes when the run is done
        file.write_text(f"{text}    import shutil\n    shutil.copytree(Path(sys.argv[1]).parent, {str(left)!r})\n")
        bench.execute("rte", "whole")
        file.write_text(text)
    return bench, left


@pytest.fixture
def bench(made, root, tmp_path, monkeypatch) -> Bench:
    """A copy of the project, in which the program is a stand-in that leaves the same."""
    shutil.copytree(root, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return Bench(made[0].plan, shutil.copytree(made[0].folder, tmp_path / "bench", symlinks=True))


def stand_in(made, change: str) -> None:
    text = STAND_IN.format(left=str(made[1] / "output")).replace("CHANGE", change)
    (METHODS_FOLDER / "program/train.py").write_text(text)


def test_the_template_of_a_command_passes_the_checks(root, monkeypatch):
    monkeypatch.chdir(root)
    titles, problems = zip(*conformance.check(METHODS_FOLDER / "program"), strict=True)
    assert set(problems) == {""}
    assert "the same seed gives the same predictions, also in another process" in titles
    assert not any("batch" in title for title in titles)


def test_the_job_says_what_the_run_is_and_withholds_the_labels_to_predict(made):
    bench, left = made
    job = json.loads((left / "job.json").read_text())
    run = bench.run("rte")
    assert (job["contract"], job["seed"], job["steps"], job["settings"]) == (1, 1, STEPS, run.settings)
    assert job["task"] == {
        "name": "rte", "labels": ["entailment", "not_entailment"], "metrics": ["accuracy"], "outputs": 2,
    }  # fmt: skip
    for split, path in {"train": job["train"], "validation": job["choose_by"]["validation"]}.items():
        table = pq.read_table(left / Path(path).name)
        assert table.column_names == ["idx", "input_ids", "token_type_ids", "label"]
        source = pq.read_table(bench.folder / f"source of data/rte/{split}.parquet")
        assert table["label"].to_pylist() == source["label"].to_pylist()
    assert list(job["predict"]) == ["validation", "test"]
    predicted = pq.read_table(left / Path(job["predict"]["validation"]).name)
    assert predicted.column_names == ["idx", "input_ids", "token_type_ids"]
    first, second = predicted["input_ids"][0].as_py(), predicted["token_type_ids"][0].as_py()
    assert len(first) == len(second)
    assert sorted(set(second)) == [0, 1]
    assert second == sorted(second), "the first sentence, then the second"


def test_the_page_for_authors_names_all_that_a_job_has_and_that_is_left(made):
    page = (ROOT / "docs/adding-a-method.md").read_text(encoding="utf-8")
    job = json.loads((made[1] / "job.json").read_text())
    report = json.loads((made[1] / "output/report.json").read_text())
    names = [*job, *job["task"], *(f'"{key}"' for key in [*report, *report["evaluations"][0]])]
    assert [name for name in names if f"`{name}`" not in page and name not in page.partition("report.json`:")[2]] == []


def test_the_record_is_of_the_model_that_it_left(made):
    bench, left = made
    folder = bench.folder / "whole" / bench.run("rte").path
    record = json.loads((folder / "run.json").read_text())
    report = json.loads((left / "output/report.json").read_text())
    assert (record["steps"], record["best_step"], record["evaluations"]) == (STEPS, report["best_step"], 4)
    assert [entry["score"] for entry in record["curve"]] == [one["score"] for one in report["evaluations"]]
    assert (record["flops"], record["energy_joules"], record["architecture"]["num_hidden_layers"]) == (None, None, 2)
    assert record["dev_score"] == pytest.approx(max(one["score"] for one in report["evaluations"]), abs=1e-6)
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    own = pq.read_table(left / "output/predictions.parquet").to_pandas()
    dev = table["split"] == "validation"
    assert np.allclose(np.stack(table[dev]["logits"]), np.stack(own[own["split"] == "validation"]["logits"]), atol=1e-5)
    assert AutoModelForSequenceClassification.from_pretrained(folder / "model").config.num_hidden_layers == 2
    assert list(folder.glob("job-*")) == []


# What the program leaves otherwise, and what is said of it.
FAULTS = {
    "no report": ("(output / 'report.json').unlink()", "output/report.json: the command has left no such file"),
    "too many steps": ("edit('report.json', steps=99)", f"report.json: 99 steps, but the job has {STEPS}"),
    "another best step": ("edit('report.json', best_step=5)", "report.json: best_step is 5, which is none of the"),
    "evaluations out of order": (
        "edit('report.json', evaluations=[{'step': s, 'loss': 1.0, 'score': 0.5} for s in (6, 3)])",
        "report.json: evaluations: their steps are to rise, up to 12",
    ),
    "no evaluation": ("edit('report.json', evaluations=[])", "report.json: evaluations: there is none; one at least"),
    "another family": (
        "edit('model/config.json', model_type='electra')",
        "output/model: of type electra; expected one of bert, roberta, distilbert",
    ),
    "fewer positions": (
        "edit('model/config.json', max_position_embeddings=8)",
        "output/model: ",
    ),
    "numbers that are no numbers": (
        "import pyarrow.parquet as pq, pyarrow as pa; f = output / 'predictions.parquet'; t = pq.read_table(f); "
        "pq.write_table(t.set_column(1, 'idx', pa.array(['x'] * len(t))), f)",
        "expected columns split, idx and logits (a list of numbers)",
    ),
    "an unknown key": ("edit('report.json', epochs=5)", "report.json: unknown key 'epochs'"),
    "another score": (
        "edit('report.json', best_step=3, evaluations=[{'step': 3, 'loss': 1.0, 'score': 0.99}])",
        "in its training the model is said to have scored 0.990, but the compressed model, by plain transf",
    ),
    "no model": ("shutil.rmtree(output / 'model')", "output/model holds no config.json"),
    "no weights": ("(output / 'model/model.safetensors').unlink()", "output/model holds no safetensors weights"),
    "damaged weights": (
        "(output / 'model/model.safetensors').write_bytes(b'none')",
        "output/model: transformers cannot load it: ",
    ),
    "another depth": (
        "edit('model/config.json', num_hidden_layers=1)",
        "the compressed model has 1 layers, but the run is of 2",
    ),
    "another model": (
        "import numpy as np, safetensors.numpy as s; f = output / 'model/model.safetensors'; w = s.load_file(f); "
        "w['classifier.bias'] += np.float32([0.5, 0]); s.save_file(w, f, metadata={'format': 'pt'})",
        "up to 0.5 away from the logits that the saved model gives",
    ),
    "no predictions": (
        "(output / 'predictions.parquet').unlink()",
        "predictions.parquet: the command has left no such",
    ),
    "fewer predictions": (
        "import pyarrow.parquet as pq; f = output / 'predictions.parquet'; pq.write_table(pq.read_table(f)[1:], f)",
        "rows; expected one for each of its ",
    ),
    "predictions of another kind": (
        "import pyarrow.parquet as pq; f = output / 'predictions.parquet'; "
        "pq.write_table(pq.read_table(f).drop_columns(['logits']), f)",
        "expected columns split, idx and logits (a list of numbers)",
    ),
    "an exit code": (
        "print('first', file=sys.stderr); sys.exit('out of paper')",
        "methods/program: python3 train.py: it ended with exit code 1: out of paper",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_contract_does_not_allow_is_one_line_and_no_record(made, bench, fault):
    change, message = FAULTS[fault]
    stand_in(made, change)
    with pytest.raises(UserError) as refused:
        bench.execute("rte", "refused")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list((bench.folder / "refused").rglob("run.json"))


def test_a_program_that_is_not_there_is_one_line(bench):
    file = METHODS_FOLDER / "program/method.yaml"
    file.write_text(file.read_text().replace("[python3, train.py]", "[no-such-program]"))
    with pytest.raises(UserError, match=r"method.yaml: command: no-such-program: No such file or directory"):
        Bench(make_plan("program"), bench.folder).execute("rte", "refused")


@contextmanager
def asked_to_stop_when_there_is(bench: Bench, name: str) -> Iterator[None]:
    """Within the block this process gets SIGTERM once the program has left a file of this name in its checkpoints."""

    def ask() -> None:
        wait_until(lambda: list((bench.folder / "checkpoints").rglob(name)), "that the program begins")
        os.kill(os.getpid(), signal.SIGTERM)

    with stopping.stop_by_signal():
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def test_a_stopped_command_is_ended_and_finds_what_it_has_kept_when_it_is_called_again(made, bench):
    stand_in(made, "if not (kept / 'state').exists():\n    (kept / 'state').touch()\n    time.sleep(600)")
    message = "stopped in its command, by SIGTERM; the same command goes on from what that has kept"
    with asked_to_stop_when_there_is(bench, "state"), pytest.raises(stopping.Stopped, match=message):
        bench.execute("rte", "stopped")
    record, _ = bench.execute("rte", "stopped")
    assert (record.steps, record.resumed) == (STEPS, 1)
    assert not list((bench.folder / "checkpoints").rglob("state")), "what it has kept goes with the record"


def test_a_command_that_does_not_end_when_it_is_asked_to_is_killed_with_what_it_has_started(made, bench, monkeypatch):
    stand_in(
        made,
        "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'])\n(kept / 'scratch').write_text(str(child.pid))\n"
        "(kept / 'scratch').rename(kept / 'child')\ntime.sleep(600)",
    )
    monkeypatch.setattr(command_method, "GRACE_SECONDS", 0.5)
    with asked_to_stop_when_there_is(bench, "child"), pytest.raises(stopping.Stopped):
        bench.execute("rte", "stopped")
    (child,) = (int(file.read_text()) for file in (bench.folder / "checkpoints").rglob("child"))
    wait_for_end(child)


def test_a_command_dies_with_its_run_and_the_next_call_goes_on(made, bench):
    stand_in(
        made,
        "import os\nif not (kept / 'number').exists():\n    (kept / 'scratch').write_text(str(os.getpid()))\n"
        "    (kept / 'scratch').rename(kept / 'number')\n    time.sleep(600)",
    )
    script = (
        "import sys; from pathlib import Path; from theseus_bench.training.conformance_bench import Bench, make_plan\n"
        "Bench(make_plan('program'), Path(sys.argv[1])).execute('rte', 'killed')"
    )
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", script, str(bench.folder)], env=paths)
    wait_until(lambda: list((bench.folder / "checkpoints").rglob("number")), "that the program begins")
    (number,) = (int(file.read_text()) for file in (bench.folder / "checkpoints").rglob("number"))
    process.kill()
    process.wait(60)
    wait_for_end(number)
    record, _ = bench.execute("rte", "killed")
    assert record.steps == STEPS
    assert list((bench.folder / "killed").rglob("job-*")) == [], "what the killed run had begun is gone too"


def wait_for_end(number: int) -> None:
    """Until the process of this number has ended; what is left of it for its parent to read does not count."""
    wait_until(lambda: not psutil.pid_exists(number) or psutil.Process(number).status() == "zombie", "that it ends")


def test_a_training_that_diverged_is_a_failed_run(made, bench):
    stand_in(made, "edit('report.json', evaluations=[], best_step=0, divergence='diverged: the loss at step 3')")
    record, _ = bench.execute("rte", "diverged")
    assert (record.status, record.reason, record.curve) == ("failed", "diverged: the loss at step 3", [])


def test_another_command_is_another_run(bench):
    before = bench.plan.fingerprint(bench.run("rte"))
    file = METHODS_FOLDER / "program/method.yaml"
    file.write_text(file.read_text().replace("[python3, train.py]", "[python3, train.py, --alpha, '0.3']"))
    plan = make_plan("program")
    assert plan.fingerprint(plan.run("program", "rte", 1)) != before


def test_under_equal_effort_it_chooses_by_the_slice_that_is_held_out(made, bench):
    stand_in(made, "shutil.copytree(Path(sys.argv[1]).parent, kept / 'job'); sys.exit('enough')")
    plan = bench.plan
    with pytest.raises(UserError, match="enough"):
        execute(plan, plan.run("program@equal", "rte", 1), bench.folder, bench.folder / "checkpoints")
    (folder,) = (bench.folder / "checkpoints").rglob("job")
    job = json.loads((folder / "job.json").read_text())
    assert list(job["choose_by"]) == ["held_out"]
    held_out, train = (
        pq.read_table(folder / Path(p).name)["idx"].to_pylist() for p in (job["choose_by"]["held_out"], job["train"])
    )
    assert set(held_out).isdisjoint(train)
    assert sorted([*held_out, *train]) == list(range(len(held_out) + len(train)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("command: [python3, train.py]\n", "", "methods/program: method.py is missing; or write in method.yaml which"),
        ("[python3, train.py]", "[]", "command: no word; write the program and its arguments"),
        ("needs: []", "needs: [teacher_outputs]", "command: a command gets no teacher_outputs; it can need teacher_m"),
        ("role: baseline", "role: teacher", "command: a teacher cannot be one; only what makes a compressed model"),
    ],
)
def test_a_method_yaml_that_cannot_be_a_commands_is_refused(bench, old, new, message):
    file = METHODS_FOLDER / "program/method.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UserError) as refused:
        load_spec(file.parent)
    assert message in str(refused.value)


def test_a_method_is_code_or_a_command_and_not_both(bench):
    (METHODS_FOLDER / "program/method.py").touch()
    with pytest.raises(UserError, match=r"command: methods/program/method.py is there too; drop one of the two"):
        load_spec(METHODS_FOLDER / "program")
