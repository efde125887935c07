"""One step of one sequence inside of compiled code: ns a step in a loop, each waiting for the one before; best of many."""

_WEIGHTS = {"float32": None, "bfloat16": "bfloat16"}


class Step:
    params = ([8, 32, 128], list(_WEIGHTS))
    param_names = ("I = H", "weights")
    unit = "ns"

    def track_step(self, hidden: int, weights: str) -> float:
        import latency

        return latency.Step(hidden, _WEIGHTS[weights]).loop()[1]
