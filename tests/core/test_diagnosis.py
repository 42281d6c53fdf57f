"""I11: a failure explains itself. Each recorded log is the whole output of a real engine that was given that fault."""

import json
import re
from pathlib import Path

import pytest

from app.core.diagnosis import GENERIC, FailurePattern, diagnose
from app.core.diagnosis.llama_cpp import LLAMA_CPP, LLAMA_CPP_PYTHON
from app.core.lifecycle import Failure

RECORDED = Path(__file__).parent / "recorded"
MEASURED = Path(__file__).resolve().parents[3] / "shared" / "data" / "failure_logs.jsonl"
ALL = (*LLAMA_CPP_PYTHON, *LLAMA_CPP)


def with_offsets(log: bytes) -> list[tuple[int, str]]:
    lines, offset = [], 0
    for line in log.splitlines(keepends=True):
        lines.append((offset, line.decode("utf-8", "replace")))
        offset += len(line)
    return lines


def why(
    log: str | bytes, *, exit_code: int | None = 1, signal: int | None = None, asked_to_stop: bool = False
) -> Failure:
    return diagnose(
        with_offsets(log if isinstance(log, bytes) else log.encode()),
        run_id="run-1",
        profile_id="demo",
        phase="loading",
        exit_code=exit_code,
        signal=signal,
        asked_to_stop=asked_to_stop,
        patterns=ALL,
    )


@pytest.mark.parametrize(
    ("recording", "kind", "words", "proof"),
    [
        ("native-missing", "model_missing", "missing.gguf", "No such file or directory"),
        ("native-garbage", "bad_model", "not a GGUF file", "invalid magic characters"),
        ("native-cut-header", "bad_model", "header cannot be read", "failed to read key-value pairs"),
        ("native-cut-data", "bad_model", "blk.0.ffn_down.weight", "not within the file bounds"),
        ("native-zzama", "unsupported_model", "zzama", "unknown model architecture: 'zzama'"),
        ("native-port", "port_taken", "18570", "couldn't bind HTTP server socket"),
        ("native-bogus-flag", "bad_argument", "--bogus 3", "unrecognized arguments"),
        ("native-quantised-v", "bad_argument", "flash attention", "quantized V cache requires flash_attn"),
        ("native-huge-context", "out_of_memory", "KV cache does not fit", "failed to allocate buffer for kv cache"),
        ("native-lora", "bad_argument", "absent-lora.gguf", "llama_adapter_lora_init: failed to open"),
        ("native-mmproj", "model_missing", "absent-mmproj.gguf", "failed to open GGUF file"),
        ("native-no-package", "missing_library", "xllamacpp", "cannot be loaded"),
        ("python-missing", "model_missing", "missing.gguf", "Model path does not exist"),
        ("python-garbage", "bad_model", "not a GGUF file", "invalid magic characters"),
        ("python-cut-header", "bad_model", "header cannot be read", "failed to read key-value pairs"),
        ("python-cut-data", "bad_model", "blk.0.ffn_down.weight", "not within the file bounds"),
        ("python-zzama", "unsupported_model", "zzama", "unknown model architecture: 'zzama'"),
        ("python-port", "port_taken", "taken by another process", "[Errno 98]"),
        ("python-bogus-flag", "bad_argument", "--bogus 3", "unrecognized arguments"),
        ("python-quantised-v", "bad_argument", "flash attention", "quantized V cache requires flash_attn"),
        ("python-huge-context", "out_of_memory", "KV cache does not fit", "failed to allocate buffer for kv cache"),
    ],
)
def test_a_real_engines_last_output_names_the_cause_and_the_line_that_proves_it(
    recording: str, kind: str, words: str, proof: str
) -> None:
    log = (RECORDED / f"{recording}.log").read_bytes()
    failure = why(log)
    assert failure.kind == kind
    assert words in failure.summary
    assert failure.advice
    assert failure.evidence is not None
    assert proof in failure.evidence.line
    at_the_offset = log[failure.evidence.log_offset :].split(b"\n", 1)[0].decode()
    assert at_the_offset == failure.evidence.line, "the evidence is the byte where the telling line begins"
    assert "{" not in failure.summary + failure.advice


def test_the_first_telling_line_wins_over_the_generic_one_at_the_end() -> None:
    failure = why(
        "E gguf_init_from_reader: invalid magic characters: 'PK'\n"
        "E srv    load_model: failed to load model, 'x.gguf'\n"
        "E main: exiting due to model loading error\n"
    )
    assert failure.evidence is not None
    assert failure.evidence.log_offset == 0


def test_what_an_allocation_was_for_is_told_although_the_driver_speaks_first() -> None:
    failure = why(
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4480.00 MiB on device 0: cudaMalloc failed: out of memory\n"
        "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache\n"
    )
    assert "KV cache" in failure.summary
    assert failure.remedies[0].settings == {"context_tokens": 4_096}


def test_a_run_that_was_asked_to_stop_has_not_failed() -> None:
    failure = why("Segmentation fault\n", exit_code=None, signal=15, asked_to_stop=True)
    assert failure.kind == "cancelled"
    assert failure.evidence is None


