"""Golden ids of the tokenizer: a small vocabulary by Hugging Face's tokenizers, and their ids for some texts.

`python tests/golden/tokenizer.py` writes `tokenizer.json` again."""

import json
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = ("vocab.json", "merges.txt")
LEARNED_FROM = "the cat sat on the mat, and that's all that the cat's cat had; 12 hats, 123 mats. " * 3
TEXTS = (
    "the cat sat on the mat",
    " that  hat's\n\n  mat\t",
    "1234 cats, 12hats!?",
    "THE CAT'S; they're we'd I'll",
    "naïve café – ½ 東京 🙂 👩‍🚀",
    "a\u00a0b\u2003c \r\n d",
    "x" * 9 + "   ",
    "",
    "'s's 'S '",
    "\u0000\u001f~",
)


def made() -> dict[str, Any]:
    import tokenizers

    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator([LEARNED_FROM], 300, min_frequency=2, show_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        trained.save_model(folder)
        files = {name: (Path(folder) / name).read_text(encoding="utf-8") for name in FILES}
    ids = [trained.encode(text).ids for text in TEXTS]
    return {"source": f"tokenizers {tokenizers.__version__}", "files": files, "ids": ids}


if __name__ == "__main__":
    (HERE / "tokenizer.json").write_text(json.dumps(made(), indent=1) + "\n")
