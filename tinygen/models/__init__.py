"""Models, one file each, in folders by subject. `from tinygen.models import GPT` imports GPT's file alone.

All of them keep one contract (`tests/models/test_contract.py`). A model has the methods that make sense for
it:

    model(x, ...)                      `forward`, the network's output, a Tensor: of an autoencoder the
                                       reconstruction, of a diffusion's network the prediction for noisy x
    model.loss(batch, ..., rng=rng)    the quantity to minimize: a Tensor of shape (). `losses` has its
                                       parts by name, `total` first
    model.encode(x)                    the codes of x, an array, off the tape: of q(z|x) the mean
    model.decode(codes)                the x of codes, an array, off the tape
    model.sample(..., rng=rng)         an array that the model generates, off the tape
    model.sample_steps(..., rng=rng)   yields the states on the way there: tokens, noisy codes
    Model(config, rng=rng)             `rng` is given by name: a generator, or an int as the seed of one

The generator of an adversarial network has no `loss` of its own: `pictures/gan_losses.py` has the losses of
both players, and `text_to_image/text_gan.py` the discriminator's loss for pictures with captions.

Arrays are on the device of the model; only the tokens of language models are on the CPU. One exception is for
readers of nanoGPT: `GPT(idx, targets)` and `Llama(idx, targets)` return (logits, loss), with the loss None
without targets, and have no method `loss`. `RecurrentLM(idx, state)` returns (logits, state), as recurrent
layers do.

Sizes have the same names everywhere: `layers`, `heads`, `channels` (the width C), `in_channels` (of a
picture), `latent` (numbers of a code), `dim` (numbers of a point, or of a vector of a codebook). GPTConfig
alone has the names of GPT-2's config.json: `n_layer`, `n_head`, `n_embd`."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.models import huggingface as huggingface
    from tinygen.models import language as language
    from tinygen.models import pictures as pictures
    from tinygen.models import text_to_image as text_to_image
    from tinygen.models.language.bart import BART as BART
    from tinygen.models.language.bart import BARTConfig as BARTConfig
    from tinygen.models.language.bert import BERT as BERT
    from tinygen.models.language.bert import BERTConfig as BERTConfig
    from tinygen.models.language.gpt import GPT as GPT
    from tinygen.models.language.gpt import GPTConfig as GPTConfig
    from tinygen.models.language.linear import LinearLM as LinearLM
    from tinygen.models.language.llama import Llama as Llama
    from tinygen.models.language.llama import LlamaConfig as LlamaConfig
    from tinygen.models.language.recurrent import RecurrentLM as RecurrentLM
    from tinygen.models.language.recurrent import Tagger as Tagger
    from tinygen.models.language.t5 import T5 as T5
    from tinygen.models.language.t5 import T5Config as T5Config
    from tinygen.models.language.transformer import Transformer as Transformer
    from tinygen.models.language.transformer import TransformerConfig as TransformerConfig
    from tinygen.models.language.wavenet import WaveNet as WaveNet
    from tinygen.models.language.word2vec import Word2Vec as Word2Vec
    from tinygen.models.pictures.autoencoder import AutoencoderConfig as AutoencoderConfig
    from tinygen.models.pictures.autoencoder import AutoencoderKL as AutoencoderKL
    from tinygen.models.pictures.controlnet import ControlNet as ControlNet
    from tinygen.models.pictures.controlnet import ControlNetConfig as ControlNetConfig
    from tinygen.models.pictures.denoiser import Denoiser as Denoiser
    from tinygen.models.pictures.gan import ConvDiscriminator as ConvDiscriminator
    from tinygen.models.pictures.gan import ConvGenerator as ConvGenerator
    from tinygen.models.pictures.gan import DenseDiscriminator as DenseDiscriminator
    from tinygen.models.pictures.gan import DenseGenerator as DenseGenerator
    from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE as HierarchicalVAE
    from tinygen.models.pictures.palette import Palette as Palette
    from tinygen.models.pictures.plain_autoencoder import SWAE as SWAE
    from tinygen.models.pictures.plain_autoencoder import Autoencoder as Autoencoder
    from tinygen.models.pictures.plain_autoencoder import SupervisedAutoencoder as SupervisedAutoencoder
    from tinygen.models.pictures.realnvp import RealNVP as RealNVP
    from tinygen.models.pictures.unet import UNet as UNet
    from tinygen.models.pictures.unet import UNetConfig as UNetConfig
    from tinygen.models.pictures.vae import VAE as VAE
    from tinygen.models.pictures.vae import ConvVAE as ConvVAE
    from tinygen.models.pictures.vgg import VGG as VGG
    from tinygen.models.pictures.vqvae import VQVAE as VQVAE
    from tinygen.models.text_to_image.clip import CLIP as CLIP
    from tinygen.models.text_to_image.clip_encoders import ConvImageEncoder as ConvImageEncoder
    from tinygen.models.text_to_image.clip_encoders import TextTower as TextTower
    from tinygen.models.text_to_image.clip_encoders import TowerConfig as TowerConfig
    from tinygen.models.text_to_image.clip_encoders import VisionTransformer as VisionTransformer
    from tinygen.models.text_to_image.controlled_diffusion import ControlledDiffusion as ControlledDiffusion
    from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion as LatentDiffusion
    from tinygen.models.text_to_image.latent_diffusion import TextDenoiser as TextDenoiser
    from tinygen.models.text_to_image.noisy_clip import NoisyCLIP as NoisyCLIP
    from tinygen.models.text_to_image.noisy_clip import NoisyImageEncoder as NoisyImageEncoder
    from tinygen.models.text_to_image.stable_diffusion import StableDiffusion as StableDiffusion
    from tinygen.models.text_to_image.text_encoder import TextEncoder as TextEncoder
    from tinygen.models.text_to_image.text_encoder import TextEncoderConfig as TextEncoderConfig
    from tinygen.models.text_to_image.text_gan import TextDiscriminator as TextDiscriminator
    from tinygen.models.text_to_image.text_gan import TextGenerator as TextGenerator
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        ("huggingface", "language", "pictures", "text_to_image"),
        {
            "language.bart": ("BART", "BARTConfig"),
            "language.bert": ("BERT", "BERTConfig"),
            "language.gpt": ("GPT", "GPTConfig"),
            "language.linear": ("LinearLM",),
            "language.llama": ("Llama", "LlamaConfig"),
            "language.recurrent": ("RecurrentLM", "Tagger"),
            "language.t5": ("T5", "T5Config"),
            "language.transformer": ("Transformer", "TransformerConfig"),
            "language.wavenet": ("WaveNet",),
            "language.word2vec": ("Word2Vec",),
            "pictures.autoencoder": ("AutoencoderConfig", "AutoencoderKL"),
            "pictures.controlnet": ("ControlNet", "ControlNetConfig"),
            "pictures.denoiser": ("Denoiser",),
            "pictures.gan": (
                "ConvDiscriminator",
                "ConvGenerator",
                "DenseDiscriminator",
                "DenseGenerator",
            ),
            "pictures.hierarchical_vae": ("HierarchicalVAE",),
            "pictures.palette": ("Palette",),
            "pictures.plain_autoencoder": ("SWAE", "Autoencoder", "SupervisedAutoencoder"),
            "pictures.realnvp": ("RealNVP",),
            "pictures.unet": ("UNet", "UNetConfig"),
            "pictures.vae": ("VAE", "ConvVAE"),
            "pictures.vgg": ("VGG",),
            "pictures.vqvae": ("VQVAE",),
            "text_to_image.clip": ("CLIP",),
            "text_to_image.clip_encoders": (
                "ConvImageEncoder",
                "TextTower",
                "TowerConfig",
                "VisionTransformer",
            ),
            "text_to_image.controlled_diffusion": ("ControlledDiffusion",),
            "text_to_image.latent_diffusion": ("LatentDiffusion", "TextDenoiser"),
            "text_to_image.noisy_clip": ("NoisyCLIP", "NoisyImageEncoder"),
            "text_to_image.stable_diffusion": ("StableDiffusion",),
            "text_to_image.text_encoder": ("TextEncoder", "TextEncoderConfig"),
            "text_to_image.text_gan": ("TextDiscriminator", "TextGenerator"),
        },
    )
