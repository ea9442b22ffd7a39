"""The energy that a run takes, by the counters of processor and GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")  # where Linux shows the energy counters of the processor (RAPL)


class EnergyMeter:
    """The joules drawn since it was made, on top of `joules_before`: by the GPU, or by the processor's packages.

    A counter is that of a whole package or GPU, so what other processes do on it meanwhile is in it too.
    """

    def __init__(self, device: torch.device, joules_before: float | None = 0.0):
        counters = _gpu_counters(device) if device.type == "cuda" else _package_counters()
        self._readings = {counter: counter.read() for counter in counters}
        self._joules = joules_before if counters else None
        self._read_time = time.monotonic()

    def read(self, at_most_every: float = 0.0) -> float | None:
        """Joules so far, None where they cannot be measured; if the last look was within `at_most_every` s, as of then.

        A counter of the processor starts again from 0 after minutes, so it must be looked at now and then.
        """
        if self._joules is None or time.monotonic() - self._read_time < at_most_every:
            return self._joules
        self._read_time = time.monotonic()
        try:
            for counter, reading in self._readings.items():
                self._readings[counter] = counter.read()
                self._joules += (self._readings[counter] - reading) % counter.range
        except OSError:
            self._joules = None
        return self._joules


@dataclass(frozen=True)
class _Counter:
    """A counter of energy."""

    read: Callable[[], float]  # joules since a moment of its own; OSError if it cannot be read
    range: float  # joules after which it starts again from 0


def _package_counters() -> list[_Counter]:
    """One counter for each package of the processor; none where they cannot be read, as without the right to."""
    counters = []
    try:
        for folder in sorted(POWERCAP.glob("intel-rapl:*")):
            if (folder / "name").read_text().startswith("package"):  # its parts, as core, are counted in it
                file = folder / "energy_uj"
                file.read_text()
                largest = float((folder / "max_energy_range_uj").read_text()) / 1e6
                counters.append(_Counter(lambda file=file: float(file.read_text()) / 1e6, largest))
    except OSError:
        return []
    return counters


def _gpu_counters(device: torch.device) -> list[_Counter]:
    """The GPU's own counter; none where NVML's Python library (pynvml) or the GPU does not have it."""
    try:
        import pynvml
    except ImportError:
        return []

    def read() -> float:
        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except pynvml.NVMLError as error:
            raise OSError(str(error)) from None

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        read()
    except (pynvml.NVMLError, OSError):
        return []
    return [_Counter(read, 2**64 / 1000)]
