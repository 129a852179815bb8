"""In the data, the judges and the texts a generator is given by name, but for some functions that take it as
their last argument."""

import importlib
import inspect
import pkgutil

import pytest

import tinygen.data
import tinygen.judges
import tinygen.text

BY_POSITION = {
    "tinygen.data.algorithms.Task.random_batch",
    "tinygen.data.mixtures.Mixture.sample",
    "tinygen.data.review_pairs.write_kinds",
    "tinygen.data.reviews.Reviews.write",
    "tinygen.data.shapes.batch",
    "tinygen.data.shapes.draw",
    "tinygen.data.shapes.draw_from_split",
    "tinygen.data.shapes_pairs.batch",
    "tinygen.data.shapes_pairs.draw",
    "tinygen.data.text.random_batch",
    "tinygen.text.corruption.random_parts",
    "tinygen.text.decoding.sample",
    "tinygen.text.ngram.NGram.sample",
}


def functions_with_rng(package):
    for path in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(path.name)
        own = [x for x in vars(module).values() if getattr(x, "__module__", "") == path.name]
        for holder in (module, *filter(inspect.isclass, own)):
            for function in filter(inspect.isfunction, vars(holder).values()):
                if function.__module__ == path.name and "rng" in inspect.signature(function).parameters:
                    yield f"{path.name}.{function.__qualname__}", function


@pytest.mark.parametrize("package", [tinygen.data, tinygen.judges, tinygen.text])
def test_rng_is_given_by_name(package):
    found = dict(functions_with_rng(package))
    assert len(found) >= 3
    kinds = {name: inspect.signature(function).parameters["rng"].kind for name, function in found.items()}
    by_position = {name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY}
    assert by_position == {name for name in BY_POSITION if name.startswith(package.__name__)}
