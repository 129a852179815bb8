"""Help for tests of the folders of models."""

import json
from pathlib import Path
from typing import Any


def edit(path: Path, **changes: Any) -> None:
    """Change options in a JSON file; None takes one out."""
    options = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in options.items() if value is not None}))
