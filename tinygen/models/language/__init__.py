"""Language models."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.models.language import causal_lm as causal_lm
    from tinygen.models.language import gpt as gpt
    from tinygen.models.language import linear as linear
    from tinygen.models.language import llama as llama
    from tinygen.models.language import recurrent as recurrent
    from tinygen.models.language import transformer as transformer
    from tinygen.models.language import word2vec as word2vec
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__, ("causal_lm", "gpt", "linear", "llama", "recurrent", "transformer", "word2vec")
    )
