"""Reading and writing the folders of Hugging Face's libraries: `bert`, `clip`, `clip_text`, `gpt2`,
`llama` (of transformers), `diffusers`, `peft`, `schedulers`,
`stable_diffusion`."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.models.huggingface import bert as bert
    from tinygen.models.huggingface import clip as clip
    from tinygen.models.huggingface import clip_text as clip_text
    from tinygen.models.huggingface import diffusers as diffusers
    from tinygen.models.huggingface import diffusers_config as diffusers_config
    from tinygen.models.huggingface import folders as folders
    from tinygen.models.huggingface import gpt2 as gpt2
    from tinygen.models.huggingface import llama as llama
    from tinygen.models.huggingface import llama_config as llama_config
    from tinygen.models.huggingface import peft as peft
    from tinygen.models.huggingface import schedulers as schedulers
    from tinygen.models.huggingface import stable_diffusion as stable_diffusion
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        (
            "bert",
            "clip",
            "clip_text",
            "diffusers",
            "diffusers_config",
            "gpt2",
            "llama",
            "llama_config",
            "peft",
            "schedulers",
            "stable_diffusion",
            "folders",
        ),
    )
