"""An engine is asked what it is in a process of its own, which can do no harm: it hangs, crashes and prints to its own cost."""

import os
import resource
import signal
import sys
import threading
from pathlib import Path

import pytest

from app.core.profiles import Profile
from app.daemon.asking import Answer, Stopped, ask
from app.daemon.engine_probe import (
    FactsFile,
    devices_of,
    flags_of,
    known_flags,
    learn,
    refusal,
    version_of,
    with_facts,
)
from app.daemon.flag_check import unknown_to, warning_of
from app.daemon.installations import native
from app.engines.base import Installation
from tests.rig.programs import HELP, asked, write_llama_server, write_script
from tests.rig.waiting import eventually

PLAIN = {"PATH": os.environ["PATH"]}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "llama-server"


def facts_of(program: Path, seconds: float = 60.0):
    return learn(native(program, "path"), PLAIN, seconds=seconds)


# --- words -----------------------------------------------------------------------------------------------------------


def test_a_help_of_either_kind_gives_its_flags() -> None:
    assert flags_of(HELP) == {
        *(
            "-h",
            "--help",
            "--usage",
            "--version",
            "-t",
            "--threads",
            "-kvo",
            "--kv-offload",
            "-nkvo",
            "--no-kv-offload",
        ),
        *("-fa", "--flash-attn", "-m", "--model", "--lora", "--port", "--metrics", "--list-devices"),
    }
    argparse_help = (
        "usage: x [-h] --model MODEL\n\noptions:\n  -h, --help            show this help\n"
        "  --flash-attn {auto,on,off}, -fa {auto,on,off}\n  --n_ctx N_CTX         The context size. (default: --2048)\n"
    )
    assert flags_of(argparse_help) == {"-h", "--help", "--flash-attn", "-fa", "--n_ctx"}


@pytest.mark.parametrize(
    ("said", "version", "build"),
    [
        ("version: 7000 (abcdef12)\nbuilt with cc", "b7000", "b7000 (abcdef12)"),
        ("warning: x\nversion: 0.5.0-dev (build 0, commit 0c1e57098ff)\n", "0.5.0-dev", "0.5.0-dev (0c1e57098)"),
        ("version: 0.6.1 (build 9123, commit unknown)\n", "0.6.1", "0.6.1 (b9123, unknown)"),
        ("my own fork, evening build", "", ""),
    ],
)
def test_versions_old_new_and_none(said: str, version: str, build: str) -> None:
    assert version_of(said) == (version, build)


def test_devices_are_named_as_the_engine_lists_them() -> None:
    text = "ggml_cuda_init: found 1\nAvailable devices:\n  CUDA0: NVIDIA RTX 4090 (24080 MiB, 23000 MiB free)\n"
    assert devices_of(text) == ("CUDA0: NVIDIA RTX 4090",)
    assert devices_of("Available devices:\n  (none)\n") == ()


# --- good and bad engines --------------------------------------------------------------------------------------------


def test_a_good_engine_tells_version_devices_features_and_flags(program: Path) -> None:
    write_llama_server(program)
    told = with_facts(native(program, "path"), facts_of(program))
    assert (told.version, told.build) == ("0.5.0", "0.5.0 (b9001, 0c1e57098)")
    assert told.devices == ("CUDA0: NVIDIA GeForce RTX 4090",)
    assert told.features == ("metrics", "lora")
    assert (told.problem, told.note) == ("", "")
    flags = known_flags(native(program, "path"), PLAIN)
    assert flags is not None
    assert "--flash-attn" in flags
    assert "--not-a-flag" not in flags


def test_a_help_that_hangs_costs_its_flags_only(program: Path) -> None:
    write_llama_server(program, help_text="sleep 1000")
    facts = facts_of(program, seconds=5.0)
    assert (facts.version, facts.flags, facts.problem) == ("0.5.0", None, "")
    assert "asked for its flags, it did not answer" in facts.note.lower()
    assert not facts.lasting, "it is asked again another time"


