"""The asv suite. Everything is checked in `setup` before it is timed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for problem.py
