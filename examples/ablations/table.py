"""All ablations, in the order of the chapters. `change.file` and `change.old` are the place in the source."""

from ablations.tables.alignment import ALIGNMENT
from ablations.tables.engine import ENGINE
from ablations.tables.language import LANGUAGE
from ablations.tables.optimizers import OPTIMIZERS
from ablations.tables.pictures import PICTURES

ABLATIONS = (*ENGINE, *OPTIMIZERS, *LANGUAGE, *PICTURES, *ALIGNMENT)
