"""Defines the engine family `ollama`: one that runs already, which is asked to load and unload, or `ollama serve` of our own.

Its traps, read in its source (August 2026): the OpenAI routes take no load options, and a request whose options differ from
the loaded ones loads the model anew, so options are laid into a model of their own that shares the weights; without a
context it takes 4,096 tokens on a small card and cuts longer prompts silently; unloading is a load with keep_alive 0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial

from app.core.catalog.ollama import LAID_OVER
from app.core.errors import SettingInvalid
from app.core.ollama_options import OPENAI
from app.core.options import Option, OptionKind, Preset, Scalar
from app.engines.arguments import checked_settings, environment
from app.engines.base import Command, FailurePattern, Launch, Readiness, Stage, Traits, Trial
from app.engines.native_options import group

KV_TYPES = ("f16", "q8_0", "q4_0")
SCRUB = ("OLLAMA_*", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GGML_*", "LLAMA_*")

whole = partial(Option, kind=OptionKind.INTEGER)
switch = partial(Option, kind=OptionKind.SWITCH)

# Profile's name → Ollama's, for what is decided when a model is loaded.
NAMES = {
    "context_tokens": "num_ctx",
    "gpu_layers": "num_gpu",
    "threads": "num_thread",
    "batch_tokens": "num_batch",
    "main_gpu": "main_gpu",
    "use_mmap": "use_mmap",
}

# fmt: off
MODEL = group(
    "Context and memory",
    whole(name="context_tokens", title="Context", minimum=64, maximum=10_000_000, unit="tokens",
        sentence="How many tokens of conversation the model can see (num_ctx). Left alone, Ollama may take only 4,096."),
    whole(name="gpu_layers", title="Layers on the card", minimum=0, maximum=999, unit="layers",
        sentence="How many of the model's layers go to the graphics card (num_gpu); left alone, as many as fit."),
    advanced=(
        whole(name="main_gpu", title="Main card", minimum=0, maximum=15, sentence="Which card takes what cannot be divided (main_gpu)."),
        switch(name="use_mmap", title="Map the file", sentence="Map the model's file into memory instead of reading it (use_mmap)."),
    ),
)
SPEED = group(
    "Speed",
    whole(name="threads", title="Threads", minimum=1, maximum=1_024, sentence="Processor threads (num_thread)."),
    whole(name="batch_tokens", title="Batch", minimum=1, maximum=65_536, unit="tokens", sentence="Prompt tokens computed at once (num_batch)."),
)
SERVER = group(
    "Server",
    whole(name="slots", title="Answers at once", environment="OLLAMA_NUM_PARALLEL", minimum=1, maximum=64,
        sentence="How many requests are answered at once. Only of an Ollama that Engine Room starts."),
    Option(name="kv_type", kind=OptionKind.CHOICE, title="KV cache", environment="OLLAMA_KV_CACHE_TYPE", choices=KV_TYPES,
        sentence="Number format of the KV cache. Only of an Ollama that Engine Room starts."),
    switch(name="flash_attention", title="Flash attention", environment="OLLAMA_FLASH_ATTENTION",
        sentence="Compute attention without its large tables. Only of an Ollama that Engine Room starts."),
    advanced=(
        Option(name="models_folder", kind=OptionKind.PATH, folder=True, title="Store", environment="OLLAMA_MODELS",
            sentence="Where its models lie, when not in the usual place. Only of an Ollama that Engine Room starts."),
    ),
)
# fmt: on
OPTIONS: tuple[Option, ...] = (*MODEL, *SPEED, *SERVER)
_OF_THE_SERVER = tuple(option.name for option in SERVER)

# What every Ollama of ours is started with: one model, the loopback, no cloud, and nothing of the store is tidied away.
ALWAYS = {
    "OLLAMA_MAX_LOADED_MODELS": "1",
    "OLLAMA_KEEP_ALIVE": "-1",
    "OLLAMA_NO_CLOUD": "1",
    "OLLAMA_NOPRUNE": "1",
    "OLLAMA_ORIGINS": "http://localhost.invalid",
}

_STAGES: tuple[tuple[re.Pattern[str], Stage], ...] = (
    (re.compile(r"Listening on "), Stage(name="reading", progress=0.05)),
    (re.compile(r"starting (llama )?runner|starting llama-server|loading model"), Stage(name="weights", progress=0.2)),
    (re.compile(r"runner started|model loaded"), Stage(name="warm_up", progress=0.9)),
)


class Ollama:
    id = "ollama"
    title = "Ollama"
    presets: tuple[Preset, ...] = ()
    readiness = Readiness(health_path="/api/version")
    traits = Traits(model_by_name=True, ollama_options=OPENAI)
    failures: tuple[FailurePattern, ...] = ()

    def __init__(self, options: tuple[Option, ...] = OPTIONS) -> None:
        self.options = options

    def effective_settings(self, launch: Launch) -> dict[str, Scalar]:
        """Raises SettingInvalid for what only a server of ours could be told, when it is somebody else's."""
        values = checked_settings(launch.profile, self.options, self.title, launch.installation.version)
        others = [name for name in _OF_THE_SERVER if name in values]
        if launch.installation.is_address and others:
            raise SettingInvalid(
                f"Profile {launch.profile.id}: settings.{others[0]} is decided when Ollama starts, and "
                f"{launch.installation.executable} runs already.",
                "Take it out, or let Engine Room start an Ollama of its own: name its program as `installation`.",
            )
        return values

    def command(self, launch: Launch) -> Command:
        values = self.effective_settings(launch)
        if launch.installation.is_address:
            raise no_command(launch)
        said = {**ALWAYS, **environment(self.options, values), "OLLAMA_HOST": f"{launch.host}:{launch.port}"}
        if launch.profile.gpus:
            said |= {"CUDA_VISIBLE_DEVICES": ",".join(launch.profile.gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        argv = (launch.installation.executable, "serve", *launch.profile.extra_arguments)
        return Command(argv=argv, environment=said | launch.profile.environment, scrub=SCRUB)

    def trial(self, launch: Launch) -> Trial:
        return Trial()

    def kv_cache_usage(self, slots: object) -> float | None:
        return None

    def stage_of(self, line: str) -> Stage | None:
        return next((stage for pattern, stage in _STAGES if pattern.search(line)), None)

    def served_context(self, health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
        return None  # /api/ps says it

    def how_to_get(self) -> str:
        return (
            "Start Ollama, and it is found where OLLAMA_HOST says (port 11434 else); one that only lies on PATH is started "
            "by Engine Room itself, on a port of its own."
        )


def load_options(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings in Ollama's own names, as a model's parameters."""
    return {theirs: values[ours] for ours, theirs in NAMES.items() if ours in values}


def name_with_options(profile_id: str) -> str:
    """What the model is called in Ollama that has a profile's options; its names have at most 80 characters."""
    name = LAID_OVER + profile_id.lower()
    if len(name) > 70:
        name = f"{name[:60]}-{hashlib.sha256(profile_id.encode()).hexdigest()[:8]}"
    return f"{name}:latest"


def full_name(name: str) -> str:
    """The name with its tag: `llama3.2` is `llama3.2:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def no_command(launch: Launch) -> SettingInvalid:
    return SettingInvalid(
        f"Profile {launch.profile.id} has no command line: {launch.installation.executable} runs already and is only asked.",
        "`engine-room load` attaches to it.",
    )
