"""Language models."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.models.language import gpt as gpt
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, ("gpt",))
