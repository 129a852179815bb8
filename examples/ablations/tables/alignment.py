"""Ablations of alignment."""

from __future__ import annotations

from ablations.ablation import Ablation, Change

PPO = "tinygen/align/ppo.py"

ALIGNMENT = (
    Ablation(
        name="gae_ignores_ends",
        chapter="alignment",
        title="GAE that ignores the ends of episodes",
        change=Change(PPO, "gamma * np.where(ends, 0.0, values[:, 1:])", "gamma * values[:, 1:]"),
        experiment="alignment.cart_pole",
        worse="lower",
        why="After the pole has fallen there is nothing to come: the value of the next state must count 0. "
        "If the value of the next episode's start counts instead, a fall costs nothing, and the critic "
        "believes in a future without end.",
        test="tests/align/test_policy_gradient.py::test_gae_is_its_definition",
        further=(Change(PPO, "np.where(ends[:, t], 0.0, advantage)", "advantage"),),
    ),
    Ablation(
        name="no_ratio_clip",
        chapter="alignment",
        title="PPO without the clip",
        change=Change(
            PPO,
            "    upper, lower = np.minimum(log_ratio, math.log1p(clip)), np.maximum(log_ratio, low)\n",
            "    upper = lower = log_ratio\n",
        ),
        experiment="alignment.many_epochs",
        worse="lower",
        why="The rollout says how good actions were under the policy that took them. Each step on it moves "
        "the policy further from that one, and without the clip the ratio π/π_old may grow without "
        "limit: the policy bets all on a few lucky responses, and cannot come back, since it never "
        "draws others again.",
        test="tests/align/test_edges.py::test_surrogate_is_the_papers",
    ),
    Ablation(
        name="dropout_left_on",
        chapter="alignment",
        title="Dropout left on in PPO",
        change=Change(
            "tinygen/align/rollouts.py",
            "    with model.eval_mode():  # with dropout, the ratio of a policy to itself would not be 1\n",
            "    if True:\n",
        ),
        experiment="alignment.policy_with_dropout",
        worse="higher",
        why="PPO compares the policy with itself before the update. With dropout each pass is another "
        "policy: the ratio is not 1 before the first step, and part of the actions is outside of the "
        "clip for no reason. In this small world the final reward hardly suffers.",
        test="tests/align/test_rollouts.py::test_no_dropout_in_a_policy_pass",
    ),
    Ablation(
        name="kl_sign",
        chapter="alignment",
        title="+ β KL in the reward",
        change=Change("tinygen/align/kl.py", "zeros_outside(-beta * k1(", "zeros_outside(beta * k1("),
        experiment="alignment.costly_divergence",
        worse="lower",
        why="Some slides have this sign. The divergence from the reference is then no cost but a reward, "
        "and the policy earns most where it leaves the reference as far as it can.",
        test="tests/align/test_policy_gradient.py::test_rewards_per_token",
    ),
    Ablation(
        name="no_reference",
        chapter="alignment",
        title="DPO without the reference",
        change=Change(
            "tinygen/align/dpo.py",
            "(chosen_log_probs - rejected_log_probs) - (ref_chosen_log_probs - ref_rejected_log_probs)",
            "chosen_log_probs - rejected_log_probs",
        ),
        experiment="alignment.exact_dpo",
        worse="lower",
        why="DPO's policy is π_ref exp(r/β), normalized. Without the reference in the margin it is exp(r/β) "
        "alone, as if the reference were uniform: what the reference knows is lost, and the policy pays "
        "for a divergence that brings no reward.",
        test="tests/align/test_preferences.py::test_the_optimum_of_dpo_is_the_optimum",
    ),
)
