"""Which GPU a run takes, on a machine that has none: the GPUs are names, the runs locks and processes."""

import collections
import os
import signal
import subprocess
import sys

import pytest
from theseus_bench.errors import UserError
from theseus_bench.modeling import devices, gpu_slots
from theseus_bench.modeling.gpu_slots import claim_slot, take_gpu, visible_gpus

IDS = {
    "indices": ["0", "1", "2"],
    "uuids": ["GPU-5c0fd2d1", "GPU-b7a1e4c2", "GPU-0a9b8c7d"],
    "mig": ["MIG-GPU-5c0fd2d1/1/0", "MIG-GPU-5c0fd2d1/2/0", "MIG-b7a1e4c2"],
}
HOLD = "import sys; from pathlib import Path; from theseus_bench.modeling.gpu_slots import claim_slot\n"
HOLD += "name, slot = claim_slot(sys.argv[2:], Path(sys.argv[1])); print(name, flush=True); sys.stdin.read()"


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has taken no GPU yet, and a folder of slots of its own."""
    monkeypatch.setattr(gpu_slots, "_own_slot", [])
    monkeypatch.setattr(gpu_slots, "SLOTS", tmp_path / "slots")
    monkeypatch.setenv(gpu_slots.VISIBLE, "0")  # so that it is as it was after the test


@pytest.mark.parametrize("kind", IDS)
def test_runs_spread_evenly_over_the_gpus(tmp_path, kind):
    slots = [claim_slot(IDS[kind], tmp_path / "slots") for _ in range(8)]
    assert [name for name, _ in slots] == (IDS[kind] * 3)[:8]


def test_a_slot_that_is_free_again_is_taken_again(tmp_path):
    slots = [claim_slot(["0", "1"], tmp_path / "slots") for _ in range(6)]
    for i in (1, 3):  # both of GPU 1; one is left there, and three on GPU 0
        slots[i][1].close()
    later = [claim_slot(["0", "1"], tmp_path / "slots") for _ in range(2)]
    assert collections.Counter(name for name, _ in later) == {"1": 2}


def test_processes_share_the_gpus_and_a_killed_one_leaves_nothing(tmp_path):
    folder = tmp_path / "slots"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, folder, "0", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    on = collections.defaultdict(list)
    for run in runs:
        on[run.stdout.readline().strip()].append(run)
    assert {name: len(group) for name, group in on.items()} == {"0": 2, "1": 2}
    for run in on["1"]:
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert claim_slot(["0", "1"], folder)[0] == "1"
    for run in on["0"]:
        run.communicate("")  # ends as a run does
    claim_slot(["0", "1"], folder)
    assert len(list(folder.iterdir())) <= 3, "the lock, and a slot just taken on either"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, ["0", "1", "2", "3"]),
        ("", []),
        ("2", ["2"]),
        ("3, 1", ["3", "1"]),
        ("0,-1,1", ["0"]),
        ("GPU-5c0fd2d1,MIG-GPU-b7a1e4c2/1/0", ["GPU-5c0fd2d1", "MIG-GPU-b7a1e4c2/1/0"]),
    ],
)
def test_only_what_cuda_would_see_is_on_offer(value, names):
    assert visible_gpus(value, lambda: 4) == names


def test_a_run_sees_the_gpu_it_took_and_no_other(fresh, monkeypatch):
    other = claim_slot(["1", "GPU-b7a1e4c2"], gpu_slots.SLOTS)
    assert other[0] == "1"
    monkeypatch.setenv(gpu_slots.VISIBLE, "1,GPU-b7a1e4c2")
    for _ in range(2):  # it asks for its device more than once, and stays where it is
        take_gpu(lambda: 0)
        assert os.environ[gpu_slots.VISIBLE] == "GPU-b7a1e4c2"
    assert claim_slot(["1", "GPU-b7a1e4c2"], gpu_slots.SLOTS)[0] == "1"


def test_a_record_says_which_model_of_gpu(monkeypatch):
    monkeypatch.setattr(devices.torch.cuda, "get_device_name", lambda _device: "NVIDIA H100 PCIe")
    assert devices.device_name(devices.torch.device("cuda")) == "cuda (NVIDIA H100 PCIe)"
    assert devices.device_name(devices.torch.device("cpu")) == "cpu"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_the_device_of_a_run_is_the_least_used_gpu(fresh, monkeypatch, device):
    monkeypatch.delenv(gpu_slots.VISIBLE)
    monkeypatch.setattr(devices.torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        devices.torch.cuda, "is_available", lambda: os.environ.get(gpu_slots.VISIBLE) == "1"
    )  # asked after
    busy = claim_slot(["0", "1"], gpu_slots.SLOTS)
    assert busy[0] == "0"
    assert devices.choose_device(device).type == "cuda"


def test_a_run_on_the_processor_takes_no_gpu(fresh, monkeypatch):
    monkeypatch.setenv(gpu_slots.VISIBLE, "0,1")
    monkeypatch.setattr(devices.torch.backends.cuda, "is_built", lambda: True)
    assert devices.choose_device("cpu").type == "cpu"
    assert os.environ[gpu_slots.VISIBLE] == "0,1"
    assert not gpu_slots.SLOTS.exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "slots").write_text("not a folder")
    with pytest.raises(UserError, match=r"slots.*TMPDIR"):
        claim_slot(["0"], tmp_path / "slots")


def test_another_users_folder_is_not_used_and_nothing_in_it_is_touched(tmp_path, monkeypatch):
    """In /tmp anybody may make the folder first. Here it is the process that is another user's."""
    folder = tmp_path / "slots"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: os.stat(folder).st_uid + 1)
    with pytest.raises(UserError, match=r"slots should be yours alone, and is not; .* TMPDIR"):
        claim_slot(["0"], folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o710, 0o704])