def test_a_service_with_many_open_connections_can_still_ask(program: Path) -> None:
    write_llama_server(program)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("this account may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert facts_of(program).flags
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_hanging_engine_leaves_no_process_of_its_session(program: Path, tmp_path: Path) -> None:
    """I1: what the engine started goes with it."""
    write_llama_server(program, version=f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    answer = ask((str(program), "--version"), PLAIN, seconds=5.0)
    assert answer.code is None
    child = int((tmp_path / "child").read_text())
    eventually(lambda: not Path(f"/proc/{child}").exists() or _is_dead(child), 60, "the child has ended")


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_what_an_engine_leaves_running_is_ended_and_does_not_hold_us(program: Path, tmp_path: Path) -> None:
    """I1: it answers and ends, but a child of it keeps the pipe open."""
    write_llama_server(program, version=f"sleep 1000 & echo $! > {tmp_path}/child; echo 'version: 7000 (a)'; exit 0")
    answer = ask((str(program), "--version"), PLAIN)
    assert (answer.code, version_of(answer.text)[0]) == (0, "b7000")
    child = int((tmp_path / "child").read_text())
    eventually(lambda: _is_dead(child), 60, "the child has ended")


def test_a_help_of_ten_megabytes_is_cut_off(program: Path) -> None:
    write_llama_server(program, help_text="head -c 10000000 /dev/zero | tr '\\0' 'x'")
    answer = ask((str(program), "--help"), PLAIN)
    assert len(answer.text) <= 1024**2
    assert "printed more than 1024 KiB" in answer.why
    facts = facts_of(program)
    assert (facts.version, facts.flags) == ("0.5.0", None)
    assert "printed more than" in facts.note


def test_a_missing_instruction_is_told_as_such(program: Path) -> None:
    write_llama_server(program, version="kill -ILL $$")
    assert facts_of(program).problem == "it needs CPU instructions that this processor lacks."
    told = with_facts(native(program, "path"), facts_of(program))
    assert told.problem == "It needs CPU instructions that this processor lacks."


def test_a_crash_names_its_signal(program: Path) -> None:
    write_llama_server(program, version="kill -SEGV $$")
    assert "SIGSEGV" in facts_of(program).problem


def test_a_missing_library_is_quoted(program: Path) -> None:
    line = "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file"
    write_llama_server(program, version=f"echo '{line}' >&2; exit 127")
    assert "libcudart.so.12" in facts_of(program).problem


def test_a_build_for_cards_that_finds_none_says_that_it_computes_on_the_processor(program: Path) -> None:
    """It starts well and answers, slowly; the driver may come later, without a change to the engine's files."""
    write_llama_server(program, devices="echo 'Available devices:'; echo '  (none)'")
    row = Installation(family="llama-server", executable=str(program), id="x", accelerator="vulkan")
    facts = learn(row, PLAIN)
    assert facts.note.startswith("It finds no device for VULKAN, so models run on the processor")
    assert "vulkaninfo" in facts.note
    assert not facts.lasting, "it is asked again when somebody looks"
    processor = learn(Installation(family="llama-server", executable=str(program), id="x"), PLAIN)
    assert (processor.note, processor.lasting) == ("", True), "a build for the processor lacks nothing"
    write_llama_server(program, devices="exit 3")
    assert "finds no device" not in learn(row, PLAIN).note, "whoever does not tell may well have one"


def test_an_engine_that_only_fails_is_no_engine(program: Path) -> None:
    write_script(program, "echo 'error: the moon is full' >&2; exit 1")
    assert facts_of(program).problem == "it does not even tell its version: error: the moon is full."


def test_an_engine_without_version_but_with_help_works_with_a_note(program: Path) -> None:
    write_llama_server(program, version="exit 1")
    facts = facts_of(program)
    assert facts.problem == ""
    assert facts.flags is not None
    assert facts.note == "Asked for its version, it ends with 1."


def test_a_file_that_is_no_program_is_told(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(b"\x7fELF nothing else")
    program.chmod(0o755)
    assert "cannot be executed" in facts_of(program).problem


def test_a_python_engine_whose_module_is_broken_is_told(tmp_path: Path) -> None:
    python = write_script(tmp_path / "bin" / "python", "echo 'ImportError: libcudart.so.12: cannot open' >&2; exit 1")
    row = Installation(family="llama-cpp-python", executable=str(python), id="x")
    assert "libcudart.so.12" in learn(row, PLAIN).problem


def test_the_hosted_engine_tells_the_flags_of_its_host(tmp_path: Path) -> None:
    """It has no command line of its own; ours prints its parser's help in the engine's interpreter, without the engine."""
    python = write_script(
        tmp_path / "bin" / "python",
        f'case "$2" in -c) echo "Available devices:";; *) exec "{sys.executable}" -S "$@";; esac',
    )
    flags = known_flags(Installation(family="llama.cpp", executable=str(python), id="x"), PLAIN)
    assert flags is not None
    assert {"--model", "--ctx-size", "--flash-attn"} <= flags


VLLM_HELP = """usage: vllm serve [model_tag] [options]

options:
  --host HOST           Host name. (default: None)
  -h, --help            show this help message and exit

ModelConfig:
  --max-model-len MAX_MODEL_LEN
                        Model context length. Unlike --no-such-flag it is
                        a flag. (default: None)
  --compilation-config COMPILATION_CONFIG, -O COMPILATION_CONFIG
                        torch.compile. (default: 0)
  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE
                        (default: 1)
"""
REFUSES_THE_WORD = (
    """*=all) echo "vllm serve: error: argument -h/--help: ignored explicit argument 'all'" >&2; exit 2;;"""
)


@pytest.mark.parametrize("first", ["", REFUSES_THE_WORD], ids=["of today", "old"])
def test_what_a_vllm_is_too_old_or_too_new_for_is_told_before_it_starts(tmp_path: Path, first: str) -> None:
    """It refuses a flag that it does not know only after seconds of imports."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.with_name("help").write_text(VLLM_HELP)
    write_script(python, f'case "$5" in {first} --help*) cat "{python.with_name("help")}";; *) exit 9;; esac')
    row = Installation(family="vllm", executable=str(python), id="x")
    profile = Profile(
        id="x",
        engine="vllm",
        title="X",
        model="/m",
        settings={"finish_seconds": 5, "context_tokens": 512},
        extra_arguments=(
            *("--tensor_parallel_size=1", "-tp", "1", "-O3", "-O.level", "2", "--compilation-config.level=3"),
            *("--swap-space=4", "--guided_decoding_backend", "xgrammar"),
        ),
    )
    unknown = unknown_to(row, profile, lambda row: known_flags(row, PLAIN))
    assert unknown == ("--shutdown-timeout", "--swap-space", "--guided_decoding_backend")
    assert "does not name --shutdown-timeout, --swap-space" in warning_of(unknown, "vLLM")


def test_a_vllm_that_cannot_tell_its_flags_is_no_problem_yet(tmp_path: Path) -> None:
    """Whether it starts is seen, and told better, when it is loaded; it is asked again."""
    python = write_script(tmp_path / "bin" / "python", "echo 'ImportError: libcudart.so.12: cannot open' >&2; exit 1")
    facts = learn(Installation(family="vllm", executable=str(python), id="x"), PLAIN)
    assert (facts.problem, facts.flags, facts.lasting) == ("", None, False)


# --- safety ----------------------------------------------------------------------------------------------------------


def test_no_secret_and_no_switch_of_ours_reaches_the_engine(program: Path) -> None:
    """I18"""
    write_llama_server(program, version="env")
    environment = {**PLAIN, "HF_TOKEN": "hf_secret", "LLAMA_ARG_MODEL": "x", "OPENAI_API_KEY": "sk-secret"}
    said = ask((str(program), "--version"), environment).text
    assert "PATH=" in said
    assert "secret" not in said
    assert "LLAMA_ARG" not in said


def test_asking_is_ended_from_outside(program: Path) -> None:
    write_llama_server(program, version="sleep 1000")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        ask((str(program), "--version"), PLAIN, stop=stop)


def test_a_question_ends_with_whoever_asked(program: Path, tmp_path: Path) -> None:
    """I1: when we are killed, the engine that we ask ends too."""
    write_llama_server(program, version=f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    asker = os.fork()
    if asker == 0:
        try:
            ask((str(program), "--version"), PLAIN)
        finally:
            os._exit(0)
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 60, "it was asked")
    asked = int((tmp_path / "pid").read_text())
    assert not _is_dead(asked), "it would go on for long"
    os.kill(asker, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(asker, 0)[1]) == signal.SIGKILL, "it had no time to clean up"
    eventually(lambda: _is_dead(asked), 60, "it has ended")


@pytest.mark.parametrize(("code", "words"), [(0, ""), (1, ""), (-4, "instructions"), (132, "instructions"), (127, "x")])
def test_exit_codes_that_mean_it_cannot_run(code: int, words: str) -> None:
    said = refusal(Answer(text="x", code=code))
    assert (words in said) if words else said == ""


# --- remembering -----------------------------------------------------------------------------------------------------


def test_an_engine_is_asked_once_until_its_file_changes(program: Path, tmp_path: Path) -> None:
    write_llama_server(program)
    file, never = tmp_path / "cache" / "facts.json", threading.Event()
    row = native(program, "path")
    first = FactsFile(file, PLAIN)
    assert first.of(row) is None
    learnt = first.learn(row, never)
    times = len(asked(program))
    again = FactsFile(file, PLAIN)
    assert again.of(row) == learnt
    assert len(asked(program)) == times
    write_llama_server(program, version="echo 'version: 9999 (b)'")
    os.utime(program, ns=(1, 1))
    assert again.of(row) is None


def test_a_failure_is_not_remembered_for_ever(program: Path, tmp_path: Path) -> None:
    """The missing library may be installed tomorrow, and the program's own file does not change by that."""
    write_llama_server(program, version="exit 127")
    file, row = tmp_path / "facts.json", native(program, "path")
    facts = FactsFile(file, PLAIN)
    assert facts.learn(row, threading.Event()).problem
    assert facts.of(row) is not None, "but not asked again at each look"
    facts.forget_failures()
    assert facts.of(row) is None
    assert FactsFile(file, PLAIN).of(row) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"form": 0, "rows": {}}', b"\x00\xff"])
def test_a_broken_memory_costs_a_question_only(program: Path, tmp_path: Path, content: bytes) -> None:
    write_llama_server(program)
    file = tmp_path / "facts.json"
    file.write_bytes(content)
    assert FactsFile(file, PLAIN).of(native(program, "path")) is None
