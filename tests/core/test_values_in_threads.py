"""Values may be read in any thread from the first moment on: msgspec by itself crashes the process there."""

import subprocess
import sys

TWO_THREADS = """
import sys, threading
from app.core import snapshot
run = snapshot.RunView(id="1", profile_id="a", title="a", engine="e", engine_build="", argv=(), environment={},
                       log_path="", started_at_unix=1.0)
seats = snapshot.Seats(seats=(snapshot.SeatView(name="main", run=run),))
values = [seats, snapshot.Runs(runs=(run,))] * 3
together = threading.Barrier(len(values))
def read(value):
    data = snapshot.to_json(value)
    together.wait()
    assert snapshot.from_json(type(value), data) == value
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=read, args=(value,)) for value in values]
[thread.start() for thread in threads], [thread.join() for thread in threads]
"""


def test_threads_that_read_kinds_with_a_common_part_at_once_do_not_crash() -> None:
    ends = [subprocess.run([sys.executable, "-c", TWO_THREADS], check=False).returncode for _ in range(6)]
    assert ends == [0] * 6
