"""The files beside this one, and the table of ops in `tests/ops`, are imported by the tests here."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ops")]
