"""Pictures from captions, and the vectors that compare the two."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.models.text_to_image import clip as clip
    from tinygen.models.text_to_image import clip_encoders as clip_encoders
    from tinygen.models.text_to_image import latent_diffusion as latent_diffusion
    from tinygen.models.text_to_image import noisy_clip as noisy_clip
    from tinygen.models.text_to_image import stable_diffusion as stable_diffusion
    from tinygen.models.text_to_image import text_encoder as text_encoder
    from tinygen.models.text_to_image import text_gan as text_gan
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        (
            "clip",
            "clip_encoders",
            "latent_diffusion",
            "noisy_clip",
            "stable_diffusion",
            "text_encoder",
            "text_gan",
        ),
    )
