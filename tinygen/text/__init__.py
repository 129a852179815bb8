"""Text: tokenizers."""

from tinygen.text.bpe import BPE
from tinygen.text.tokenizers import CharTokenizer, pretokenize

__all__ = [
    "BPE",
    "CharTokenizer",
    "pretokenize",
]
