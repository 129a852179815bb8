"""Models of pictures: autoencoders, the networks of diffusion, adversarial networks."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.models.pictures import autoencoder as autoencoder
    from tinygen.models.pictures import denoiser as denoiser
    from tinygen.models.pictures import gan as gan
    from tinygen.models.pictures import gan_losses as gan_losses
    from tinygen.models.pictures import style as style
    from tinygen.models.pictures import unet as unet
    from tinygen.models.pictures import vae as vae
    from tinygen.models.pictures import vgg as vgg
    from tinygen.models.pictures import vqvae as vqvae
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        (
            "autoencoder",
            "denoiser",
            "gan",
            "gan_losses",
            "style",
            "unet",
            "vae",
            "vgg",
            "vqvae",
        ),
    )