def test_a_folder_that_others_may_enter_is_not_used(tmp_path, mode):
    folder = tmp_path / "slots"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UserError, match="should be yours alone"):
        claim_slot(["0"], folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["lock", "gpu-0-12-0123abcd"])
def test_a_link_among_the_slots_leads_to_nobodys_file(tmp_path, link, name):
    victim, folder = tmp_path / "victim", tmp_path / "slots"
    victim.write_text("a year of work")
    folder.mkdir(mode=0o700)
    link(victim, folder / name)
    with pytest.raises(UserError, match="cannot note there"):
        claim_slot(["0"], folder)
    assert victim.read_text() == "a year of work"
    assert (folder / name).exists()


def test_a_folder_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "victims").mkdir(mode=0o700)
    (tmp_path / "slots").symlink_to(tmp_path / "victims")
    with pytest.raises(UserError, match="cannot note there"):
        claim_slot(["0"], tmp_path / "slots")
    assert list((tmp_path / "victims").iterdir()) == []


def test_what_is_no_slot_is_left_alone(tmp_path):
    folder = tmp_path / "slots"
    folder.mkdir(mode=0o700)
    for name in ("gpu-0-notes", "gpu-0-12-0123abcde", "0"):
        (folder / name).write_text("mine")
    claim_slot(["0"], folder)
    assert {name: (folder / name).read_text() for name in ("gpu-0-notes", "gpu-0-12-0123abcde", "0")} == dict.fromkeys(
        ("gpu-0-notes", "gpu-0-12-0123abcde", "0"), "mine"
    )


def test_each_job_of_a_cluster_counts_the_runs_on_its_own_gpus(tmp_path, monkeypatch):
    """Two jobs on one machine, both told that their two GPUs are 0 and 1."""
    slots = []
    for job, expected in (("7", "0"), ("7", "1"), ("7", "0"), ("8", "0"), ("8", "1")):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        name, slot = claim_slot(["0", "1"], tmp_path / "slots")
        slots.append(slot)
        assert name == expected
