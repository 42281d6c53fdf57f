"""The built-in engine as it really is: the prebuilt package, hosted by our script, on a tiny model (E1, I11, I13, I18)."""

import json
import signal
import threading
import urllib.request
from pathlib import Path

import pytest

from app.core.diagnosis import diagnose
from app.engines.base import Installation
from app.engines.registry import FAMILIES
from tests.engines.launches import command_of, launch
from tests.engines.running import ended, free_port, running, tokens_of
from tests.engines.tiny_model import write_tiny_model
from tests.rig.waiting import eventually

FAMILY = FAMILIES["llama.cpp"]
KEY = "canary-2718"
HELLO = {"model": "tiny", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


def test_it_loads_answers_counts_and_stops_cleanly(embedded_engine: Installation, tiny: Path, tmp_path: Path) -> None:
    port = free_port()
    made = launch(
        "llama.cpp",
        {"context_tokens": 512, "slots": 2, "prompt_cache_mib": 16},
        executable=embedded_engine.executable,
        model_path=str(tiny),
        model_name="tiny",
        port=port,
        physical_cores=2,
        api_key=KEY,
    )
    with running(command_of(made), tmp_path / "run.log", port) as engine:
        assert engine.until_ready(FAMILY.readiness.health_path)[-1] == 200

        status, models = engine.request(FAMILY.readiness.models_path, key=KEY)
        assert status == 200
        assert [model["id"] for model in json.loads(models)["data"]] == ["tiny"], "identity is the name that we gave"
        assert FAMILY.served_context({}, json.loads(models)) == 512, "all slots share the whole context"

        status, stream = engine.request(FAMILY.readiness.generate_path, {**HELLO, "stream": True}, key=KEY)
        assert status == 200
        assert stream.rstrip().endswith("data: [DONE]")
        assert "".join(tokens_of(stream))

        assert FAMILY.traits.metrics_path is not None
        status, metrics = engine.request(FAMILY.traits.metrics_path, key=KEY)
        assert status == 200
        named = {line.split()[0] for line in metrics.splitlines() if not line.startswith("#")}
        assert set(FAMILY.traits.counters.values()) - named <= {"llamacpp:kv_cache_usage_ratio"}

        for path in ("/v1/models", "/metrics", "/props", "/slots"):
            assert engine.request(path)[0] == 401, f"{path} needs the key"
        assert engine.request("/")[0] in (401, 404), "no web page"
        with urllib.request.urlopen(f"{engine.url}/health", timeout=60) as reply:
            assert reply.headers["Access-Control-Allow-Origin"] != "*"
        engine.says("xllamacpp_host: serving")

        def names() -> list[str]:
            return list(dict.fromkeys(s.name for line in engine.log.splitlines() if (s := FAMILY.stage_of(line))))

        eventually(lambda: "first_token" in names(), what="its log is written by a thread of its own")
        assert engine.stop() == 0
        assert names() == ["reading", "weights", "kv_cache", "graphs", "warm_up", "first_token"]
        engine.says("KV buffer size")
        engine.says("compute buffer size")
        assert KEY not in engine.log


def test_its_process_list_entry_tells_the_model_and_no_secret(
    embedded_engine: Installation, tiny: Path, tmp_path: Path
) -> None:
    port = free_port()
    made = launch(
        "llama.cpp",
        executable=embedded_engine.executable,
        model_path=str(tiny),
        model_name="tiny",
        port=port,
        physical_cores=2,
        api_key=KEY,
    )
    with running(command_of(made), tmp_path / "run.log", port) as engine:
        engine.until_ready("/health")
        shown = Path(f"/proc/{engine.process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        assert f"--model {tiny} --alias tiny" in shown
        assert KEY not in shown
        assert int(Path(f"/proc/{engine.process.pid}/oom_score_adj").read_text()) >= 500
        engine.says("xllamacpp_host: serving")  # from here on a stop is a clean one
        assert engine.stop(signal.SIGINT) == 0


def test_a_stop_in_the_middle_of_an_answer_is_clean_too(
    embedded_engine: Installation, tiny: Path, tmp_path: Path
) -> None:
    port = free_port()
    made = launch(
        "llama.cpp",
        {"context_tokens": 100_000, "slots": 1},
        executable=embedded_engine.executable,
        model_path=str(tiny),
        model_name="tiny",
        port=port,
        physical_cores=2,
    )
    with running(command_of(made), tmp_path / "run.log", port) as engine:
        engine.until_ready("/health")
        endless = {**HELLO, "max_tokens": 90_000, "ignore_eos": True, "stream": True}
        body = json.dumps(endless).encode()
        first = threading.Event()

        def read() -> None:
            request = urllib.request.Request(f"{engine.url}/v1/completions", body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=120) as reply:
                    for _ in reply:
                        first.set()
            except OSError:
                pass  # the engine was stopped under it

        body = json.dumps({**endless, "prompt": "hi"}).encode()
        reader = threading.Thread(target=read)
        reader.start()
        assert first.wait(60)
        assert engine.stop() == 0
        reader.join(60)
        assert not reader.is_alive()


def test_every_setting_is_understood_by_the_package(embedded_engine: Installation, tiny: Path, tmp_path: Path) -> None:
    port = free_port()
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}", "utf-8")
    made = launch(
        "llama.cpp",
        {
            "context_tokens": 512,
            "cpu_expert_layers": 1,
            "kv_type_k": "q8_0",
            "kv_type_v": "q8_0",
            "kv_on_gpu": False,
            "flash_attention": "on",
            "batch_tokens": 128,
            "ubatch_tokens": 64,
            "load_mode": "none",
            "repack": False,
            "warm_up": False,
            "split_mode": "none",
            "tensor_split": "3,1",
            "sliding_window_full": True,
            "chat_template_file": str(template),
            "reasoning_format": "none",
            "rope_frequency_base": 20_000.0,
            "rope_frequency_scale": 0.5,
        },
        executable=embedded_engine.executable,
        model_path=str(tiny),
        model_name="tiny",
        port=port,
        physical_cores=2,
    )
    with running(command_of(made), tmp_path / "run.log", port) as engine:
        engine.until_ready("/health")
        props = json.loads(engine.request("/props")[1])
        assert props["chat_template"] == template.read_text("utf-8")
        engine.says("K (q8_0)")
        engine.says("load_mode = none")
        engine.says("flash_attn            = enabled")
        assert "warming up" not in engine.log


@pytest.mark.parametrize(
    ("damage", "kind"),
    [("missing", "model_missing"), ("garbage", "bad_model"), ("cut", "bad_model"), ("flag", "bad_argument")],
)
def test_what_it_cannot_load_ends_it_with_one_clear_line_and_a_cause(
    embedded_engine: Installation, tiny: Path, tmp_path: Path, damage: str, kind: str
) -> None:
    model = tmp_path / "model.gguf"
    match damage:
        case "garbage":
            model.write_bytes(b"<!doctype html>" * 100)
        case "cut":
            model.write_bytes(tiny.read_bytes()[:200_000])
        case "flag":
            model = tiny
    made = launch(
        "llama.cpp",
        executable=embedded_engine.executable,
        model_path=str(model),
        port=free_port(),
        extra_arguments=("--no-such-flag",) if damage == "flag" else (),
    )
    code, log = ended(command_of(made), tmp_path / "run.log")
    assert code == (2 if damage == "flag" else 1)
    assert "Traceback" not in log
    assert [line for line in log.splitlines() if line.startswith("xllamacpp_host")], "its own sentence"
    failure = diagnose(
        enumerate(log.splitlines()),
        run_id="run-1",
        profile_id="demo",
        phase="loading",
        exit_code=code,
        signal=None,
        asked_to_stop=False,
        patterns=FAMILY.failures,
    )
    assert failure.kind == kind, failure.summary


def test_a_taken_port_is_told_before_the_model_is_read(
    embedded_engine: Installation, tiny: Path, tmp_path: Path
) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        made = launch("llama.cpp", executable=embedded_engine.executable, model_path=str(tiny), port=port)
        code, log = ended(command_of(made), tmp_path / "run.log")
    assert code == 1
    assert "couldn't bind" in log
    assert "load_tensors" not in log


def test_health_says_503_while_a_large_file_is_being_read(embedded_engine: Installation, tmp_path: Path) -> None:
    """The port answers from the start, so that a load can be told from a dead engine."""
    large = write_tiny_model(tmp_path / "large.gguf", layers=4, width=1_536)
    port = free_port()
    made = launch(
        "llama.cpp",
        {"load_mode": "none"},
        executable=embedded_engine.executable,
        model_path=str(large),
        port=port,
        physical_cores=2,
    )

    def statuses_on_the_way() -> list[int]:
        with running(command_of(made), tmp_path / "run.log", port) as engine:
            return engine.until_ready("/health")

    # The load takes some tenths of a second; on a busy machine an attempt can miss it.
    assert any(503 in statuses_on_the_way() for _ in range(8))


def test_a_stop_during_the_load_ends_it_at_once(embedded_engine: Installation, tmp_path: Path) -> None:
    large = write_tiny_model(tmp_path / "large.gguf", layers=4, width=1_536)
    port = free_port()
    made = launch(
        "llama.cpp",
        {"load_mode": "none"},
        executable=embedded_engine.executable,
        model_path=str(large),
        port=port,
        physical_cores=2,
    )
    with running(command_of(made), tmp_path / "run.log", port) as engine:
        eventually(lambda: "loading model" in engine.log, 60, "it has begun to load", every=0.001)
        assert engine.stop() in (0, -signal.SIGTERM)
