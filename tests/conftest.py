"""What all tests share: the Hypothesis profile, and the path to the helpers in this folder.

Hypothesis draws the same examples in every run, and a slow machine fails no test.
"""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile(
    "tinygen",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tinygen")
