"""Behaves like an inference engine, as its face and the FAKE_ENGINE_* environment say: one program, standard library only.

Faces (`--face`): llama-server (default) · llama-cpp-python · vllm · ollama. Each has the routes, log lines, start-up order
and manners with signals of its model, so that nothing of ours has to be patched to test what stands around an engine.
Knobs are the rows of `standin/knobs.py`. A misbehaviour applies only while the file
FAKE_ENGINE_ONLY_WHILE exists (when that is set).
The journal (FAKE_ENGINE_JOURNAL) gets one JSON line for each thing that happens: start, loaded, request, first_byte,
closed_by_client, finished, signal, exit.
"""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # an isolated interpreter does not look beside the program

from standin.life import main

if __name__ == "__main__":
    main()
