"""Text: tokenizers, the n-gram baseline, decoding (from logits to tokens and scores), beam search,
mask-predict, damaged texts for BERT, T5 and BART, and BLEU."""

from tinygen.text.beam import Hypothesis, beam_search, length_penalty
from tinygen.text.bleu import corpus_bleu
from tinygen.text.bpe import BPE
from tinygen.text.clip_bpe import CLIPTokenizer
from tinygen.text.corruption import corrupt_spans, infill_text, permute_sentences
from tinygen.text.decoding import (
    filtered_probs,
    greedy_tokens,
    perplexity,
    sample,
    sequence_log_prob,
)
from tinygen.text.mask_predict import mask_any_number, mask_predict
from tinygen.text.masking import mask_tokens
from tinygen.text.ngram import NGram
from tinygen.text.tokenizer_json import load_tokenizer
from tinygen.text.tokenizers import CharTokenizer, pretokenize
from tinygen.text.unigram import Unigram, train_unigram
from tinygen.text.wordpiece import WordPiece

__all__ = [
    "BPE",
    "CLIPTokenizer",
    "CharTokenizer",
    "Hypothesis",
    "NGram",
    "Unigram",
    "WordPiece",
    "beam_search",
    "corpus_bleu",
    "corrupt_spans",
    "filtered_probs",
    "greedy_tokens",
    "infill_text",
    "length_penalty",
    "load_tokenizer",
    "mask_any_number",
    "mask_predict",
    "mask_tokens",
    "permute_sentences",
    "perplexity",
    "pretokenize",
    "sample",
    "sequence_log_prob",
    "train_unigram",
]
