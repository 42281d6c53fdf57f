"""The sampler under the real pynvml and a simulated driver: true figures, and every trouble of a driver is a state."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.driver import MIB, SimulatedDriver, allocate, card, card_uuid, mig_slice
from tests.rig.driver.gpu_probe import GpuProbe, Sample
from tests.rig.waiting import eventually

GIB = 1024 * MIB
BLENDER = 5_000_001  # above every possible pid, so no real process is meant


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[SimulatedDriver]:
    driver = SimulatedDriver(tmp_path / "driver")
    driver.gpus([card(0)])
    yield driver
    assert driver.faults() == ""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process that can hold memory of a card and be killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def one(sample: Sample) -> Sample:
    assert len(sample["gpus"]) == 1
    found: Sample = sample["gpus"][0]
    return found


# --- what is known ---------------------------------------------------------------------------------------------------


def test_a_card_is_described_completely(driver: SimulatedDriver) -> None:
    driver.gpus(
        [
            card(
                0,
                reserved_mib=512,
                utilisation=0.87,
                power_watts=312.5,
                power_limit_watts=450,
                temperature=83,
                sm_clock=2520,
                memory_clock=10501,
                throttle=0x1 | 0x4 | 0x20 | 0x40,
            )
        ]
    )
    driver.foreign(card_uuid(), BLENDER, "/opt/blender/blender", 3000)
    with GpuProbe(driver) as probe:
        sample = probe.state("ok")
    gpu = one(sample)
    assert (gpu["uuid"], gpu["index"], gpu["name"]) == (card_uuid(), 0, "NVIDIA GeForce RTX 4090")
    assert gpu["total_bytes"] == 24 * GIB
    assert gpu["used_bytes"] == 3000 * MIB
    assert gpu["reserved_bytes"] == 512 * MIB
    assert gpu["free_bytes"] == 24 * GIB - 3512 * MIB
    assert gpu["processes"] == [{"pid": BLENDER, "name": "blender", "bytes": 3000 * MIB, "run_id": None}]
    assert gpu["utilisation"] == 0.87
    assert (gpu["power_watts"], gpu["power_limit_watts"]) == (312.5, 450.0)
    assert gpu["temperature_celsius"] == 83
    assert (gpu["sm_clock_mhz"], gpu["memory_clock_mhz"]) == (2520, 10501)
    assert gpu["throttle_reasons"] == ["power limit", "temperature", "temperature (hardware)"]
    assert sample["driver_version"] == "580.95.05"
    assert sample["message"] == ""


def test_eight_cards_are_seen_and_a_ninth_is_left_out(driver: SimulatedDriver) -> None:
    driver.gpus([card(n) for n in range(9)])
    with GpuProbe(driver) as probe:
        sample = probe.state("ok")
    assert [gpu["uuid"] for gpu in sample["gpus"]] == [card_uuid(n) for n in range(8)]


def test_mig_slices_stand_for_their_card(driver: SimulatedDriver) -> None:
    driver.gpus([card(0), card(1, 81_559, "NVIDIA H100", mig=[mig_slice(0, 1), mig_slice(1, 1)], temperature=66)])
    driver.foreign(mig_slice(1, 1)["uuid"], BLENDER, "blender", 1000)
    with GpuProbe(driver) as probe:
        whole, first, second = probe.state("ok")["gpus"]
        assert whole["mig_parent"] is None
        assert [first["mig_parent"], second["mig_parent"]] == [card_uuid(1)] * 2
        assert [first["used_bytes"], second["used_bytes"]] == [0, 1000 * MIB]
        assert first["total_bytes"] == 9_728 * MIB
        assert first["processes"] == []
        assert second["processes"][0]["name"] == "blender"
        assert first["utilisation"] is None, "NVML does not tell it for slices"
        assert first["temperature_celsius"] == 66, "of the card that they share"

        driver.change(1, mig=[])
        empty = probe.sample(lambda sample: len(sample["gpus"]) == 2)["gpus"][1]
        assert empty["free_bytes"] is None, "CUDA finds no device there, so nothing may be planned on it"
        driver.change(1, mig_on=False)
        probe.sample(lambda sample: sample["gpus"][1]["free_bytes"] == 81_559 * MIB)


def test_our_engines_are_told_from_other_processes(driver: SimulatedDriver, holder: subprocess.Popen[bytes]) -> None:
    """I4: a refusal names the holders, so ours must not be taken for theirs."""
    driver.foreign(card_uuid(), BLENDER, "blender", 3000)
    driver.allocate(holder.pid, card_uuid(), 8 * GIB)
    with GpuProbe(driver) as probe:
        probe.send(runs={holder.pid: "run-7"})
        sample = probe.sample(lambda sample: bool(sample["gpus"]) and one(sample)["processes"][0]["run_id"] is not None)
    ours, theirs = one(sample)["processes"]
    assert (ours["pid"], ours["bytes"], ours["run_id"]) == (holder.pid, 8 * GIB, "run-7")
    assert ours["name"].startswith("python")
    assert theirs["run_id"] is None
    assert sample["host"]["engine_bytes"] == 1000, "of one process, as the injected function counts"


def test_a_process_that_computes_and_draws_is_counted_once(driver: SimulatedDriver) -> None:
    driver.foreign(card_uuid(), BLENDER, "blender", 3000, kind="both")
    driver.foreign(card_uuid(), BLENDER + 1, "Xorg", 400, kind="graphics")
    with GpuProbe(driver) as probe:
        found = one(probe.state("ok"))["processes"]
    assert [(process["name"], process["bytes"]) for process in found] == [("blender", 3000 * MIB), ("Xorg", 400 * MIB)]


def test_the_host_is_beside_the_cards(driver: SimulatedDriver) -> None:
    with GpuProbe(driver) as probe:
        host = probe.sample(lambda sample: sample["host"]["cpu_utilisation"] is not None)["host"]
    assert 0 < host["available_bytes"] <= host["total_bytes"]
    assert 0 <= host["cpu_utilisation"] <= 1


# --- what is not known -----------------------------------------------------------------------------------------------

EACH_QUERY = {
    "nvmlDeviceGetUtilizationRates": {"utilisation"},
    "nvmlDeviceGetPowerUsage": {"power_watts"},
    "nvmlDeviceGetClockInfo": {"sm_clock_mhz", "memory_clock_mhz"},
    "nvmlDeviceGetMigMode": set(),
    "nvmlSystemGetProcessName": set(),
    "nvmlDeviceGetName": set(),
}


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "UNKNOWN", "NO_PERMISSION"])
def test_one_failed_question_spoils_nothing_else(driver: SimulatedDriver, error: str) -> None:
    for call in EACH_QUERY:
        driver.break_with(error, call)
    driver.foreign(card_uuid(), BLENDER, "blender", 3000)
    with GpuProbe(driver) as probe:
        gpu = one(probe.state("ok"))
    unknown = {field for field, value in gpu.items() if value is None} - {"mig_parent"}
    assert unknown == set().union(*EACH_QUERY.values())
    assert gpu["free_bytes"] == 24 * GIB - 3000 * MIB
    assert gpu["name"] == "GPU 0"
    assert gpu["processes"][0]["name"] == f"process {BLENDER}"


def test_processes_that_the_driver_does_not_tell_are_unknown_not_none(driver: SimulatedDriver) -> None:
    """WSL2 and some containers: an empty list would mean that nobody holds memory."""
    for kind in ("Compute", "Graphics"):
        driver.break_with("NOT_SUPPORTED", f"nvmlDeviceGet{kind}RunningProcesses_v3")
        driver.break_with("NOT_SUPPORTED", f"nvmlDeviceGet{kind}RunningProcesses_v2")
    with GpuProbe(driver) as probe:
        assert one(probe.state("ok"))["processes"] is None
    driver.mend()
    driver.change(0, process_sizes_hidden=True)
    driver.foreign(card_uuid(), BLENDER, "blender", 3000)
    with GpuProbe(driver) as probe:
        assert one(probe.state("ok"))["processes"][0]["bytes"] is None


def test_an_old_driver_answers_through_the_old_functions(driver: SimulatedDriver) -> None:
    driver.driver(
        driver_version="470.256.02",
        missing=[
            "nvmlDeviceGetMemoryInfo_v2",
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetEnforcedPowerLimit",
            "nvmlDeviceGetTemperatureV",
        ],
    )
    driver.change(0, reserved_mib=300, throttle=8)
    driver.foreign(card_uuid(), BLENDER, "blender", 3000)
    with GpuProbe(driver) as probe:
        gpu = one(probe.state("ok"))
    assert gpu["free_bytes"] == 24 * GIB - 3300 * MIB
    assert gpu["reserved_bytes"] is None
    assert gpu["processes"][0]["bytes"] == 3000 * MIB
    assert gpu["throttle_reasons"] == ["hardware slowdown"]
    assert (gpu["power_limit_watts"], gpu["temperature_celsius"]) == (450, 41)


def test_memory_shared_with_the_host_is_unknown_and_no_fault(driver: SimulatedDriver) -> None:
    driver.break_with("NOT_SUPPORTED", "nvmlDeviceGetMemoryInfo")
    driver.break_with("NOT_SUPPORTED", "nvmlDeviceGetMemoryInfo_v2")
    with GpuProbe(driver) as probe:
        gpu = one(probe.state("ok"))
    assert gpu["total_bytes"] is None
    assert gpu["utilisation"] == 0


# --- absent, broken, changing ----------------------------------------------------------------------------------------


def test_a_machine_without_a_driver_says_so_and_notices_one_that_comes(driver: SimulatedDriver) -> None:
    """I10"""
    driver.absent()
    with GpuProbe(driver, absent_retry_seconds=0.2) as probe:
        sample = probe.state("absent")
        assert sample["gpus"] == []
        assert sample["message"] == "No NVIDIA driver is installed on this machine; models run on the CPU."
        assert sample["host"]["total_bytes"] > 0
        driver.present()
        assert one(probe.state("ok"))["free_bytes"] == 24 * GIB
        driver.break_with("DRIVER_NOT_LOADED")
        driver.absent()
        assert "not loaded" in probe.state("absent")["message"]


def test_a_driver_without_cards_is_absent_and_a_new_card_is_noticed(driver: SimulatedDriver) -> None:
    driver.gpus([])
    with GpuProbe(driver, absent_retry_seconds=0.1) as probe:
        assert "finds no card" in probe.state("absent")["message"]
        driver.gpus([card(0)])
        probe.sample(lambda sample: len(sample["gpus"]) == 1)
        driver.gpus([card(0), card(1, 12_288, "NVIDIA GeForce RTX 3060")])
        pair = probe.sample(lambda sample: len(sample["gpus"]) == 2)["gpus"]
        assert [gpu["total_bytes"] for gpu in pair] == [24 * GIB, 12 * GIB]
        driver.gpus([card(1, 12_288, "NVIDIA GeForce RTX 3060")])
        assert one(probe.sample(lambda sample: len(sample["gpus"]) == 1))["uuid"] == card_uuid(1)


def test_a_card_that_is_plugged_in_makes_the_driver_be_opened_anew(driver: SimulatedDriver, tmp_path: Path) -> None:
    kernel = tmp_path / "gpus"
    (kernel / "0000:01:00.0").mkdir(parents=True)
    driver.driver(cards_fixed_at_open=True)
    with GpuProbe(driver, kernel_cards=str(kernel)) as probe:
        one(probe.state("ok"))
        driver.gpus([card(0), card(1)])
        (kernel / "0000:45:00.0").mkdir()
        probe.sample(lambda sample: len(sample["gpus"]) == 2)


def test_a_broken_driver_is_a_state_that_ends(driver: SimulatedDriver) -> None:
    """I4, I10: figures that cannot be had are unknown, never the old ones; the card stays in the picture."""
    with GpuProbe(driver, broken_retry_seconds=0.1) as probe:
        probe.state("ok")
        driver.break_with("UNKNOWN")
        broken = probe.state("broken")
        assert one(broken)["free_bytes"] is None
        assert one(broken)["name"] == "NVIDIA GeForce RTX 4090"
        assert "answers with errors: Unknown" in broken["message"]
        driver.mend()
        assert one(probe.state("ok"))["free_bytes"] == 24 * GIB


def test_a_lost_card_does_not_take_the_others_with_it(driver: SimulatedDriver) -> None:
    driver.gpus([card(0), card(1)])
    with GpuProbe(driver) as probe:
        probe.state("ok")
        driver.break_with("GPU_IS_LOST", uuid=card_uuid(1))
        sample = probe.sample(lambda sample: bool(sample["message"]))
        assert sample["driver"] == "ok"
        assert "(GPU 1) does not answer: the card is no longer reachable" in sample["message"]
        assert [gpu["free_bytes"] for gpu in sample["gpus"]] == [24 * GIB, None]
        driver.mend()
        probe.sample(lambda sample: not sample["message"] and sample["gpus"][1]["free_bytes"] == 24 * GIB)


def test_a_driver_that_was_updated_while_running_says_what_to_do(driver: SimulatedDriver) -> None:
    driver.break_with("LIB_RM_VERSION_MISMATCH", "nvmlInitWithFlags")
    with GpuProbe(driver) as probe:
        assert "Restart the machine" in probe.state("broken")["message"]


# --- hung ------------------------------------------------------------------------------------------------------------


def test_a_hung_call_never_stops_the_loop_and_recovers_when_it_returns(driver: SimulatedDriver) -> None:
    """I4, I10: while the driver hangs, samples go on, with the last figures, their true age, and the state."""
    with GpuProbe(driver, timeout_seconds=1) as probe:
        good = probe.state("ok")
        driver.hang("nvmlDeviceGetUtilizationRates")  # asked after the memory
        hung = probe.state("hung")
        assert "has not answered" in hung["message"]
        later = probe.sample(lambda sample: sample["host"]["taken_at"] > hung["host"]["taken_at"] + 2)
        assert later["driver"] == "hung"
        assert later["taken_at"] == hung["taken_at"] >= good["taken_at"], "the age of the figures shows"
        assert one(later)["free_bytes"] == 24 * GIB

        stale, asked_at = probe.fresh()
        assert stale["driver"] == "hung", "whoever needs a fresh sample is told that there is none"
        assert stale["taken_at"] < asked_at

        driver.foreign(card_uuid(), BLENDER, "blender", 5000)
        driver.resume()
        back = probe.state("ok")
        assert one(back)["used_bytes"] == 5000 * MIB, "asked anew: what the stuck call had read is old"
        facts = probe.facts()
    hung_seconds = later["host"]["taken_at"] - later["taken_at"]
    assert facts["longest_stall_seconds"] < hung_seconds, "the loop was never blocked by the driver"


def test_cards_that_take_long_to_wake_are_not_called_hung(driver: SimulatedDriver) -> None:
    driver.hang("nvmlInitWithFlags")
    with GpuProbe(driver, timeout_seconds=0.1) as probe:
        opening = probe.sample(lambda sample: bool(sample["message"]))
        assert (opening["driver"], opening["message"]) == ("starting", "The NVIDIA driver is being opened.")
        assert opening["host"]["total_bytes"] > 0
        driver.resume()
        probe.state("ok")


def test_one_more_thread_tries_and_brings_the_driver_back(driver: SimulatedDriver) -> None:
    with GpuProbe(driver, timeout_seconds=0.5, replace_seconds=4) as probe:
        probe.state("ok")
        driver.hang("nvmlDeviceGetMemoryInfo_v2")
        probe.state("hung")
        hung_threads = probe.facts()["threads"].count("nvml")
        driver.unblock_new_calls()
        probe.state("ok")
        threads = probe.facts()["threads"].count("nvml")
        driver.resume()
        eventually(
            lambda: probe.facts()["threads"].count("nvml") == 1, what="the old thread ends when its call returns"
        )
    assert (hung_threads, threads) == (1, 2)


def test_stuck_threads_do_not_pile_up(driver: SimulatedDriver) -> None:
    with GpuProbe(driver, timeout_seconds=0.05, replace_seconds=0.05) as probe:
        probe.state("ok")
        driver.hang()
        eventually(lambda: probe.facts()["threads"].count("nvml") == 4)
        since = probe.state("hung")["host"]["taken_at"]
        probe.sample(lambda s: s["host"]["taken_at"] > since + 1)
        assert probe.facts()["threads"].count("nvml") == 4, "and no more, however long it hangs"
        driver.resume()
        probe.state("ok")


def test_the_process_ends_although_a_call_is_stuck(driver: SimulatedDriver) -> None:
    with GpuProbe(driver, timeout_seconds=0.1) as probe:
        probe.state("ok")
        driver.hang()
        probe.state("hung")  # leaving the context waits for a clean end


# --- freshness -------------------------------------------------------------------------------------------------------


def test_fresh_asks_at_once_and_never_returns_an_older_sample(driver: SimulatedDriver) -> None:
    """I4: a load is admitted on what is true now."""
    with GpuProbe(driver, interval_seconds=600) as probe:
        probe.state("ok")
        driver.foreign(card_uuid(), BLENDER, "blender", 9000)
        sample, asked_at = probe.fresh(max_age=0.0)
        assert sample["taken_at"] >= asked_at
        assert one(sample)["used_bytes"] == 9000 * MIB
        driver.foreign(card_uuid(), BLENDER, "blender", 10)
        again, _ = probe.fresh(max_age=600.0)
        assert again["taken_at"] == sample["taken_at"], "young enough"


def test_memory_of_a_dead_engine_is_seen_until_the_card_gives_it_back(
    driver: SimulatedDriver, holder: subprocess.Popen[bytes]
) -> None:
    """I4: no sample reports memory as free before the driver's own release record says so."""
    driver.lag(0.4)
    driver.allocate(holder.pid, card_uuid(), 8 * GIB)
    with GpuProbe(driver) as probe:
        probe.sample(lambda sample: bool(sample["gpus"]) and one(sample)["used_bytes"] == 8 * GIB)
        os.kill(holder.pid, signal.SIGKILL)
        probe.sample(lambda sample: one(sample)["used_bytes"] == 0)
        heard_at = time.monotonic()
    (release,) = driver.releases()
    assert (release["pid"], release["uuid"], release["bytes"]) == (holder.pid, card_uuid(), 8 * GIB)
    assert release["released_at"] == pytest.approx(release["dead_at"] + 0.4)
    assert heard_at >= release["released_at"]


