"""One step of one sequence inside of compiled code: ns a step in a loop, each waiting for the one before; best of many."""

from typing import Any


class Step:
    params = ([8, 32, 128], ["float32", "bfloat16", "float32, and Dense(1)"])
    param_names = ("I = H", "weights")
    unit = "ns"

    def track_step(self, hidden: int, weights: str) -> Any:
        import latency

        return latency.Step(hidden, **latency.KINDS[weights]).loop()[1]
