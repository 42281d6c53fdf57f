"""The diagnosis rows of vLLM: each pattern was read in a real log, one module per kind of cause.

Several processes write into one log: the first error line of a worker or of the engine core is the cause, and what the
others print after it, or a bare "Killed", only repeats it. An exit code of 0 says nothing: vLLM leaves with it after a crash.
"""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.diagnosis.vllm.cards import CARDS
from app.core.diagnosis.vllm.ends import ENDS
from app.core.diagnosis.vllm.environment import ENVIRONMENT
from app.core.diagnosis.vllm.memory import MEMORY
from app.core.diagnosis.vllm.model import MODEL
from app.core.diagnosis.vllm.settings import SETTINGS

VLLM: tuple[FailurePattern, ...] = (*MEMORY, *SETTINGS, *MODEL, *CARDS, *ENVIRONMENT, *ENDS)
