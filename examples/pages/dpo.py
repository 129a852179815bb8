"""Direct preference optimization on one page: DPO (Rafailov et al. 2023, arXiv:2305.18290).

People prefer the response y_w to y_l for the prompt x. The policy π_θ learns from such pairs, without a
reward model, and stays near a reference policy π_ref, from which it started:

    h = log π_θ(y_w|x)/π_ref(y_w|x) - log π_θ(y_l|x)/π_ref(y_l|x)
    loss = -E log σ(β h)                                               eq. 7

The policy is an argument: model(params, tokens) gives the logits (B, T, V) of the token that follows each of
tokens (B, T), as `gpt.py` does. A response is its tokens (B, T), with the prompt in front, and a mask (B, T),
True where a token belongs to the response.
`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B pairs, T tokens, V vocabulary.
"""

import numpy as np

from tinygen import Tensor, ops


def log_pi(model, p, tokens, mask):
    """log π(y|x) (B,): the sum over the tokens of the response; tokens (B, T), mask (B, T)."""
    log_p = ops.log_softmax(model(p, tokens[:, :-1]))  # (B, T - 1, V): position t predicts token t + 1
    log_p = np.take_along_axis(log_p, tokens[:, 1:, None], axis=-1)[..., 0]  # (B, T - 1)
    return np.sum(np.where(mask[:, 1:], log_p, 0.0), axis=1)  # (B,)


def dpo_loss(log_pi_w, log_pi_l, log_ref_w, log_ref_l, beta):
    """-log σ(β h), the mean over pairs, whose arguments are (B,)."""
    h = (log_pi_w - log_pi_l) - (log_ref_w - log_ref_l)  # (B,)
    return -np.mean(ops.log_sigmoid(beta * h))  # ()


def implicit_reward(model, p, p_ref, tokens, mask, beta):
    """β log π/π_ref (B,): the reward for which π is optimal, up to a constant for each prompt (eq. 5)."""
    log_ratio = log_pi(model, p, tokens, mask) - log_pi(model, p_ref, tokens, mask)  # (B,)
    return beta * log_ratio  # (B,)


def train_step(model, params, params_ref, y_w, mask_w, y_l, mask_l, beta, update):
    """One step on pairs: y_w, mask_w, y_l, mask_l are (B, T), prompts included."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    log_ref_w = log_pi(model, params_ref, y_w, mask_w)  # (B,)
    log_ref_l = log_pi(model, params_ref, y_l, mask_l)  # (B,)
    log_pi_w = log_pi(model, p, y_w, mask_w)  # (B,)
    log_pi_l = log_pi(model, p, y_l, mask_l)  # (B,)
    loss = dpo_loss(log_pi_w, log_pi_l, log_ref_w, log_ref_l, beta)  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()
