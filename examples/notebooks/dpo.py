"""DPO teaches a policy which of two answers people prefer. The policy here is a table of logits."""

import numpy as np
from pages.adamw import AdamW
from pages.dpo import dpo_loss, implicit_reward, log_pi, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = {"table": 0.1 * rng.standard_normal((6, 6))}
params_ref = dict(params)


def policy(p, tokens):
    """The logits of the token after each: a row of the table."""
    return p["table"][tokens]


# After the prompt (0, 1), the answer (2, 3) is better than (4, 5), and (3, 3) is better than (5, 5).
y_w, y_l = np.array([[0, 1, 2, 3], [0, 1, 3, 3]]), np.array([[0, 1, 4, 5], [0, 1, 5, 5]])
mask = np.array([[False, False, True, True]] * 2)

# The program of the loss, as the tape records it. The reference is a constant.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
reference = [log_pi(policy, params_ref, y, mask) for y in (y_w, y_l)]
graph(dpo_loss(log_pi(policy, p, y_w, mask), log_pi(policy, p, y_l, mask), *reference, beta=0.5), names=p)

# Training. At the start the policy is the reference, and the loss is log 2.
update = AdamW(params, alpha=0.1).update
losses = [train_step(policy, params, params_ref, y_w, mask, y_l, mask, 0.5, update) for _ in range(31)]
print("loss:", *(f"{x:.3f}" for x in losses[::10]))

# The rewards that the policy implies.
better, worse = (implicit_reward(policy, params, params_ref, y, mask, 0.5) for y in (y_w, y_l))
print("rewards:", better.round(2), ">", worse.round(2))
assert np.all(better > worse)

# **Try this.** Look at log π of the better answers before and after: did it rise, or did only the worse
# ones fall? Then vary `beta`: how far does the policy go from the reference?
