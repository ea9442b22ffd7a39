"""What a suite starts from: GLUE's tables, the backbone, and compact checkpoints, each put where the suite keeps it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from theseus_bench.checksums import checksum, sign_folder
from theseus_bench.data import batches, synthetic
from theseus_bench.data.encoding import concatenate, open_split
from theseus_bench.data.held_out import hold_out, take
from theseus_bench.data.parquet import Split
from theseus_bench.data.synthetic import generate
from theseus_bench.data.tasks import find_task
from theseus_bench.errors import UserError
from theseus_bench.files import atomic, write_json
from theseus_bench.modeling import checkpoints, hub
from theseus_bench.modeling.devices import Hardware, choose_hardware
from theseus_bench.strict_yaml import suggest
from theseus_bench.suite.checkpoint_files import WEIGHTS
from theseus_bench.suite.plan import LOOP_VERSION, Plan
from theseus_bench.suite.run_files import keep_checkpoint, shelter, sign_checkpoint
from theseus_bench.training import pretraining
from theseus_bench.training.hub_sources import compact_repository, fetch_tables
from theseus_bench.training.pretraining import make_compact, make_demo_backbone
from theseus_bench.training.trainer_state import CHECKPOINTS, STATE_VERSION, Checkpoint


def fetch_task(plan: Plan, name: str, output: Path) -> None:
    """Put a task's tables into the folder `output`, one parquet file a split."""
    data, task = plan.suite.data, find_task(plan.tasks, name, "fetch")
    if data.source == "local":
        raise UserError(f"fetch: the suite's data is in {data.path}; encode reads it from there")
    with atomic(output) as scratch:
        scratch.mkdir()
        if data.source == "demo":
            for split, frame in generate(task, data.rows).items():
                frame.to_parquet(scratch / f"{split}.parquet", index=False)
        else:
            tables = fetch_tables(hub.Repository(data.name, "dataset", data.revision), task)
            for split, table in tables.items():
                pq.write_table(table, scratch / f"{split}.parquet")
        sign_folder(scratch)


def make_backbone(plan: Plan, folder: Path) -> None:
    """Put the backbone into `folder`/backbone; what is there and was made of the same stays.

    Pretraining the demo's keeps its state in the suite's intervals, and goes on from it after a stop.
    """
    backbone, output = plan.suite.backbone, folder / "backbone"
    made_from: dict[str, Any] = {"settings": backbone.model_dump(mode="json")}
    if backbone.source == "demo":
        made_from["loop"] = LOOP_VERSION
    if backbone.source == "folder":
        made_from["files"] = checksum(Path(backbone.name).expanduser())
    if keep_checkpoint(output, made_from, folder):
        print(f"{output}: kept, as it was made of the same")
        return
    checkpoint = None
    if backbone.source == "demo":
        hardware = choose_hardware(plan.suite.device, "auto", plan.suite.threads)
        checkpoint = _checkpoint(plan, folder, hardware, made_from)
        losses = make_demo_backbone(backbone.layers, backbone.steps, hardware, checkpoint, output)
        write_json(output / "source.json", backbone.model_dump(exclude_none=True) | {"losses": losses})
    else:
        checkpoints.fetch_checkpoint(backbone, output)
    _finish(output, made_from, folder, checkpoint)


def make_compact_checkpoint(plan: Plan, method: str, folder: Path) -> None:
    """Put the compact checkpoint of `method` into `folder`/compact/<method>; what was made of the same stays.

    A recipe keeps its state in the suite's intervals, and goes on from it after a stop.
    """
    if method not in plan.suite.compact:
        raise UserError(f"{folder}: {method!r} has no compact checkpoint{suggest(method, plan.suite.compact)}")
    compact, output = plan.suite.compact[method], folder / "compact" / method
    inputs = [f"backbone/{WEIGHTS}"]
    inputs += [f"data/{task}" for task in plan.trained_tasks] if compact.source == "recipe" else []
    made_from = {
        "settings": compact.model_dump(mode="json"),
        "layers": plan.suite.student_layers,
        "inputs": {name: checksum(folder / name) for name in inputs},
    }
    if compact.source == "recipe":
        made_from["loop"] = LOOP_VERSION
    if keep_checkpoint(output, made_from, folder):
        print(f"{output}: kept, as it was made of the same")
        return
    checkpoint = None
    if compact.source == "hub":
        repository = compact_repository(plan, method)
        with atomic(output) as scratch:
            commit = hub.download(repository, scratch, compact.sha256)
            checkpoints.check_same_vocabulary(scratch, folder / "backbone", compact.name)
            write_json(scratch / "source.json", compact.model_dump(exclude_none=True) | {"revision": commit})
    else:
        hardware = choose_hardware(plan.suite.device, "auto", plan.suite.threads)
        checkpoint = _checkpoint(plan, folder, hardware, made_from)
        text = concatenate([_training_text(folder / "data" / task) for task in plan.trained_tasks])
        losses = make_compact(
            folder / "backbone", text, compact, plan.suite.student_layers, hardware, checkpoint, output
        )
        write_json(output / "source.json", compact.model_dump(exclude_none=True) | {"losses": losses})
    _finish(output, made_from, folder, checkpoint)


def _finish(output: Path, made_from: dict[str, Any], folder: Path, checkpoint: Checkpoint | None) -> None:
    """Say of what the model `output` was made; remove the checkpoint of its training once that is safe."""
    sign_checkpoint(output, made_from)
    shelter([output], folder)
    if checkpoint:
        checkpoint.discard()


def _training_text(folder: Path) -> Split:
    """The training sentences of an encoded task, but for those by which runs are chosen under equal effort."""
    split = open_split(folder, "train")
    return take(split, hold_out(split, folder.name)[0])


def _checkpoint(plan: Plan, folder: Path, hardware: Hardware, made_from: dict[str, Any]) -> Checkpoint:
    """A pretraining's checkpoint, named by all that the result depends on.

    That is the suite's `folder`, what it is made from, device, precision and the code.
    """
    code = [checksum(Path(module.__file__)) for module in (batches, synthetic, pretraining)]
    parts = [str(folder.resolve()), hardware.device.type, hardware.precision, code, STATE_VERSION, made_from]
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    return Checkpoint(CHECKPOINTS / name, plan.suite.checkpoint_every)
