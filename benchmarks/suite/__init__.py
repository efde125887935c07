"""The asv suite. Everything is checked in `setup` before it is timed.

asv imports these modules in one process and forks it for each benchmark. A forked child is a place where numlstm keeps away
from Numba's threads, so its modules are imported where they are used, not on top.
"""

import sys
from pathlib import Path

_BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_BENCHMARKS), str(_BENCHMARKS / "peers")]  # for problem.py, worker.py and peak.py
