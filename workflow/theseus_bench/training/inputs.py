"""What a suite starts from: GLUE's tables, the backbone, and compact checkpoints, each put where the suite keeps it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from theseus_bench.checksums import checksum, sign_folder
from theseus_bench.data import synthetic
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
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.run_files import keep_checkpoint, shelter, sign_checkpoint
from theseus_bench.training import pretraining
from theseus_bench.training.pretraining import make_compact, make_demo_backbone
from theseus_bench.training.trainer_state import CHECKPOINTS, STATE_VERSION, Checkpoint


def fetch_task(plan: Plan, name: str, output: Path) -> None:
    """Put a task's tables into the folder `output`, one parquet file a split."""
    data, task = plan.suite.data, find_task(plan.tasks, name, "fetch")
    with atomic(output) as scratch:
        scratch.mkdir()
        if data.source == "demo":
            for split, frame in generate(task, data.rows).items():
                frame.to_parquet(scratch / f"{split}.parquet", index=False)
        else:
            with TemporaryDirectory() as cache:
                for split in task.splits:
                    table = _hub_split(data.name, data.revision, name, split, cache)
                    table.to_parquet(scratch / f"{split}.parquet")
        sign_folder(scratch)


def make_backbone(plan: Plan, folder: Path) -> None:
    """Put the backbone into `folder`/backbone; what is there and was made of the same stays.

    Pretraining the demo's keeps its state in the suite's intervals, and goes on from it after a stop.
    """
    backbone, output = plan.suite.backbone, folder / "backbone"
    made_from: dict[str, Any] = {"settings": backbone.model_dump(mode="json")}
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
    if keep_checkpoint(output, made_from, folder):
        print(f"{output}: kept, as it was made of the same")
        return
    checkpoint = None
    if compact.source == "hub":
        if compact.revision is None:
            raise UserError(
                f"config: compact.{method}: {compact.name} is not pinned, and a branch moves; set revision to the "
                "commit (40 digits) that the model's page on the hub gives, or make the checkpoint with source: recipe"
            )
        with atomic(output) as scratch:
            hub.download(compact.name, compact.revision, scratch)
            checkpoints.check_same_vocabulary(scratch, folder / "backbone", compact.name)
            write_json(scratch / "source.json", compact.model_dump(exclude_none=True))
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
    code = [checksum(Path(module.__file__)) for module in (synthetic, pretraining)]
    parts = [str(folder.resolve()), hardware.device.type, hardware.precision, code, STATE_VERSION, made_from]
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    return Checkpoint(CHECKPOINTS / name, plan.suite.checkpoint_every)


def _hub_split(name: str, revision: str, task: str, split: str, cache: str | None = None):
    """A split of a data set on the hub.

    `cache` is a folder of this fetch's own: where the hub fails, `datasets` takes the latest tables that it finds in
    its cache, of whatever revision.
    """
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    if not sys.stderr.isatty():  # in a log they are noise
        disable_progress_bars()
    try:
        hub.ask_hub(name, "dataset", revision)
        return load_dataset(name, task, revision=revision, split=split, cache_dir=cache)
    except (*hub.HUB_ERRORS, DatasetsError, RuntimeError) as error:  # RuntimeError: a script instead of tables
        raise UserError(
            f"the hub did not give {name} ({task}, {split}) at {revision[:8]} ({type(error).__name__}); check the "
            "network, or use a local folder (data.source: local)"
        ) from None
