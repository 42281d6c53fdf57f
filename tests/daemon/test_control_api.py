"""The control API's one page says what the server does, and the server does what the page says."""

import inspect
import re

from app.core import control
from app.daemon import control_server


def test_every_documented_route_exists_and_every_route_is_documented() -> None:
    documented = {
        (method, path.split("?")[0])
        for method, path in re.findall(r"^(GET|POST) +(/control/\S+)", control.__doc__ or "", re.MULTILINE)
    }
    served = {
        (method.upper(), path)
        for method, path in re.findall(r'add_(get|post)\(\s*"(/control/[^"]+)"', inspect.getsource(control_server))
    }
    assert len(documented) > 10
    assert documented == served


def test_every_documented_value_is_defined() -> None:
    """A name with a capital in the table is a type of the API, here, in the snapshot, in the hub's values or the bench's."""
    from app.core import bench, hub, snapshot

    table = (control.__doc__ or "").split("Routes:")[1]
    for name in re.findall(r"(?:→ |  )([A-Z][a-z]+(?:[A-Z][a-z]+)*)\b(?=\s|$| \|)", table):
        assert name == "MemoryPlan" or any(hasattr(place, name) for place in (control, snapshot, hub, bench)), name
