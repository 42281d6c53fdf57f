"""What of a launch goes into an export: cards, images, every file that is named, and no secret (E9, I18)."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from app.core.errors import BadRequest
from app.core.profiles import Profile
from app.daemon.exporting import contained, export, launchable
from app.engines.base import Installation, Launch
from tests.rig.gguf_file import write_model
from tests.rig.written import compose, unit


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    model = write_model(tmp_path / "model of mine.gguf")
    return Launch(
        profile=Profile(id="one", title="One", engine="llama-server", model=str(model)),
        model_path=str(model),
        installation=Installation(family="llama-server", executable="/opt/llama/llama-server", build="b5001"),
        port=0,
        run_id="export",
        model_name="one",
        physical_cores=4,
    )


def of(launch: Launch, **profile: Any) -> Launch:
    return replace(launch, profile=replace(launch.profile, **profile))


def with_engine(launch: Launch, family: str, **installation: Any) -> Launch:
    there = Installation(family=family, executable="/opt/env/bin/python", **installation)
    return replace(of(launch, engine=family), installation=there)


def test_the_port_is_the_one_argument_that_stays_open(launch: Launch) -> None:
    made = launchable(of(launch, extra_arguments=("--port", "8080")), 8080)
    (at,) = [number for number, argument in enumerate(made.argv) if not isinstance(argument, str)]
    assert made.argv[at - 1] == "--port"
    assert made.argv[-2:] == ("--port", "8080"), "an argument of the person's stays what it is"


def test_no_secret_is_in_an_export_and_each_is_named(launch: Launch) -> None:
    """By the variable's name, by the value's form, after a flag, inside an argument, and the value of another variable."""
    secrets = ("s3cret-one", "hf_CanaryCanaryCanaryCanary", "s3cret-three", "s3cret-four", "s3cret-five")
    told = of(
        launch,
        environment={"MY_PASSWORD": secrets[0], "PLAIN": f"x {secrets[1]}", "MAX_TOKENS": "4096", "A_KEY": secrets[4]},
        extra_arguments=("--api-key", secrets[2], f"--ssl-key={secrets[3]}", f"--say={secrets[4]}", "--harmless"),
    )
    for kind in ("shell", "systemd", "compose"):
        made = export(told, kind, 8080)
        whole = made.text + "".join(made.notes)
        assert [secret for secret in secrets if secret in whole] == [], kind
        for name in ("MY_PASSWORD", "PLAIN", "A_KEY", "ENGINE_SECRET_1", "ENGINE_SECRET_2", "ENGINE_SECRET_3"):
            assert name in "".join(made.notes), (kind, name)
        assert "4096" in made.text
        assert "--harmless" in made.text
        assert "LLAMA_API_KEY" not in made.text.replace("LLAMA_*", "").replace("LLAMA_API_KEY: null", "")
    assert "ENGINE_SECRET_2 is the argument --ssl-key=" in "".join(export(told, "shell", 1).notes)


def test_cards_are_asked_for_by_their_ids(launch: Launch) -> None:
    def container(accelerator: str, **profile: Any) -> Any:
        engine = replace(launch.installation, accelerator=accelerator)
        return contained(replace(of(launch, **profile), installation=engine, gpu_uuids=("GPU-a", "GPU-b")), 8080)[1]

    assert container("cuda").cards == ()
    assert container("cuda", gpus=("GPU-b",)).cards == ("GPU-b",)
    assert container("cuda", settings={"gpu_layers": 0}).cards is None
    assert container("cpu", gpus=("GPU-b",)).cards is None
    assert container("rocm").devices == ("/dev/kfd", "/dev/dri")
    assert "server-cuda" in container("cuda").image


def test_the_servers_own_image_gets_the_arguments_alone(launch: Launch) -> None:
    started = compose(export(launch, "compose", 9000).text)
    assert started.argv[:2] == ["/app/llama-server", "--model"]
    assert "/opt/llama/llama-server" not in started.argv
    assert started.argv[started.argv.index("--host") + 1] == "0.0.0.0"
    assert started.raw["ports"] == ["127.0.0.1:9000:9000"]
    assert "b5001" in "".join(export(launch, "compose", 9000).notes)


@pytest.mark.parametrize(
    ("family", "requirement"),
    [("llama.cpp", "xllamacpp==2026.10"), ("llama-cpp-python", "llama-cpp-python[server]==2026.10")],
)
def test_a_python_engine_is_installed_in_its_version(launch: Launch, family: str, requirement: str) -> None:
    started = compose(export(with_engine(launch, family, version="2026.10"), "compose", 9000).text)
    at = started.argv.index(requirement)
    assert started.argv[at + 1 : at + 3] == ["python", "-I"]
    assert "python" in started.raw["image"]


def test_what_changes_the_package_is_handed_on_where_it_is_set(launch: Launch) -> None:
    """What the notes tell to set reaches `pip` in the container."""
    for family, accelerator, name in (
        ("llama-cpp-python", "cpu", "CMAKE_ARGS"),
        ("llama.cpp", "cuda", "PIP_INDEX_URL"),
    ):
        made = export(with_engine(launch, family, version="1", accelerator=accelerator), "compose", 9000)
        assert f"{name}=… in the environment file" in "".join(made.notes)
        assert name not in compose(made.text).environment
        assert compose(made.text, {name: "x"}).environment[name] == "x"


def test_every_file_that_is_named_is_there_inside(launch: Launch, tmp_path: Path) -> None:
    """All parts of a split model, and what settings and raw arguments name; nothing of it can be written."""
    parts = [write_model(tmp_path / f"big-{number:05d}-of-00002.gguf") for number in (1, 2)]
    adapter = write_model(tmp_path / "adapter $1.gguf")
    template = tmp_path / "template.jinja"
    template.write_text("x")
    told = replace(
        of(launch, settings={"lora": str(adapter)}, extra_arguments=("--extra-file", str(template), "/not/there")),
        model_path=str(parts[0]),
    )
    started = compose(export(told, "compose", 9000).text)
    mounts = {volume["source"]: volume["target"] for volume in started.raw["volumes"]}
    assert mounts.keys() == {str(file) for file in (*parts, adapter, template)}
    assert all(volume["read_only"] for volume in started.raw["volumes"])
    assert Path(mounts[str(parts[0])]).parent == Path(mounts[str(parts[1])]).parent
    for file in (parts[0], adapter, template):
        assert mounts[str(file)] in started.argv
    assert not [word for word in started.argv if str(tmp_path) in word]
    assert "/not/there" in started.argv


def test_a_unit_drops_the_names_that_the_launch_drops(launch: Launch) -> None:
    made = export(with_engine(launch, "llama-cpp-python", version="1"), "systemd", 8080)
    started = unit(made.text)
    assert {"PORT", "HOST", "N_CTX", "CUDA_VISIBLE_DEVICES"} <= set(started.unset)
    assert "API_KEY" not in started.unset, "that is how the person gives a key"
    assert "LLAMA_*" in "".join(made.notes), "what a unit cannot say is told"


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_that_is_none_is_refused(launch: Launch, port: int) -> None:
    with pytest.raises(BadRequest, match="no port"):
        export(launch, "shell", port)
    assert export(launch, "shell", 65_535).text


def test_another_kind_is_refused_with_the_kinds_there_are(launch: Launch) -> None:
    with pytest.raises(BadRequest, match="shell, systemd, compose") as refused:
        export(launch, "snap", 8080)
    assert "snap" in str(refused.value)
