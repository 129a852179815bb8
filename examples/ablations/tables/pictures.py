"""Ablations of autoencoders and diffusion."""

from __future__ import annotations

from ablations.ablation import Ablation, Change

VAE, VQVAE = "tinygen/models/pictures/vae.py", "tinygen/models/pictures/vqvae.py"
SCHEDULE, SAMPLING = "tinygen/diffusion/schedule.py", "tinygen/diffusion/sampling.py"

PICTURES = (
    Ablation(
        name="no_reparameterization",
        chapter="autoencoders",
        title="A draw whose standard deviation gets no gradient",
        change=Change(
            VAE,
            "    return mean + np.exp(0.5 * logvar) * eps\n",
            "    return mean + np.exp(0.5 * logvar.detach()) * eps\n",
        ),
        experiment="pictures.digits_vae",
        worse="higher",
        why="In z = μ + σ ε the gradient of the reconstruction reaches σ, and makes it small where the "
        "decoder needs an exact code. Without it only the KL speaks to σ, and pulls it to 1, the "
        "prior's. Every code is then drowned in noise.",
        test="tests/models/pictures/test_vae.py::test_the_draw_is_differentiable",
    ),
    Ablation(
        name="fixed_variance",
        chapter="autoencoders",
        title="A decoder whose variance is fixed at 1",
        change=Change(VAE, "log_normal(x, out, self.logvar)\n", "log_normal(x, out, 0.0 * self.logvar)\n"),
        experiment="pictures.gaussian_vae",
        worse="higher",
        why="Pixels lie between 0 and 1. With variance 1 the worst picture costs half a nat a pixel more "
        "than the best one, so almost no code is worth its KL: the codes collapse to the prior, and the "
        "decoder draws nearly the same blur for all. The squared error alone, without a variance, is "
        "this bug.",
        test="tests/models/pictures/test_vae.py::test_gaussian_pixels_by_hand",
    ),
    Ablation(
        name="no_kl_warmup",
        chapter="autoencoders",
        title="The whole KL from the first step on",
        change=Change(
            "examples/ablations/experiments/pictures.py",
            "    return min(1.0, step / warmup)\n",
            "    return 1.0\n",
        ),
        experiment="pictures.text_vae",
        worse="lower",
        why="At the start a code is noise, and the decoder learns to do without it. The KL sees a code that "
        "costs and brings nothing, and pulls it to the prior: the beginning of posterior collapse. "
        "While the KL is still cheap, encoder and decoder learn to use the code, and then go on using "
        "it. The code could name one of 8 languages, ln 8 = 2.08 nats. The bound alone does not show "
        "the damage, since this decoder can find out the language by itself.",
        test="tests/examples/test_break_it.py::test_the_weight_of_the_kl_rises",
    ),
    Ablation(
        name="no_straight_through",
        chapter="autoencoders",
        title="VQ-VAE without the straight-through gradient",
        change=Change(VQVAE, "        through = detach(e) + (z - detach(z))\n", "        through = e\n"),
        experiment="pictures.digits_vq",
        worse="higher",
        why="The choice of the nearest code has no gradient. The straight-through trick hands the decoder's "
        "gradient to the encoder as if z were e. Without it the encoder never learns what the decoder "
        "needs; only the commitment moves it.",
        test="tests/models/pictures/test_vqvae.py::test_straight_through",
    ),
    Ablation(
        name="betas_of_1000",
        chapter="diffusion",
        title="The betas of 1000 steps on 50",
        change=Change(
            SCHEDULE,
            "    first, last = 1000 / steps * first, 1000 / steps * last\n",
            "    first, last = first, last\n",
        ),
        experiment="diffusion.exact_score",
        worse="higher",
        why="After 50 such steps x_T is still mostly data: α_T² is 0.60. Samples start from pure noise all "
        "the same, and that is another distribution than the one at step T. Even the best denoiser "
        "cannot repair it: the largest group of points gets too few of them. (The library warns of such "
        "a schedule.)",
        test="tests/diffusion/test_schedule.py::test_linear_is_rescaled",
    ),
    Ablation(
        name="no_noise",
        chapter="diffusion",
        title="Steps back without noise",
        change=Change(
            SAMPLING,
            "    return mean + np.exp(0.5 * log_variance) * noise_like(x, as_generator(rng))\n",
            "    return mean\n",
        ),
        experiment="diffusion.exact_score",
        worse="higher",
        why="The mean of the posterior is not a draw of it. Without its noise all points go to the most "
        "probable place: every one ends in the largest group, and there almost in one point. A picture "
        "that is like that may look better than the data, and all of them are the same.",
        test="tests/diffusion/test_sampling.py::test_ancestral_step_is_gaussian_conditioning",
    ),
    Ablation(
        name="guidance_off_by_one",
        chapter="diffusion",
        title="The paper's weight w, given as scale = 1 + w",
        change=Change(
            "tinygen/diffusion/guidance.py",
            "    return scale * conditional + (1 - scale) * unconditional\n",
            "    return (1 + scale) * conditional - scale * unconditional\n",
        ),
        experiment="diffusion.guidance",
        worse="higher",
        why="Two conventions are in use: in one, no guidance is scale 1, in the other it is w = 0. Who "
        "takes one for the other guides by one more than they think, and never sees the plain "
        "conditional model. The picture also shows what guidance costs, up to 10: the samples leave p(x "
        "| class).",
        test="tests/diffusion/test_guidance.py::test_guide",
    ),
)
