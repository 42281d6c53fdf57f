"""I11: a failed vLLM explains itself. Each recorded log is the whole output of a real 0.32 that was given that fault."""

import json
from pathlib import Path

import pytest

from app.core.diagnosis import GENERIC, diagnose
from app.core.diagnosis.vllm import VLLM
from app.core.lifecycle import Failure
from app.engines.vllm_options import OPTIONS
from tests.core.test_diagnosis import MEASURED, with_offsets

RECORDED = Path(__file__).parent / "recorded"

GROUPS = {
    "out_of_memory": "oom_kv_cache oom_weights oom_activation_or_profiling oom_at_runtime oom_host_ram"
    " gpu_memory_utilization_too_high_for_free_memory gpu_memory_changed_during_profiling",
    "bad_argument": "unknown_argument bad_argument_value context_exceeds_model_max lora_mismatch tensor_parallel_not_divisible",
    "model_missing": "model_not_found hf_offline_or_network",
    "no_network": "hf_offline_or_network",
    "needs_permission": "hf_gated_or_401",
    "needs_trust": "trust_remote_code_required",
    "bad_model": "corrupt_model_file tokenizer_or_chat_template_missing",
    "unsupported_model": "unsupported_architecture unsupported_quantization",
    "too_few_cards": "not_enough_gpus",
    "driver": "driver_too_old_or_cuda_mismatch gpu_arch_not_supported_by_build no_gpu_found",
    "gpu_fault": "gpu_illegal_memory_access nccl_failure",
    "missing_library": "missing_shared_library triton_or_compiler_missing torch_mismatch/import_error",
    "no_shared_memory": "shm_too_small",
    "timed_out": "timeout_or_hang",
    "port_taken": "port_in_use",
    "no_permission": "permission_denied",
    "disk_full": "disk_full",
    "stopped_outside": "stopped_externally",
    "request_refused": "request_exceeds_context",
    "crashed": "segfault engine_internal_bug bad_request_kills_engine multiprocessing_fork_after_cuda",
}


def why(log: str | bytes, exit_code: int | None = 1) -> Failure:
    return diagnose(
        with_offsets(log if isinstance(log, bytes) else log.encode()),
        run_id="run-1",
        profile_id="demo",
        phase="loading",
        exit_code=exit_code,
        signal=None,
        asked_to_stop=False,
        patterns=VLLM,
    )


@pytest.mark.parametrize(
    ("recording", "exit_code", "kind", "words"),
    [
        ("missing-relative", 1, "model_missing", "./no-such-dir is not there"),
        ("missing-absolute", 1, "model_missing", "/models/not-there is not there"),
        ("hub-offline", 1, "model_missing", "does not download by itself"),
        ("empty-folder", 1, "model_missing", "config.json is not there"),
        ("unknown-flag", 2, "bad_argument", "--bogus 3"),
        ("bad-choice", 2, "bad_argument", "--kv-cache-dtype: invalid choice: 'banana'"),
        ("too-long", 1, "bad_argument", "4096 tokens is longer than the model's own, 2048"),
        ("unknown-architecture", 1, "unsupported_model", "zzama"),
        ("bad-parser", 1, "bad_argument", "tool call parser zzama"),
        ("template-missing", 1, "bad_model", "/not/there.jinja"),
        ("sleep-mode", 1, "bad_argument", "without a graphics card"),
        ("corrupt-header", 1, "bad_model", "header too large"),
        ("truncated", 1, "bad_model", "file not fully covered"),
        ("kv-over-ram", 1, "out_of_memory", "200.0 GiB of main memory"),
        ("kv-too-small", 1, "out_of_memory", "One conversation of 2048 tokens"),
        ("gguf", 1, "unsupported_model", "GGUF"),
        ("port-taken", 1, "port_taken", "port"),
        ("worker-killed", 0, "crashed", "A worker of the engine died while the others went on"),
        ("core-killed", 0, "crashed", "The engine's core died while the others went on"),
    ],
)
def test_each_recorded_failure_ends_in_its_cause(recording: str, exit_code: int, kind: str, words: str) -> None:
    log = (RECORDED / f"vllm-{recording}.log").read_bytes()
    failure = why(log, exit_code)
    assert failure.kind == kind
    assert words in failure.summary
    assert failure.advice
    assert failure.evidence is not None
    line = log[failure.evidence.log_offset :].split(b"\n")[0].decode("utf-8", "replace")
    assert line.startswith(failure.evidence.line[:200]), "the log viewer can jump to the line that proves it"
    assert why(log[-64 * 1024 :], exit_code).summary == failure.summary, "the log's end is all that a diagnosis reads"


