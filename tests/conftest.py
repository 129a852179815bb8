"""What all tests share: the Hypothesis profile, the path to the helpers in this folder, and Numba's CUDA
simulator.

Hypothesis draws the same examples in every run, and a slow machine fails no test. Numba decides when it is
first imported whether its CUDA kernels run on a card or in its simulator: here in the simulator.
"""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile(
    "tinygen",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tinygen")
