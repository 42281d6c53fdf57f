"""Long work in words: one form for installations, comparisons and what brings a model, whatever its state."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from app.core.snapshot import Job
from app.ui.jobs import words

MIB = 1024**2
PULL = Job(id="a", title="Qwen GGUF Q4_K_M", kind="pull", subject="acme/Qwen-GGUF", state="running")
OLLAMA = Job(id="b", title="Fetching llama3.2:3b with Ollama", kind="ollama", subject="llama3.2:3b", state="running")
INSTALL = Job(id="c", title="Installing vLLM 0.11", kind="install", subject="vllm", state="running")


@pytest.mark.parametrize(
    ("job", "state", "heading", "detail", "again"),
    [
        (PULL, "running", "Qwen GGUF Q4_K_M", "Starting …", ""),
        (PULL, "paused", "Qwen GGUF Q4_K_M", "Paused. What has come stays.", "Resume"),
        (PULL, "failed", "Qwen GGUF Q4_K_M could not be downloaded", "", "Resume"),
        (PULL, "done", "Qwen GGUF Q4_K_M is here", "Checked, and in the list of models.", ""),
        (OLLAMA, "running", "llama3.2:3b", "Starting …", ""),
        (OLLAMA, "failed", "llama3.2:3b could not be downloaded", "", "Try again"),
        (OLLAMA, "cancelled", "llama3.2:3b", "Cancelled. Ollama keeps what has come.", "Try again"),
        (OLLAMA, "done", "llama3.2:3b is here", "In Ollama’s store, and in the list of models.", ""),
        (INSTALL, "cancelled", "Installing vLLM 0.11", "Cancelled. Nothing was left behind.", ""),
        (INSTALL, "failed", "Installing vLLM 0.11 failed", "", ""),
    ],
)
def test_each_end_is_told_and_gone_on_with_where_it_can_be(
    job: Job, state: str, heading: str, detail: str, again: str
) -> None:
    job = replace(job, state=state)
    assert (words.heading(job), words.detail(job), words.going_on(job)) == (heading, detail, again)


def test_what_an_installation_says_at_its_end_is_said_once() -> None:
    done = replace(INSTALL, state="done", detail="Installed, and its first answer came.")
    assert (words.heading(done), words.detail(done)) == ("Installed, and its first answer came", "")


def test_figures_are_bytes_or_steps_and_a_short_time() -> None:
    loading = replace(PULL, bytes_done=10 * MIB, bytes_total=40 * MIB, eta_seconds=30.0)
    assert words.figures(loading) == "10.0 of 40.0 MiB · about 30 s left"
    assert words.figures(replace(loading, state="paused")) == "10.0 of 40.0 MiB", "nobody knows when"
    assert words.figures(replace(INSTALL, steps_done=3, steps_total=1_200, eta_seconds=540.0)) == (
        "step 3 of 1,200 · about 9 min left"
    )
    assert words.figures(replace(loading, state="done")) == ""


def test_only_what_comes_from_the_hub_can_be_paused() -> None:
    assert [words.can_pause(job) for job in (PULL, OLLAMA, INSTALL)] == [True, False, False]
    assert not words.can_pause(replace(PULL, state="paused"))
