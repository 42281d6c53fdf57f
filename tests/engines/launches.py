"""Makes launches for tests: a profile of the given settings on a machine of the given kind."""

from app.core.catalog.facts import ModelFacts
from app.core.options import Scalar
from app.core.profiles import Profile
from app.engines.base import Command, Installation, Launch
from app.engines.registry import FAMILIES


def launch(
    family: str,
    settings: dict[str, Scalar] | None = None,
    *,
    executable: str = "/engines/bin/run",
    model_path: str = "/models/demo.gguf",
    model_name: str = "demo",
    port: int = 18000,
    accelerator: str = "cpu",
    gpu_uuids: tuple[str, ...] = (),
    physical_cores: int = 8,
    api_key: str = "",
    facts: ModelFacts | None = None,
    extra_arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    installation: Installation | None = None,
) -> Launch:
    profile = Profile(
        id="demo",
        title="Demo",
        engine=family,
        model="builtin:demo",
        settings=settings or {},
        extra_arguments=extra_arguments,
        environment=environment or {},
    )
    return Launch(
        profile=profile,
        model_path=model_path,
        installation=installation or Installation(family=family, executable=executable, accelerator=accelerator),
        port=port,
        run_id="run-1",
        model_name=model_name,
        facts=facts,
        gpu_uuids=gpu_uuids,
        physical_cores=physical_cores,
        api_key=api_key,
    )


def command_of(made: Launch) -> Command:
    return FAMILIES[made.profile.engine].command(made)
