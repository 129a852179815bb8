"""The reading order: chapters, their files and what to know before.

`order.py` finds the chapter of each file. `tests/book/test_order.py` checks that no chapter uses what a later
one defines.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Chapter(NamedTuple):
    """`pages` begin the chapter, one algorithm on a page each; `files` are the library's; `examples` run it.
    All are patterns, or the names of files of the repository."""

    title: str
    about: str  # one or two sentences
    know: str  # what to know before, beside the chapters that it uses
    pages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    guides: tuple[str, ...] = ()
    skip: bool = False  # at a first reading

    @property
    def file(self) -> str:
        """The name of its page."""
        return f"chapter-{re.sub('[^a-z]+', '-', self.title.lower()).strip('-')}.html"


def chapter(
    title: str,
    about: str,
    know: str,
    *,
    pages: str = "",
    files: str = "",
    examples: str = "",
    guides: str = "",
    skip: bool = False,
) -> Chapter:
    """A chapter; lists are written as words, without the folders of pages, library, examples and docs."""

    def inside(folder: str, names: str) -> tuple[str, ...]:
        return tuple(folder + name for name in names.split())

    return Chapter(
        title,
        about,
        know,
        inside("examples/pages/", pages),
        inside("", files),
        inside("examples/", examples),
        inside("docs/", guides),
        skip,
    )


CHAPTERS = (
    chapter(
        "The engine",
        "Reverse-mode automatic differentiation: a tape records every op, and a walk backward over the tape "
        "gives all gradients.",
        "Python and NumPy; the chain rule for functions of several variables.",
        pages="engine.py",
        files="tinygen/types.py tinygen/lazy.py tinygen/words.py tinygen/memory.py tinygen/callers.py "
        "tinygen/arrays.py tinygen/tensor.py tinygen/summation.py tinygen/modes.py tinygen/node.py "
        "tinygen/protocols.py tinygen/checks.py tinygen/tape.py tinygen/rerun.py tinygen/recompute.py "
        "tinygen/backward.py tinygen/transforms.py",
        guides="overview.md pages.md from_pytorch.md arrays.md",
    ),
    chapter(
        "Ops",
        "Every differentiable operation: its value and, beside it, one small rule per input.",
        "Derivatives of vectors and matrices.",
        files="tinygen/random.py tinygen/ops/elementwise.py tinygen/ops/reduce.py tinygen/ops/*",
    ),
    chapter(
        "NumPy on Tensors",
        "What `a + b` and `x.sum()` are; NumPy's other functions, composed of ops; linear algebra, Fourier "
        "transforms, complex numbers.",
        "Ops.",
        files="tinygen/ops/numpy/* tinygen/ops/matrices/* tinygen/ops/fourier.py "
        "tinygen/ops/complex_numbers.py tinygen/ops/operators.py tinygen/ops/methods.py",
        guides="numpy.md renamed.md",
        skip=True,
    ),
    chapter(
        "Layers",
        "Modules hold parameters; layers are made of ops.",
        "What a neural network is.",
        files="tinygen/nn/attention.py tinygen/nn/rope.py tinygen/nn/grouped_attention.py "
        "tinygen/nn/transformer.py tinygen/nn/* tinygen/align/lora.py",
    ),
    chapter(
        "Fast kernels",
        "Faster ways to compute ops, compiled by Numba. Each is compared with its definition.",
        "Processors have caches, vectors and several cores.",
        files="tinygen/kernels/*",
        guides="performance.md",
        skip=True,
    ),
    chapter(
        "Optimizers",
        "What moves the parameters: SGD, Adam and AdamW, schedules of the learning rate, clipping, averages.",
        "Gradient descent.",
        pages="adamw.py",
        files="tinygen/optim/*",
    ),
    chapter(
        "Several processes",
        "Gradients of several processes, added by messages: the same bits on all of them.",
        "Optimizers.",
        pages="all_reduce.py",
        files="tinygen/parallel/*",
        guides="parallel.md",
        skip=True,
    ),
    chapter(
        "Runs that can be stopped",
        "Checkpoints that survive a power cut, and the loop of an example, which continues to the last bit.",
        "Files and processes.",
        files="tinygen/storage/* tinygen/parallel/state.py tinygen/parallel/__init__.py",
        examples="shared/clock.py shared/endings.py shared/flags.py shared/folder.py shared/full.py "
        "shared/run.py shared/table.py shared/plots.py shared/report.py shared/pictures.py",
        guides="checkpoints.md results.md",
        skip=True,
    ),
    chapter(
        "Is the gradient right?",
        "A checker of gradients that says not only that a gradient is wrong, but where and in what way. "
        "The tape as a drawing.",
        "Finite differences; rounding errors of floating point numbers.",
        files="tinygen/gradcheck/* tinygen/testing.py tinygen/layout.py "
        "tinygen/drawing.py tinygen/vertices.py tinygen/graph.py "
        "tinygen/einops_backend.py",
        examples="engine/*",
        guides="write_your_own.md gradcheck.md mutation.md",
        skip=True,
    ),
    chapter(
        "Text and data",
        "Tokenizers, n-grams, decoding and search; data whose best possible loss is known exactly.",
        "Probability and entropy.",
        files="tinygen/text/* tinygen/data/*",
    ),
    chapter(
        "Densities without a network",
        "Kernels, mixtures of Gaussians by EM, PCA and probabilistic PCA.",
        "Gaussians in several dimensions; eigenvalues.",
        pages="em.py",
        files="tinygen/density/*",
        guides="density.md lectures/1_density_models.md",
    ),
    chapter(
        "Judges",
        "Programs and a small network that measure how good drawn pictures and sounds are.",
        "Least squares; the distance between two Gaussians.",
        files="tinygen/judges/*",
        skip=True,
    ),
    chapter(
        "From word vectors to WaveNet",
        "Language models before attention: linear ones, word2vec, recurrent networks, dilated convolutions.",
        "Softmax and cross-entropy.",
        pages="lstm.py wavenet.py",
        files="tinygen/models/language/linear.py tinygen/models/language/word2vec.py "
        "tinygen/models/language/causal_lm.py tinygen/models/language/recurrent.py "
        "tinygen/models/language/wavenet.py",
        examples="language/wavenet_tones.py",
        guides="lectures/2_language_models.md",
    ),
    chapter(
        "GPT",
        "A Transformer that predicts the next token.",
        "Attention, from the chapter on layers.",
        pages="gpt.py",
        files="tinygen/models/language/gpt.py tinygen/models/huggingface/folders.py "
        "tinygen/models/huggingface/gpt2.py",
        examples="gpt_text.py language/gpt_algorithms.py shared/language.py",
        guides="language_models.md gpt2.md lectures/2_language_models.md lectures/3_llm_behavior.md",
    ),
    chapter(
        "Llama",
        "What changed since GPT: rotary positions, RMSNorm, gates, shared keys and values.",
        "GPT.",
        pages="llama.py",
        files="tinygen/models/language/llama.py tinygen/models/huggingface/llama*",
        examples="language/gpt_to_llama.py language/language_ladder.py shared/decoders.py shared/ladder.py",
    ),
    chapter(
        "Encoders and translation",
        "BERT fills holes; an encoder and a decoder translate: the Transformer of 2017, T5 and BART.",
        "Attention; cross-attention.",
        pages="bert.py translation.py",
        files="tinygen/models/language/* tinygen/models/huggingface/bert.py "
        "tinygen/models/huggingface/bart.py tinygen/models/huggingface/t5.py",
        examples="language/bert_reviews.py language/word_vectors.py language/translate_numbers.py",
        guides="lectures/2_language_models.md",
    ),
    chapter(
        "Autoencoders and VAEs",
        "Pictures as codes: autoencoders, the VAE and its bound, hierarchical VAEs, discrete codes.",
        "Convolutions; the Kullback-Leibler divergence.",
        pages="vae.py hierarchical_vae.py",
        files="tinygen/models/pictures/vae.py tinygen/models/pictures/hierarchical_vae.py "
        "tinygen/models/pictures/plain_autoencoder.py tinygen/models/pictures/vqvae.py "
        "tinygen/models/pictures/autoencoder.py",
        examples="pictures/vae_digits.py pictures/vqvae_shapes.py shared/judged_digits.py shared/measures.py "
        "shared/captioned.py shared/holes.py",
        guides="pictures.md lectures/1_density_models.md",
    ),
    chapter(
        "GANs",
        "A generator and a discriminator; what keeps their game stable.",
        "Maximum likelihood, and why a GAN does without it.",
        pages="gan.py",
        files="tinygen/models/pictures/gan*",
        examples="pictures/gan_digits.py pictures/gan_ring.py shared/points.py",
        guides="lectures/1_density_models.md",
    ),
    chapter(
        "Diffusion",
        "Noise is added step by step, and a network takes it out again: DDPM, DDIM, guidance, the UNet.",
        "Gaussians: products, conditionals, sums.",
        pages="ddpm.py",
        files="tinygen/diffusion/* tinygen/models/pictures/unet.py tinygen/models/pictures/controlnet.py "
        "tinygen/models/pictures/denoiser.py tinygen/models/pictures/palette.py",
        examples="pictures/diffusion_2d.py pictures/ddpm_digits.py pictures/inpaint_shapes.py "
        "pictures/palette_shapes.py",
        guides="lectures/4_text_to_image.md lectures/5_editing.md",
    ),
    chapter(
        "Style transfer",
        "A picture with the content of one and the style of another: features, and their Gram matrices.",
        "Convolutions; gradients with respect to an input.",
        pages="style.py",
        files="tinygen/models/pictures/style.py tinygen/models/pictures/vgg.py tinygen/data/textures.py",
        examples="pictures/style_transfer.py shared/photographs.py",
        guides="lectures/5_editing.md",
    ),
    chapter(
        "Flows",
        "Invertible networks with exact densities, and flow matching: straight paths from noise to data.",
        "Change of variables; differential equations.",
        pages="flow_matching.py",
        files="tinygen/models/pictures/*",
        examples="pictures/flows_2d.py pictures/density_ladder.py shared/densities.py shared/rungs.py",
        guides="lectures/1_density_models.md",
    ),
    chapter(
        "Text to image",
        "CLIP, text encoders, and latent diffusion: Stable Diffusion in small.",
        "Diffusion, autoencoders and Transformers.",
        pages="clip.py latent_diffusion.py controlnet.py",
        files="tinygen/models/text_to_image/* tinygen/models/huggingface/clip.py",
        examples="text_to_image/*",
        guides="lectures/4_text_to_image.md lectures/5_editing.md",
    ),
    chapter(
        "What people want",
        "Alignment: fine-tuning, reward models, PPO, GRPO, DPO, beside the exact optimum.",
        "GPT; expectations and their gradients.",
        pages="ppo.py dpo.py",
        files="tinygen/align/*",
        examples="alignment/* shared/cartpole.py shared/rlhf*",
        guides="alignment.md lectures/3_llm_behavior.md",
    ),
    chapter(
        "Published weights",
        "Folders of Hugging Face's libraries, read and written: GPT-2, Llama, BERT, T5, BART, CLIP, Stable "
        "Diffusion, LoRA adapters.",
        "The models of the chapters before.",
        files="tinygen/models/huggingface/* tinygen/models/*",
        examples="language/lora_finetune.py language/generate.py shared/prompts.py "
        "text_to_image/stable_diffusion.py",
        guides="hugging_face.md diffusers.md lectures/5_editing.md",
        skip=True,
    ),
    chapter(
        "On a GPU",
        "Kernels in Numba CUDA, to be read: blocks, threads, barriers, flash attention.",
        "The fast kernels.",
        files="tinygen_cuda/*",
        guides="gpu.md",
        skip=True,
    ),
    chapter(
        "The house itself",
        "What `import tinygen` gives, the commands, and the program that made this book.",
        "Python's `ast`.",
        files="tinygen/kernels/__main__.py tinygen/* examples/*",
        skip=True,
    ),
)
