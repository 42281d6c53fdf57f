"""Owns what there is one of in the process: the face that it wears, its options and its state."""

import threading


class State:
    def __init__(self):
        self.loaded = threading.Event()
        self.progress = 0.0
        self.stopping = False
        self.lock = threading.Lock()
        self.serial = threading.Lock()  # llama-cpp-python answers one request at a time
        self.newcomers = 0
        self.requests = 0
        self.busy = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.children = []
        self.leaked = []
        self.balloon = []


face = None
options = None
state = State()
