"""Text: tokenizers and the n-gram baseline."""

from tinygen.text.bpe import BPE
from tinygen.text.ngram import NGram
from tinygen.text.tokenizers import CharTokenizer, pretokenize

__all__ = [
    "BPE",
    "CharTokenizer",
    "NGram",
    "pretokenize",
]
