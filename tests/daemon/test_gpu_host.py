"""The host's memory: what can really be had, also where a control group allows less than the machine has."""

from pathlib import Path

import pytest

from app.daemon.host import HostReader
from app.daemon.nvml import process_name, reason_names

MEMINFO = "MemTotal:       32768000 kB\nMemFree:         1000000 kB\nMemAvailable:   16384000 kB\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    for folder in ("proc/self", "cgroup"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    (tmp_path / "proc/stat").write_text("cpu  100 0 100 700 100 0 0 0 0 0\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/user.slice/app.scope\n")
    return tmp_path


def reader(machine: Path) -> HostReader:
    return HostReader(machine / "proc", machine / "cgroup")


def group(machine: Path, path: str, limit: str, used: int, inactive_file: int = 0) -> None:
    folder = machine / "cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive_file}\n")


def test_without_limits_it_is_the_machine(machine: Path) -> None:
    group(machine, "user.slice/app.scope", "max", 5)
    sample = reader(machine).read(taken_at=4.5)
    assert sample is not None
    assert (sample.total_bytes, sample.available_bytes) == (32768000 * 1024, 16384000 * 1024)
    assert sample.taken_at == 4.5


def test_a_control_group_above_us_limits_memory(machine: Path) -> None:
    """The kernel kills at the group's limit, however much the machine has; dropped file pages do not count as used."""
    group(machine, "user.slice/app.scope", "max", 5)
    group(machine, "user.slice", str(8 * 2**30), used=3 * 2**30, inactive_file=2**30)
    sample = reader(machine).read()
    assert sample is not None
    assert (sample.total_bytes, sample.available_bytes) == (8 * 2**30, 6 * 2**30)


def test_processor_use_is_a_difference(machine: Path) -> None:
    host = reader(machine)
    first = host.read()
    (machine / "proc/stat").write_text("cpu  150 0 125 900 125 0 0 0 0 0\n")  # 75 of 300 ticks at work
    second = host.read()
    assert first is not None
    assert second is not None
    assert first.cpu_utilisation is None
    assert second.cpu_utilisation == 0.25


def test_a_machine_that_tells_nothing_is_unknown(machine: Path) -> None:
    (machine / "proc/meminfo").write_text("garbage\n")
    assert reader(machine).read() is None
    (machine / "proc/meminfo").write_text(MEMINFO)
    (machine / "proc/stat").unlink()
    (machine / "proc/self/cgroup").unlink()
    sample = reader(machine).read()
    assert sample is not None
    assert sample.cpu_utilisation is None


def test_throttle_reasons_have_plain_names() -> None:
    assert reason_names(0) == ()
    assert reason_names(0x1) == (), "a card at rest is not held back"
    assert reason_names(0x8 | 0x80) == ("hardware slowdown", "power brake")
    assert reason_names(1 << 40) == ()


def test_a_process_name_is_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77/comm").write_text("llama-server\n")
    assert process_name(77, tmp_path) == "llama-server"
    (tmp_path / "77/comm").write_text("VLLM::EngineCor\n")
    assert process_name(77, tmp_path) == "VLLM::EngineCor", "cut by the kernel, and the driver adds nothing"
    assert process_name(78, tmp_path) == "process 78"