@pytest.mark.parametrize(
    ("signal", "kind", "words"),
    [
        (9, "out_of_memory", "most likely because main memory ran out"),
        (4, "illegal_instruction", "newer processor"),
        (11, "crashed", "SIGSEGV"),
        (6, "crashed", "SIGABRT"),
        (7, "bad_model", "drive"),
        (15, "killed", "outside Engine Room"),
        (63, "crashed", "signal 63"),
    ],
)
def test_a_silent_end_by_a_signal_is_put_into_words(signal: int, kind: str, words: str) -> None:
    failure = why("llama_kv_cache:        CPU KV buffer size = 19531.50 MiB\n", exit_code=None, signal=signal)
    assert failure.kind == kind
    assert words in failure.summary
    assert failure.evidence is not None
    assert "19531.50" in failure.evidence.line, "the last words of the engine are the evidence"


def test_a_kill_after_a_real_error_is_not_blamed_on_memory() -> None:
    failure = why("CUDA error: an illegal memory access was encountered\n", exit_code=None, signal=9)
    assert failure.kind == "gpu_fault"


def test_an_unknown_end_shows_the_first_line_that_looks_like_an_error() -> None:
    failure = why("all is well\nptrace: failed\nflux capacitor: cannot start\nbye\n", exit_code=42)
    assert failure.kind == "crashed"
    assert "exit code 42" in failure.summary
    assert failure.evidence is not None
    assert failure.evidence.line == "flux capacitor: cannot start"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("llama-server: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file", "NVIDIA driver"),
        ("RuntimeError: Failed to load shared library 'libllama.so': libcuda.so.1: cannot open shared object file", "NVIDIA driver"),
        ("OSError: libvulkan.so.1: cannot open shared object file: No such file or directory", "Vulkan loader"),
    ],
)  # fmt: skip
def test_a_drivers_library_that_is_missing_is_about_the_driver_and_not_about_the_engine(line: str, words: str) -> None:
    """A real build against the toolkit's stand-in for libcuda ends so where no driver is."""
    failure = why(line + "\n", exit_code=127)
    assert failure.kind == "driver"
    assert words in failure.summary
    assert "install the engine again" not in failure.advice.lower()
    assert (
        why(line.replace("libcuda.so.1", "libcudart.so.13").replace("libvulkan", "libother")).kind == "missing_library"
    )


def test_an_empty_log_still_gives_a_sentence() -> None:
    failure = why("", exit_code=127)
    assert failure.kind == "missing_library"
    assert failure.evidence is None


def test_fifty_last_lines_are_kept_without_colours_and_a_line_of_a_megabyte_is_cut() -> None:
    log = "".join(f"\x1b[31mline {n}\x1b[0m\n" for n in range(200)) + "x" * 1_000_000 + "\n"
    last = why(log).last_lines
    assert len(last) == 50
    assert last[0] == "line 151"
    assert len(last[-1]) <= 2_000


def test_text_from_a_log_is_never_taken_for_a_placeholder() -> None:
    failure = why("E gguf_init_from_file: failed to open GGUF file '{reason}{0}' (no)\n")
    assert "{0}" in failure.summary


def test_no_row_explains_a_healthy_start() -> None:
    log = (RECORDED / "healthy.log").read_bytes()
    assert [row.kind for row in (*ALL, *GENERIC) for line in log.decode().splitlines() if row.match(line)] == []


def test_every_row_is_complete_and_fills_its_own_placeholders() -> None:
    for row in (*ALL, *GENERIC):
        assert row.summary.endswith("."), row
        assert row.advice.endswith("."), row
        names = set(FailurePattern.match(row, "") or {}) | set(re.compile(row.pattern).groupindex)
        said = set(re.findall(r"\{(\w+)\}", row.summary + row.advice))
        assert said <= names, row


@pytest.mark.skipif(not MEASURED.is_file(), reason="the measured failure logs are not beside this checkout")
def test_logs_of_other_peoples_failures_are_grouped_as_a_person_would_act() -> None:
    groups = {
        "out_of_memory": "oom_kv_cache oom_weights oom_compute_buffer oom_host_ram oom_at_runtime",
        "model_missing": "model_not_found",
        "bad_model": "corrupt_model_file tokenizer_or_chat_template_missing",
        "unsupported_model": "corrupt_model_file gguf_engine_version_mismatch tokenizer_or_chat_template_missing"
        " unsupported_architecture",
        "driver": "driver_too_old_or_cuda_mismatch gpu_arch_not_supported_by_build",
        "gpu_fault": "gpu_illegal_memory_access gpu_math_library_error engine_internal_bug",
        "missing_library": "missing_shared_library triton_or_compiler_missing",
        "port_taken": "port_in_use",
        "bad_argument": "unknown_argument bad_argument_value",
        "crashed": "segfault engine_internal_bug",
    }
    rows = [json.loads(line) for line in MEASURED.read_text("utf-8").splitlines()]
    rows = [r for r in rows if r["engine"] in ("llama-server", "llama-cpp-python") and r["label"] != "healthy"]
    right = [r["label"] in groups.get(why(r["log"], exit_code=r["exit_code"]).kind, "").split() for r in rows]
    share = sum(right) / len(rows)
    print(f"grouped rightly: {sum(right)} of {len(rows)}")
    assert share >= 0.85
