"""The diagnosis rows of containers: what Docker's client and service say when a container does not start or goes on.

The client's own words end with a hint at its help, and what the engine inside printed stands before them.
"""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern

NO_SERVICE = "The Docker service does not answer."
START_SERVICE = "Start it (`sudo systemctl start docker`, or Docker Desktop), then load again."
NO_PERMISSION = "This account may not use the Docker service."
ALLOW = "Add it to the group docker (`sudo usermod -aG docker $USER`) and log in again, or use rootless Docker."

DOCKER: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="engine_not_installed",
        pattern=r"permission denied while trying to connect to the [Dd]ocker",
        summary=NO_PERMISSION,
        advice=ALLOW,
        rank=5,
    ),
    FailurePattern(
        kind="engine_not_installed",
        pattern=r"[Cc]annot connect to the Docker daemon|failed to connect to the docker API",
        summary=NO_SERVICE,
        advice=START_SERVICE,
        rank=5,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"error waiting for container|error during connect|http2: client connection lost",
        summary="The Docker service went away while the engine ran.",
        advice="See why it ended (`journalctl -u docker`); the model is loaded again when Docker answers.",
        rank=5,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"could not select device driver|unknown or invalid runtime name: nvidia|nvidia-container-cli: .*(libnvidia-ml|"
        r"initialization error|driver not loaded)",
        summary="Docker cannot give a container the graphics card: the NVIDIA container toolkit is missing or does not work.",
        advice="Install nvidia-container-toolkit, run `sudo nvidia-ctk runtime configure --runtime=docker`, restart Docker.",
        rank=5,
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"nvidia-container-cli: device error: (?P<card>\S+): unknown device|unresolvable CDI devices (?P<other>\S+)",
        summary="Docker does not know the card {card}{other}.",
        advice="Name a card that is here; `engine-room doctor` lists them.",
        rank=5,
    ),
    FailurePattern(
        kind="port_taken",
        pattern=r"(Bind for \S+ failed: port is already allocated|failed to bind host port .*address already in use)",
        summary="The port that was chosen for the container was taken at the same moment.",
        advice="Load again: another port is taken then.",
        rank=5,
    ),
    FailurePattern(
        kind="engine_not_installed",
        pattern=r"(pull access denied for (?P<private>[^,\s]+)|manifest for (?P<image>\S+) not found|manifest unknown)",
        summary="There is no image {private}{image} that could be fetched.",
        advice="Check the image's name and tag; a private one needs `docker login` first.",
        rank=5,
    ),
    FailurePattern(
        kind="engine_not_installed",
        pattern=r"docker: Error response from daemon: .*(dial tcp|no such host|TLS handshake timeout|i/o timeout)",
        summary="The image could not be fetched: the registry does not answer.",
        advice="Check the network and the proxy of the Docker service, then load again.",
        rank=5,
    ),
    FailurePattern(
        kind="disk_full",
        pattern=r"(docker: |failed to register layer: |Error response from daemon: ).*no space left on device",
        summary="The disk of the Docker service is full.",
        advice="Remove what is not used (`docker system df` shows it), then load again.",
        rank=5,
    ),
    FailurePattern(
        kind="engine_not_installed",
        pattern=r'exec: "vllm": executable file not found',
        summary="The image holds no vLLM: there is no program vllm in it.",
        advice="Name an image of vLLM's server, for example vllm/vllm-openai, in the profile's `installation`.",
        rank=5,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"bind source path does not exist: (?P<path>.+)",
        summary="Docker does not see {path}.",
        advice="A Docker service of another machine or in a virtual machine sees only the folders that are shared with it.",
        rank=5,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r'docker: Error response from daemon: Conflict\. The container name "/(?P<name>[^"]+)" is already in use',
        summary="A container of the name {name} is there already.",
        advice="Load again: each launch has a name of its own.",
        rank=5,
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"^(unknown flag: |docker: invalid |invalid argument \")(?P<what>.*)",
        summary="Docker's client does not understand the command line: {what}",
        advice="Update Docker: it must be 20.10 or newer.",
        rank=20,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"docker: Error response from daemon: (?P<what>.{1,300})",
        summary="Docker could not start the container: {what}",
        advice="`engine-room doctor` and `docker info` tell more of the Docker service.",
        rank=30,
    ),
)
