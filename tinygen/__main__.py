"""`python -m tinygen COMMAND …`: the commands of the house. Each is the function `main(arguments)` of a
module: it returns the exit code, and is imported when it is called."""

from __future__ import annotations

import importlib
import sys

COMMANDS: dict[str, tuple[str, str]] = {
    "exercise": ("tinygen.exercises.command", "the exercises, and the file of one"),
    "check": ("tinygen.exercises.check", "grade the file of an exercise"),
    "book": ("tinygen.book", "make a site of the source, to be read offline: build/book"),
}
"""Name: (module, what it does in one line)."""


def main(arguments: list[str]) -> int:
    """Run the command `arguments[0]` with the rest of the arguments; without one, list them all.

    Returns the exit code: that of the command, or 2 for an unknown command.
    """
    name, *rest = arguments or ["--help"]
    if name in COMMANDS:
        module, _ = COMMANDS[name]
        return importlib.import_module(module).main(rest)
    if name not in ("--help", "-h"):
        print(f"python -m tinygen: no command {name!r}, but: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    print("usage: python -m tinygen COMMAND …\n")
    print("\n".join(f"    {name:10} {about}" for name, (_, about) in COMMANDS.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
