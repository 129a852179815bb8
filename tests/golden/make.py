"""Write `values.json` again, by the libraries that tinygen follows:  python tests/golden/make.py

The references are in `*_there.py`. If no library has a whole reference, it is written with torch's
functions, as in the paper."""

import json
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tools")]

from golden import layers_there, methods_there, models_there  # noqa: E402, F401
from golden.formula import Case, digest, filled, is_float, wave  # noqa: E402
from golden.reference import CASES, REFERENCES  # noqa: E402


def made(name: str, case: Case) -> dict[str, list[Any]]:
    """The results of the reference for a case."""
    module = filled(case.make()) if case.make else None
    params = dict(module.named_parameters()) if module else {}
    w = {key: torch.tensor(p.data, requires_grad=True) for key, p in params.items()}
    w |= {key: torch.tensor(b.data) for key, b in module.named_buffers()} if module else {}
    inputs = [torch.tensor(x, requires_grad=True) if is_float(x) else torch.tensor(x) for x in case.inputs]
    ys = list(flat(REFERENCES[name](w, *inputs)))
    live = [(k, y) for k, y in enumerate(ys) if y.requires_grad and y.grad_fn is not None]
    if live:
        sum((y * torch.tensor(wave(*y.shape, k=50 + k))).sum() for k, y in live).backward()

    def product(t: Any) -> float | None:
        return None if t.grad is None else float((t.grad.numpy() * wave(*t.shape, k=7)).sum())

    return {
        "outputs": [digest(y.detach().numpy()) for y in ys],
        "inputs": [product(t) for x, t in zip(case.inputs, inputs, strict=True) if is_float(x)],
        "weights": [product(w[key]) for key in params],
    }


def flat(ys: Any) -> Iterator[Any]:
    if isinstance(ys, torch.Tensor):
        yield ys
    else:
        for y in ys:
            yield from flat(y)


def every() -> dict[str, dict[str, list[Any]]]:
    return {name: made(name, case) for name, case in CASES.items()}


def rounded(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [rounded(value) for value in x]
    return x if x is None else float(f"{x:.11g}")


if __name__ == "__main__":
    libraries = {name: version(name) for name in ("torch", "transformers", "diffusers", "numpy")}
    kept = {"made by": "tests/golden/make.py", "python": platform.python_version(), **libraries}
    lines = [f'"source": {json.dumps(kept)}']
    lines += [f"{json.dumps(name)}: {json.dumps(rounded(result))}" for name, result in every().items()]
    (HERE / "values.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
