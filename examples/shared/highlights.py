"""The ten results in README."""

HIGHLIGHTS = {
    "gpt_text": "GPT, all of the validation text",
    "language_ladder": "llama: nats a token",
    "translate_numbers": "encoder-decoder: numbers right",
    "lora_finetune": "LoRA: loss, nats a word",
    "flows_2d": "flow matching: nats above the entropy",
    "diffusion_2d": "loss above the floor, %",
    "gan_digits": "Fréchet distance",
    "latent_diffusion_shapes": "pairs never seen: surely shape and color (%)",
    "ppo_cartpole": "mean return of the seeds",
    "rlhf_exact": "DPO: reward, % of the frontier",
}
"""For each example, the figure that says most."""
