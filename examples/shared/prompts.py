"""From a prompt to tokens, as the folder of a language model says: its tokenizer, the tokens around each
text, its chat template, the tokens that end a text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinygen.models.language.gpt import END
from tinygen.storage.files import read_json, read_text
from tinygen.text import BPE, load_tokenizer
from tinygen.text.unigram import Unigram
from tinygen.text.wordpiece import WordPiece

LIMIT, TOKENIZER_LIMIT = 1_000_000, 30_000_000
"""In bytes: of small files of options, and of tokenizer.json."""


def options_in(folder: Path, name: str, limit: int = LIMIT) -> dict[str, Any]:
    """A file of options, {} if there is none."""
    return read_json(folder / name, limit) if (folder / name).exists() else {}


Tokenizer = BPE | WordPiece | Unigram


def read_tokenizer(folder: Path) -> Tokenizer:
    """That of tokenizer.json, or of the vocab.json and merges.txt of a GPT-2."""
    if (folder / "vocab.json").exists() and not (folder / "tokenizer.json").exists():
        return BPE.load(folder, special=[END])
    return load_tokenizer(folder / "tokenizer.json")


def tokens_around(folder: Path, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that belong before each text, and those behind it, by `post_processor` in tokenizer.json."""
    before: list[int] = []
    behind: list[int] = []
    for step in processors(options_in(folder, "tokenizer.json", TOKENIZER_LIMIT).get("post_processor")):
        if step.get("type") == "RobertaProcessing":
            before, behind = [step["cls"][1]], [step["sep"][1]]
        elif step.get("type") == "TemplateProcessing":
            names = [part.get("SpecialToken", {}).get("id") for part in step["single"]]
            text = names.index(None)  # the part that is the text itself
            ids = [[tokenizer.special[name] for name in part] for part in (names[:text], names[text + 1 :])]
            before, behind = ids
    return before, behind


def processors(step: Any) -> Iterator[dict[str, Any]]:
    """The steps of a post_processor."""
    if isinstance(step, dict) and step.get("type") == "Sequence":
        for part in step["processors"]:
            yield from processors(part)
    elif isinstance(step, dict):
        yield step


def end_tokens(folder: Path, tokenizer: Tokenizer) -> list[int]:
    """The tokens that end a text: `eos_token_id` of generation_config.json or config.json, or GPT-2's."""
    for name in ("generation_config.json", "config.json"):
        end = options_in(folder, name).get("eos_token_id")
        if end is not None:
            return [end] if isinstance(end, int) else list(end)
    return [tokenizer.special[END]] if END in tokenizer.special else []


def chat_prompt(folder: Path, message: str) -> str:
    """A conversation that begins with this message of a user, up to where the answer begins.

    Raises ValueError if the folder has no chat template, or one that cannot be filled in; ImportError
    without Jinja2. A template is a program, and is not to be trusted: it runs in Jinja2's sandbox."""
    options, file = options_in(folder, "tokenizer_config.json"), folder / "chat_template.jinja"
    template = read_text(file, LIMIT) if file.exists() else options.get("chat_template")
    if not isinstance(template, str):
        raise ValueError(f"{folder} has no chat template: leave --chat out, or take a model that answers")
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> None:
        raise ValueError(f"the chat template refuses this message: {reason}")

    sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    sandbox.globals["raise_exception"] = refuse
    tokens = {name: options.get(name) or "" for name in ("bos_token", "eos_token")}
    texts = {name: x["content"] if isinstance(x, dict) else x for name, x in tokens.items()}
    messages = [{"role": "user", "content": message}]
    try:
        filled = sandbox.from_string(template).render(messages=messages, add_generation_prompt=True, **texts)
    except TemplateError as error:
        raise ValueError(f"the chat template of {folder} cannot be filled in: {error}") from error
    return str(filled)