@pytest.mark.skipif(not MEASURED.is_file(), reason="the measured failure logs are not beside this checkout")
def test_logs_of_other_peoples_failures_are_grouped_as_a_person_would_act() -> None:
    rows = [json.loads(line) for line in MEASURED.read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["engine"] == "vllm" and row["label"] != "healthy"]
    wrong = [
        f"{row['id']} {row['label']}: {failure.kind}: {failure.summary}"
        for row in rows
        if row["label"] not in GROUPS.get((failure := why(row["log"], row["exit_code"])).kind, "").split()
    ]
    print("\n".join(wrong))
    assert len(wrong) <= 0.05 * len(rows), wrong


def test_the_workers_error_is_the_cause_and_what_the_others_say_after_it_is_not() -> None:
    log = (
        "(Worker pid=3) ERROR 11-21 02:33:46 [multiproc_executor.py:1] ValueError: Available memory on node 0 (20.18/23.54 GiB) "
        "on kv cache allocation is less than requested memory for kv (200.0 GiB). Decrease it.\n"
        "(EngineCore pid=2) ERROR 11-21 02:33:47 [core.py:1] RuntimeError: Worker failed with error 'Available memory'\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}\n"
        "resource_tracker: There appear to be 2 leaked shared_memory objects to clean up at shutdown\n"
        "Killed\n"
    )
    failure = why(log, exit_code=0)
    assert failure.kind == "out_of_memory"
    assert failure.summary == "The KV cache shall have 200.0 GiB of main memory, and 20.18 of 23.54 GiB are free."
    assert failure.evidence is not None
    assert failure.evidence.log_offset == 0


def test_a_crash_that_ends_with_zero_is_a_crash() -> None:
    failure = why(
        "(APIServer pid=1) ERROR 11-21 02:34:49 [core_client.py:1] Engine core proc EngineCore_DP0 died unexpectedly", 0
    )
    assert failure.kind == "crashed"
    assert "died while the others went on" in failure.summary
    worker = (
        "(EngineCore pid=2) ERROR 11-21 13:33:06 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly "
        "(exit code: -9), shutting down executor.\n"
        '(EngineCore pid=2) ERROR 11-21 13:33:06 [core.py:1512]   File "/x/shm_broadcast.py", line 867, in acquire_read\n'
        "(EngineCore pid=2) ERROR 11-21 13:33:06 [core.py:1512] RuntimeError: cancelled\n"
    )
    assert why(worker, 0).summary == "A worker of the engine was ended by signal 9."
    path = (
        'zmq.error.ZMQError: ipc path "/a/long/folder/3911d98c-81f7" is longer than 107 characters (sizeof(sun_path)).'
    )
    assert "too long for the engine's sockets: /a/long/folder." in why(path).summary
    assert why("INFO:     Application shutdown complete.", 0).kind == "crashed", "not asked to stop means not well"


@pytest.mark.parametrize("row", VLLM, ids=lambda row: row.pattern[:40])
def test_every_row_ends_in_a_sentence_and_says_what_to_do(row: object) -> None:
    assert row in VLLM
    assert row.summary.endswith("."), row.summary  # type: ignore[attr-defined]
    assert row.advice.endswith("."), row.advice  # type: ignore[attr-defined]
    known = {option.name for option in OPTIONS}
    for remedy in row.remedies:  # type: ignore[attr-defined]
        assert set(remedy.settings) <= known
    assert row not in GENERIC
