"""Whole pictures beside diffusers: small random folders of Stable Diffusion 1 and 2, made with diffusers and
transformers, read here; the latents after 20 steps and the pictures of the same noise."""

import numpy as np
import pytest
from sd_folders import vocabulary

from tinygen.models.huggingface import stable_diffusion
from tinygen.nn import timestep_embedding

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

PROMPTS, NEGATIVE = ["a red cat!", "THE café 12"], "blue"
STEPS, GUIDANCE = 20, 5.0
LEVELS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SCHEDULERS = {
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler, ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "DPM++": ("DPMSolverMultistepScheduler", {}),
}


def shaken(model):
    """With norms and biases, which start as 1 and 0, random too."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.2 * torch.randn_like(p))
    return model.eval()


def written(folder, version, scheduler="PNDM", channels=4):
    """diffusers' pipeline of a small random model, which is saved in the folder."""
    torch.manual_seed(version)
    vocab, merges = vocabulary()
    one = version == 1
    pad, end = ("<|endoftext|>", len(vocab) - 1) if one else ("!", 2)
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = transformers.CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_act="quick_gelu" if one else "gelu",
        eos_token_id=end,
        **sizes,
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        layers_per_block=1,
        attention_head_dim=4 if one else (2, 4),
        use_linear_projection=not one,
        cross_attention_dim=16,
        sample_size=8,
        in_channels=channels,
    )
    autoencoder = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    kind, options = SCHEDULERS[scheduler]
    predicts = "epsilon" if one else "v_prediction"
    pipe = diffusers.StableDiffusionPipeline(
        tokenizer=tokenizer,
        text_encoder=shaken(transformers.CLIPTextModel(text)),
        unet=shaken(unet),
        vae=shaken(autoencoder),
        scheduler=getattr(diffusers, kind)(**LEVELS, prediction_type=predicts, **options),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return pipe


@pytest.fixture
def same_noise(monkeypatch):
    """All of diffusers draws from a generator of NumPy, in the same order as here."""
    rng = np.random.default_rng(0)

    def drawn(shape, generator=None, device=None, dtype=None, layout=None):
        return torch.tensor(rng.standard_normal(tuple(shape), np.float32)).to(dtype)

    from diffusers.models.autoencoders import vae
    from diffusers.pipelines.stable_diffusion import (
        pipeline_stable_diffusion,
        pipeline_stable_diffusion_img2img,
        pipeline_stable_diffusion_inpaint,
    )
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral

    pipelines = (
        pipeline_stable_diffusion,
        pipeline_stable_diffusion_img2img,
        pipeline_stable_diffusion_inpaint,
    )
    for module in (vae, *pipelines):
        monkeypatch.setattr(module, "randn_tensor", drawn)

    def drawn_there(shape, dtype=None, **_):
        return torch.tensor(rng.standard_normal(tuple(shape), str(dtype).removeprefix("torch.")))

    monkeypatch.setattr(ancestral, "randn_tensor", drawn_there)  # in the dtype of the state, as here


CASES = {
    "text to image": ("StableDiffusionPipeline", 4, {}),
    "image to image": ("StableDiffusionImg2ImgPipeline", 4, {"strength": 0.75}),
    "inpainting, 4 channels": ("StableDiffusionInpaintPipeline", 4, {"strength": 1.0}),
    "inpainting, 4 channels, 0.6": ("StableDiffusionInpaintPipeline", 4, {"strength": 0.6}),
    "inpainting, 9 channels": ("StableDiffusionInpaintPipeline", 9, {"strength": 1.0}),
    "inpainting, 9 channels, 0.6": ("StableDiffusionInpaintPipeline", 9, {"strength": 0.6}),
}
ALL = [
    (case, version, "PNDM" if version == 1 else "DDIM")
    for case in CASES
    for version in (1, 2)[: 1 if "0.6" in case else 2]
]
ALL += [("text to image", 1, name) for name in ("Euler", "Euler, ancestral", "DPM++")]
ALL += [("inpainting, 4 channels", 1, name) for name in ("Euler", "DPM++")]
HOLE = np.zeros((2, 1, 64, 40), bool)
HOLE[0, :, 20:45, 9:30], HOLE[1, :, :, 25:] = True, True
PICTURES = np.tanh(np.random.default_rng(5).standard_normal((2, 3, 64, 40), dtype=np.float32))


def theirs(pipe, case, dtype):
    """diffusers' latents and pictures (B, H, W, 3) in 0 ... 1."""
    kind, _, given = CASES[case]
    pipe = getattr(diffusers, kind)(**pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "negative_prompt": [NEGATIVE] * 2,
        **given,
    }
    if case == "text to image":
        options |= {"height": 64, "width": 40}
    else:
        options["image"] = torch.tensor(PICTURES.astype(dtype) / 2 + 0.5)
    if "inpainting" in case:
        options |= {"mask_image": torch.tensor(HOLE.astype(dtype)), "height": 64, "width": 40}
    latents = pipe(PROMPTS, output_type="latent", **options).images
    with torch.no_grad():
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return latents.numpy(), pipe.image_processor.postprocess(decoded, output_type="np")


def ours(model, case):
    given = {**CASES[case][2]}
    if case == "text to image":
        given["size"] = (64, 40)
    else:
        given["picture"] = PICTURES
    if "inpainting" in case:
        given["hole"] = HOLE
    options = {"negative": NEGATIVE, "guidance": GUIDANCE, "steps": STEPS, "rng": 0}
    *_, latents = model.sample_steps(PROMPTS, **options, **given)
    return latents, np.clip(model.decode(latents) / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("case", "version", "scheduler"), ALL)
def test_their_pictures(tmp_path, same_noise, case, version, scheduler, dtype):
    """Latents within 1e-4 of their standard deviation, in float64 within 1e-6 (diffusers computes schedules
    in float32), pictures within one level of 255."""
    pipe = written(tmp_path, version, scheduler, CASES[case][1])
    model = stable_diffusion.from_pretrained(tmp_path)
    if dtype == "float64":
        pipe.to(torch.float64)
        channels = model.unet.config.channels
        pipe.unet.time_proj.forward = lambda t: torch.tensor(timestep_embedding(t.numpy(), channels))
        model.astype(np.float64)
    wanted, pictures = theirs(pipe, case, dtype)
    latents, painted = ours(model, case)
    assert latents.dtype == wanted.dtype == dtype
    assert wanted.std() > 0.1
    print(f"{case}, {version}, {scheduler}, {dtype}: {np.abs(latents - wanted).max() / wanted.std():.1e}")
    assert np.abs(latents - wanted).max() <= (1e-4 if dtype == "float32" else 1e-5) * wanted.std()
    assert np.abs(np.round(painted * 255) - np.round(pictures * 255)).max() <= 1
    assert painted.std() > 0.05
