"""Models, one file each, in folders by subject. `from tinygen.models import GPT` imports GPT's file alone."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.models import huggingface as huggingface
    from tinygen.models import language as language
    from tinygen.models import pictures as pictures
    from tinygen.models import text_to_image as text_to_image
    from tinygen.models.language.gpt import GPT as GPT
    from tinygen.models.language.gpt import GPTConfig as GPTConfig
    from tinygen.models.pictures.autoencoder import AutoencoderConfig as AutoencoderConfig
    from tinygen.models.pictures.autoencoder import AutoencoderKL as AutoencoderKL
    from tinygen.models.pictures.denoiser import Denoiser as Denoiser
    from tinygen.models.pictures.unet import UNet as UNet
    from tinygen.models.pictures.unet import UNetConfig as UNetConfig
    from tinygen.models.pictures.vae import VAE as VAE
    from tinygen.models.pictures.vae import ConvVAE as ConvVAE
    from tinygen.models.pictures.vqvae import VQVAE as VQVAE
    from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion as LatentDiffusion
    from tinygen.models.text_to_image.latent_diffusion import TextDenoiser as TextDenoiser
    from tinygen.models.text_to_image.text_encoder import TextEncoder as TextEncoder
    from tinygen.models.text_to_image.text_encoder import TextEncoderConfig as TextEncoderConfig
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        ("huggingface", "language", "pictures", "text_to_image"),
        {
            "language.gpt": ("GPT", "GPTConfig"),
            "pictures.autoencoder": ("AutoencoderConfig", "AutoencoderKL"),
            "pictures.denoiser": ("Denoiser",),
            "pictures.unet": ("UNet", "UNetConfig"),
            "pictures.vae": ("VAE", "ConvVAE"),
            "pictures.vqvae": ("VQVAE",),
            "text_to_image.latent_diffusion": ("LatentDiffusion", "TextDenoiser"),
            "text_to_image.text_encoder": ("TextEncoder", "TextEncoderConfig"),
        },
    )