# --- costs nothing ---------------------------------------------------------------------------------------------------


def test_watching_opens_no_cuda_context_and_uses_one_thread(driver: SimulatedDriver) -> None:
    driver.foreign(card_uuid(), BLENDER, "blender", 3000)
    with GpuProbe(driver) as probe:
        sample = probe.state("ok")
        probe.fresh()
        facts = probe.facts()
        pid = probe.process.pid
        assert pid not in [process["pid"] for process in one(sample)["processes"]]
        assert not facts["libcuda"]
        assert [thread["name"] for thread in driver.threads(pid)] == ["nvml"]


def test_the_simulation_stands_below_pynvml(driver: SimulatedDriver) -> None:
    """The rig's own promise: with its environment, the real pynvml loads it as the driver's library, and nothing else changes."""
    code = (
        "import ctypes, pynvml; pynvml.nvmlInit(); h = pynvml.nvmlDeviceGetHandleByIndex(0);"
        "print(pynvml.nvmlDeviceGetUUID(h), pynvml.nvmlDeviceGetMemoryInfo(h).total, ctypes.CDLL(None).getpid() > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=driver.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [card_uuid(), str(24 * GIB), "True"]


# --- the rig's memory ------------------------------------------------------------------------------------------------


def test_a_release_lag_is_random_but_repeatable(tmp_path: Path) -> None:
    lags = []
    for attempt in ("a", "b"):
        driver = SimulatedDriver(tmp_path / attempt)
        driver.gpus([card(0)])
        driver.lag((0.05, 0.3), seed=7)
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            allocate({card_uuid(): GIB}, str(driver.folder), process.pid)
            assert driver.used_bytes(card_uuid()) == GIB
            process.kill()
            process.communicate()
            assert driver.used_bytes(card_uuid()) == GIB, "dead, and not released yet"
            eventually(lambda driver=driver: driver.used_bytes(card_uuid()) == 0)
        lags.append([round(line["released_at"] - line["dead_at"], 6) for line in driver.releases()])
    assert lags[0] == lags[1]
    assert lags[0][0] != lags[0][1]
    assert all(0.05 <= lag <= 0.3 for lag in lags[0])


@pytest.mark.parametrize("listed", [True, False])
def test_memory_that_never_comes_back_is_held_by_the_dead(
    driver: SimulatedDriver, holder: subprocess.Popen[bytes], listed: bool
) -> None:
    """I4: "never" names the holder where the driver still lists it."""
    driver.lag("never", listed=listed)
    driver.allocate(holder.pid, card_uuid(), GIB)
    holder.kill()
    holder.communicate()
    with GpuProbe(driver) as probe:
        gpu = one(probe.state("ok"))
        assert gpu["used_bytes"] == GIB
        assert [process["pid"] for process in gpu["processes"]] == ([holder.pid] if listed else [])
        driver.release(holder.pid)
        probe.sample(lambda sample: one(sample)["used_bytes"] == 0)
    assert len(driver.releases()) == 1


def test_a_later_process_with_the_same_pid_does_not_keep_memory(
    driver: SimulatedDriver, holder: subprocess.Popen[bytes]
) -> None:
    driver.allocate(holder.pid, card_uuid(), GIB)
    assert driver.used_bytes(card_uuid()) == GIB
    path = driver.folder / "allocations" / f"{holder.pid}.json"
    long_ago = time.time() - 3600  # written before this process was born
    os.utime(path, (long_ago, long_ago))
    assert driver.used_bytes(card_uuid()) == 0
