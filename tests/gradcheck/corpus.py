"""All planted bugs: `CORPUS`."""

import bugs_arrays  # noqa: F401
import bugs_elementwise  # noqa: F401
import bugs_layers  # noqa: F401
import bugs_tape  # noqa: F401
from planting import PLANTED, Bug

CORPUS: list[Bug] = PLANTED
