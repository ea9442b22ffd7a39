"""The energy meter over counters of the tests' own: what is added up, what wraps, and what cannot be measured."""

import sys
from types import SimpleNamespace

import pytest
import torch
from theseus_bench.modeling import energy
from theseus_bench.modeling.energy import EnergyMeter

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Counters:
    """A folder of counters as Linux shows them, in microjoules; each starts again after 1000 J."""

    def __init__(self, folder):
        self.folder = folder

    def set(self, name, joules, domain="package-0"):
        (self.folder / name).mkdir(exist_ok=True)
        for file, text in (("name", domain), ("energy_uj", int(joules * 1e6)), ("max_energy_range_uj", 1_000_000_000)):
            (self.folder / name / file).write_text(f"{text}\n")


@pytest.fixture
def counters(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return Counters(tmp_path)


def test_packages_add_up_and_their_parts_do_not_count_twice(counters):
    counters.set("intel-rapl:0", 100)
    counters.set("intel-rapl:0:0", 100, "core")
    counters.set("intel-rapl:1", 500, "package-1")
    counters.set("intel-rapl:2", 500, "psys")
    meter = EnergyMeter(CPU)
    assert meter.read() == 0
    counters.set("intel-rapl:0", 130)
    counters.set("intel-rapl:0:0", 120, "core")
    counters.set("intel-rapl:1", 505, "package-1")
    counters.set("intel-rapl:2", 900, "psys")
    assert meter.read() == pytest.approx(35)
    assert meter.read() == pytest.approx(35)


def test_a_counter_that_starts_again_and_a_run_that_goes_on(counters):
    counters.set("intel-rapl:0", 990)
    meter = EnergyMeter(CPU, joules_before=7.0)
    counters.set("intel-rapl:0", 20)
    assert meter.read() == pytest.approx(7 + 30)


def test_between_two_looks_the_last_one_stands(counters):
    counters.set("intel-rapl:0", 10)
    meter = EnergyMeter(CPU)
    counters.set("intel-rapl:0", 30)
    assert meter.read(at_most_every=3600) == 0
    assert meter.read() == pytest.approx(20)


def test_energy_that_cannot_be_measured_is_none(counters):
    assert EnergyMeter(CPU).read() is None  # there are no counters
    counters.set("intel-rapl:0", 10)
    assert EnergyMeter(CPU, joules_before=None).read() is None  # an earlier try had none, so the sum is not known
    meter = EnergyMeter(CPU)
    (counters.folder / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.read() is None
    assert EnergyMeter(CPU).read() is None


def test_the_gpus_own_counter(monkeypatch):
    class NVMLError(Exception):
        pass

    reading = {"millijoules": 5000}

    def consumption(handle):
        if reading["millijoules"] is None:
            raise NVMLError
        return reading["millijoules"] if handle == "handle of GPU-abc" else 0

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: f"handle of {name}",
        nvmlDeviceGetTotalEnergyConsumption=consumption,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    meter = EnergyMeter(GPU)
    reading["millijoules"] = 12_500
    assert meter.read() == pytest.approx(7.5)
    reading["millijoules"] = None
    assert meter.read() is None
    assert EnergyMeter(GPU).read() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert EnergyMeter(GPU).read() is None
