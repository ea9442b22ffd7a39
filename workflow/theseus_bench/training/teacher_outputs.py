"""A predecessor's outputs on the training set: computed once, read by every student through memory maps.

`logits.npy` (examples, outputs) float32; `cls.npy` (examples, layers stored, hidden) float16, the hidden state of the
first token after each layer listed in teacher.json. A student of depth n looks at every (L/n)-th layer, so only the
layers that some student of the suite looks at are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from theseus_bench.checksums import check_folder, sign_folder
from theseus_bench.data.batches import collate, token_budget_batches
from theseus_bench.data.parquet import Split
from theseus_bench.files import atomic, read_json, write_json
from theseus_bench.modeling.attention import model_inputs
from theseus_bench.modeling.compile import prepare_for_device
from theseus_bench.modeling.devices import autocast, to_tensors


@dataclass(frozen=True)
class TeacherOutputs:
    """Stored outputs of one predecessor on one training set."""

    logits: np.ndarray  # (examples, outputs) float32
    cls: np.ndarray  # (examples, layers stored, hidden) float16
    layers: list[int]  # which layers `cls` holds, counted from 1
    examples: np.ndarray | None = None  # where a run trains on a part of the set: the numbers of its examples in it

    def take(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """For a batch: teacher_logits (batch, outputs) and teacher_cls (batch, layers stored, hidden), float32."""
        numbers = examples if self.examples is None else self.examples[examples]
        return {
            "teacher_logits": np.asarray(self.logits[numbers]),
            "teacher_cls": self.cls[numbers].astype(np.float32),
        }


@torch.inference_mode()
def write_teacher_outputs(
    model: nn.Module, split: Split, pad: int, layers: list[int], device: torch.device, precision: str, folder: Path
) -> None:
    """Run the predecessor over the training set, without dropout, and store what students read."""
    prepare_for_device(model, device).eval()
    logits = np.empty((len(split), model.config.num_labels), np.float32)
    cls = np.empty((len(split), len(layers), model.config.hidden_size), np.float16)
    for examples in token_budget_batches(split):
        batch = to_tensors(collate(split, examples, pad), device)
        with autocast(device, precision):
            output = model(**model_inputs(model, batch), output_hidden_states=True)
        logits[examples] = output.logits.float().cpu().numpy()
        states = torch.stack([output.hidden_states[layer][:, 0] for layer in layers], dim=1)
        cls[examples] = states.float().cpu().numpy()
    with atomic(folder) as scratch:
        scratch.mkdir()
        np.save(scratch / "logits.npy", logits)
        np.save(scratch / "cls.npy", cls)
        write_json(scratch / "teacher.json", {"layers": layers})
        sign_folder(scratch)


def open_teacher_outputs(folder: Path) -> TeacherOutputs:
    """The stored outputs in `folder`, in memory only as they are used; UserError if they are not what was written."""
    check_folder(folder)
    return TeacherOutputs(
        np.load(folder / "logits.npy", mmap_mode="r"),
        np.load(folder / "cls.npy", mmap_mode="r"),
        read_json(folder / "teacher.json")["layers"],
    )
