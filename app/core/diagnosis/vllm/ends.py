"""The rows of how vLLM's processes end, when nothing says why or only one of them does."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.diagnosis.vllm.cures import EAGER

ENDS: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="stopped_outside",
        pattern=r"slurmstepd: error: .*CANCELLED|DUE TO TIME LIMIT",
        summary="The machine's scheduler ended the engine.",
        advice="Load it again in a job that lives long enough.",
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"in compile_grammar|grammar.*(?:parse|syntax) error",
        summary="A request's grammar ended the engine.",
        advice="Correct the grammar of the request, and update vLLM.",
        rank=18,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Fatal Python error: (?P<reason>.+)|\*\*\* (?P<signal>SIG\w+) received",
        summary="A process of the engine crashed ({reason}{signal}).",
        advice="Load again; when it comes back, update vLLM, or do not compile.",
        remedies=(EAGER,),
        rank=20,
    ),
    FailurePattern(
        kind="request_refused",
        pattern=r"maximum context length is (?P<most>\d+) tokens\. However, (?P<what>[^.]+)",
        summary="A request was longer than the model's context of {most} tokens; such a request is refused, the engine goes on.",
        advice="Look further down in the log for what ended the engine.",
        rank=55,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"(?:ERROR .*\]|^\[rank\d+\]:|pid=\d+\)) +(?:Value error, )?(?!\S*EngineDeadError)(?P<error>[\w.]*(?:Error|Exception)): "
        r"(?!This model's maximum|Engine core initialization failed|cancelled$)(?P<reason>.+)",  # what the others say of a death
        summary="The engine stopped at an error of its own: {error}: {reason}.",
        advice="Change what it names, or update vLLM.",
        rank=45,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Worker proc (?P<which>\S+) died unexpectedly \(exit code: -(?P<number>\d+)\)",
        summary="A worker of the engine was ended by signal {number}.",
        advice="Signal 9 mostly means that main memory ran out: close other programs or make the KV cache smaller. Load it again.",
        rank=43,
    ),
    FailurePattern(
        kind="timed_out",
        pattern=r"in acquire_read$",
        summary="A worker did not answer in time, so vLLM gave up.",
        advice="Load again; when it comes back, check the cards' link and driver, or do not compile.",
        remedies=(EAGER,),
        rank=52,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Worker proc (?P<which>\S+) died unexpectedly",  # its exit code is not always known yet
        summary="A worker of the engine died while the others went on.",
        advice="Most often main memory ran out or it was killed from outside; the lines before it may say more. Load it again.",
        rank=50,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Engine core proc \S+ died|engine core exited unexpectedly|EngineCore (?:died|encountered)",
        summary="The engine's core died while the others went on.",
        advice="Most often main memory ran out or it was killed from outside; the lines before it may say more. Load it again.",
        rank=50,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Value error, (?P<reason>.+)|^\s*(?P<error>[\w.]*Error): (?!Engine core initialization failed)(?P<reason_too>.+)",
        summary="The engine refused to start: {reason}{reason_too}.",
        advice="Change what it names in the profile.",
        rank=56,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Engine core initialization failed|EngineDeadError",
        summary="The engine's core could not be started.",
        advice="The lines before it say more.",
        rank=60,
    ),
)
