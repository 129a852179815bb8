"""One step of each method of alignment, in a world so small that every mean is a sum.

The policy is uniform, so that the mean over a batch of all responses is exactly the mean over the policy;
the reference, the rewards and the critic are arbitrary. So the step of REINFORCE, and the first steps of
PPO and GRPO, must follow the exact gradient of E[r] - β KL(π ‖ reference), or of the objective in their
papers. All further steps on the same responses are compared with the objective written out by hand."""

import copy

import numpy as np
import pytest
from by_hand import Training, exact, log_p, same
from example_runs import module

from tinygen import Tensor, nn
from tinygen.align import Responses, rollouts
from tinygen.align.world import World
from tinygen.models.language.gpt import GPTConfig
from tinygen.optim import SGD

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

example = module("rlhf.py")

RATE, BETA, GAIN = 8.0, 0.5, 0.6
PRICE = BETA * GAIN


# -- models that can be anything -------------------------------------------------------------------


class Table(nn.Module):
    """Numbers (N, V) of its own for every text so far."""

    def __init__(self, length, rng, scale):
        self.weight = nn.Parameter(scale * rng.standard_normal((4**length, 3)), np.float64)

    def numbers(self, tokens):
        places = np.cumsum((tokens + 1) * 4 ** np.arange(tokens.shape[1]), axis=1)
        return self.weight[places]  # (B, T, V)


class Policy(Table):
    def forward(self, tokens, targets=None):
        logits = self.numbers(tokens)
        if targets is None:
            return logits, None
        counts = targets >= 0
        return logits, -(log_p(logits, np.where(counts, targets, 0)) * counts).sum() / counts.sum()


class Critic(Table):
    def forward(self, tokens):
        return self.numbers(tokens)[..., 0]


class Judge(nn.Module):
    """In the place of a reward model whose `scale` is not 1 any more."""

    def __init__(self, scores):
        self.scores, self.scale = scores, nn.Buffer(np.array(GAIN))

    def score(self, responses):
        return Tensor(self.scores(*responses))


@pytest.fixture
def setting(monkeypatch):
    """`make(length, epochs, end)` -> the steps, a copy of their policy and critic, the world."""

    def make(length, epochs=1, end=None, scale=1.0):
        rng = np.random.default_rng(0)
        world = World(np.arange(3)[:, None], 3, length, lambda x, y: scale * rng.standard_normal(len(y)))
        n = len(world.responses)
        task = example.Task(lambda k, _: world.prompts.repeat(k // 3, axis=0), length, end)
        config = GPTConfig(3, 1 + length, 1, 1, 4)
        options = {"batch": 3 * n, "group": n, "beta": BETA, "epochs": epochs}
        steps = example.Steps(config, task, np.random.default_rng(1), **options)
        steps.policy, steps.reference = (Policy(length + 1, rng, s) for s in (0.0, 1.0))
        steps.critic = Critic(length + 1, rng, 0.3)
        steps.reward = Judge(lambda tokens, _: world.rewards[tokens[:, 0], world.number(tokens[:, 1:])])
        steps.optimizer = SGD([*steps.policy.parameters(), *steps.critic.parameters()], RATE)

        def every(policy, prompts, n_tokens, end=None, rng=None):
            assert policy is steps.policy
            assert n_tokens == length
            tokens = np.concatenate([prompts, np.tile(world.responses, (3, 1))], axis=1)
            return Responses.from_tokens(tokens, 1, end)

        monkeypatch.setattr(rollouts, "rollout", every)
        return steps, copy.deepcopy((steps.policy, steps.critic)), world

    return make


def descend(models, loss):
    """A step of gradient descent, its gradient no longer than 1."""
    params = [p for model in models for p in model.parameters()]
    for p in params:
        p.grad = None
    loss.backward()
    grads = [np.zeros(p.shape) if p.grad is None else p.grad for p in params]
    norm = np.sqrt(sum(np.sum(g * g) for g in grads))
    for p, g in zip(params, grads, strict=True):
        p.data = p.data - RATE * min(1, 1 / (norm + 1e-6)) * g
    return norm


def every_log_p(policy, world):
    """ln π of all responses to all prompts, (3, R), by the chain rule."""
    tokens = world.tokens(*np.indices(world.rewards.shape).reshape(2, -1))
    return log_p(policy(tokens[:, :-1])[0], tokens[:, 1:]).sum(axis=1).reshape(world.rewards.shape)


def objective(policy, reference, world):
    """E[r] - β KL(π ‖ reference), a sum over all responses."""
    ours, theirs = every_log_p(policy, world), every_log_p(reference, world).data
    return (np.exp(ours) * (world.rewards - PRICE * (ours - theirs))).sum(axis=1).mean()


# -- the first step --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 9.0])
def test_reinforce_climbs_the_objective(setting, scale):
    """With all R responses in a group, the others' mean as the baseline makes the exact gradient R/(R - 1)
    times as long. Of large rewards the step is cut to length 1."""
    steps, (policy, critic), world = setting(2, scale=scale)
    before = objective(policy, steps.reference, world).item()
    steps.reinforce()
    norm = descend([policy], -objective(policy, steps.reference, world) * (9 / 8))
    assert (norm > 1) == (scale > 1)
    same(steps.policy, policy)
    same(steps.critic, critic)
    assert objective(steps.policy, steps.reference, world).item() > before


@pytest.mark.parametrize("scale", [0.1, 9.0])
def test_ppo_climbs_the_objective(setting, scale):
    """Responses of one token: the advantages are r - β ln(π/reference) - V, whatever λ. Their mean over a
    prompt is a baseline; divided by their standard deviation, the exact gradient is shorter."""
    steps, (policy, critic), world = setting(1, scale=scale)
    values = critic(world.prompts).data  # (3, 1)
    rewards = world.rewards - PRICE * (np.log(1 / 3) - every_log_p(steps.reference, world).data)
    steps.ppo()
    deviation = np.sqrt(np.var(rewards - values) + 1e-8)
    of_critic = 0.5 * np.mean((critic(world.prompts) - rewards) ** 2)
    descend([policy, critic], 0.1 * of_critic - objective(policy, steps.reference, world) / deviation)
    same(steps.policy, policy)
    same(steps.critic, critic)


def test_grpo_climbs_rewards_and_stays_near_the_reference(setting):
    """The mean gradient of k3 is the gradient of KL(reference ‖ π), token by token; all is divided by the
    length."""
    steps, (policy, critic), world = setting(2)
    steps.grpo()
    centered = world.rewards - world.rewards.mean(axis=1, keepdims=True)
    advantages = centered / (world.rewards.std(axis=1, keepdims=True) + 1e-4)
    gain = (np.exp(every_log_p(policy, world)) * advantages).sum(axis=1).mean()
    away = 0.0
    stems = np.concatenate([world.prompts.repeat(3, axis=0), np.tile(np.arange(3), 3)[:, None]], axis=1)
    for tokens in (world.prompts, stems):  # before the first token, and before the second
        ours, theirs = (
            np.stack([log_p(m(tokens)[0][:, -1], np.full(len(tokens), v)) for v in range(3)], axis=1)
            for m in (policy, steps.reference)
        )
        p = np.exp(theirs.data)
        away = away + (p * (theirs.data - ours)).sum(axis=1).mean()
    descend([policy], (PRICE * away - gain) / 2)
    same(steps.policy, policy)
    same(steps.critic, critic)


# -- and the next ----------------------------------------------------------------------------------


def said(policy, reference, world, end):
    """All texts, which of their tokens count, ln π and ln reference of the tokens, the scores."""
    tokens = world.tokens(*np.indices(world.rewards.shape).reshape(2, -1))
    mask = rollouts.response_mask(tokens, 1, end)[:, 1:]
    old, ref = (log_p(m(tokens[:, :-1])[0].data, tokens[:, 1:]) for m in (policy, reference))
    scores = world.rewards.ravel().copy()
    if end is not None:  # one point less where it was cut off
        scores[(tokens[:, 1:] != end).all(axis=1)] -= 1
    return tokens, mask, old, ref, scores


def surrogate(new, old, advantages):
    ratio = np.exp(new - old)
    return np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages), np.abs(ratio.data - 1) > 0.2


@pytest.mark.parametrize("end", [None, 0])
@pytest.mark.parametrize("ptx", [0.0, 0.3])
def test_ppo_on_the_same_responses_again(setting, end, ptx):
    """Ratios to the policy that drew them, not to the reference; old values; γ = 1 and λ = 0.95."""
    steps, (policy, critic), world = setting(3, epochs=4, end=end)
    texts = np.random.default_rng(2).integers(3, size=(5, 4))
    counts = rollouts.response_mask(texts, 2, 0)
    tokens, mask, old, ref, scores = said(policy, steps.reference, world, end)
    steps.ppo(ptx, Responses(texts, counts))

    values = critic(tokens).data
    rewards = -PRICE * (old - ref) * mask
    ends = np.where(mask, np.arange(3), -1).max(axis=1)
    rewards[np.arange(len(ends)), ends] += scores
    advantages = np.zeros(mask.shape)
    for b, end_of in enumerate(ends):
        for t in range(end_of + 1):
            for k in range(t, end_of + 1):
                after = values[b, k + 1] if k < end_of else 0.0
                advantages[b, t] += 0.95 ** (k - t) * (rewards[b, k] + after - values[b, k])
    returns = advantages + values[:, :-1]
    white = (advantages - advantages[mask].mean()) / np.sqrt(np.var(advantages[mask]) + 1e-8)
    beyond = 0
    for _ in range(4):
        new = log_p(policy(tokens[:, :-1])[0], tokens[:, 1:])
        gain, far = surrogate(new, old, white)
        value = critic(tokens)[:, :-1]
        near = np.clip(value, values[:, :-1] - 0.2, values[:, :-1] + 0.2)
        error = 0.5 * np.maximum((value - returns) ** 2, (near - returns) ** 2)
        loss = ((0.1 * error - gain) * mask).sum() / mask.sum()
        if ptx:
            of_texts = log_p(policy(texts[:, :-1])[0], texts[:, 1:])
            loss = loss - ptx * (of_texts * counts[:, 1:]).sum() / counts.sum()
        descend([policy, critic], loss)
        beyond += np.sum(far & mask)
    assert beyond > 10
    same(steps.policy, policy)
    same(steps.critic, critic)


@pytest.mark.parametrize("end", [None, 0])
def test_grpo_on_the_same_responses_again(setting, end):
    steps, (policy, _), world = setting(3, epochs=4, end=end)
    tokens, mask, old, ref, scores = said(policy, steps.reference, world, end)
    steps.grpo()
    groups = scores.reshape(3, -1)
    advantages = (groups - groups.mean(axis=1, keepdims=True)) / (groups.std(axis=1, keepdims=True) + 1e-4)
    beyond = 0
    for _ in range(4):
        new = log_p(policy(tokens[:, :-1])[0], tokens[:, 1:])
        gain, far = surrogate(new, old, advantages.reshape(-1, 1))
        away = np.exp(ref - new) - 1 - (ref - new)
        descend([policy], (((PRICE * away - gain) * mask).sum(axis=1) / mask.sum(axis=1)).mean())
        beyond += np.sum(far & mask)
    assert beyond > 10
    same(steps.policy, policy)


# -- from texts ------------------------------------------------------------------------------------


def test_dpo(setting):
    """-ln σ(β (ln π/reference of the winner - that of the loser)), of whole responses: winners come first."""
    steps, (policy, _), world = setting(2, end=0)
    prompt, winner, loser = np.random.default_rng(3).integers([[3], [9], [9]], size=(3, 20))
    tokens = world.tokens(np.tile(prompt, 2), np.concatenate([winner, loser]))
    mask = rollouts.response_mask(tokens, 1, 0)
    for _ in range(2):
        ours, theirs = (
            (log_p(m(tokens[:, :-1])[0], tokens[:, 1:]) * mask[:, 1:]).sum(axis=1)
            for m in (policy, steps.reference)
        )
        ratio = ours - theirs.data
        loss = np.log(1 + np.exp(-BETA * (ratio[:20] - ratio[20:]))).mean()
        assert steps.dpo(Responses(tokens, mask)) == pytest.approx(loss.item())
        descend([policy], loss)
        same(steps.policy, policy)


def real_steps(**more):
    """With GPTs, in float64."""
    task = example.Task(lambda n, rng: rng.integers(3, size=(n, 1)), 3, 0)
    rng = np.random.default_rng(1)
    steps = example.Steps(GPTConfig(3, 4, 1, 2, 8), task, rng, batch=8, beta=BETA, group=4, **more)
    for name in ("policy", "reference", "reward", "critic"):
        getattr(steps, name).astype(np.float64)
    steps.optimizer.lr = 0.01
    return steps


def test_options_of_the_steps_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        example.Steps(GPTConfig(3, 4, 1, 2, 8), None, np.random.default_rng(1), 8, BETA)


def test_demonstrations_and_the_optimizer():
    """Two steps of Adam with ε = 1e-5 on -ln π of the responses, cut to length 1 where they are longer."""
    steps = real_steps()
    _, other = exact(steps.policy)
    texts = np.random.default_rng(2).integers(3, size=(6, 4))
    mask = rollouts.response_mask(texts, 2, 0)
    training = Training(other, eps=1e-5, clip=1.0)
    for _ in range(2):
        of_texts = log_p(other(texts[:, :-1])[0], texts[:, 1:])
        loss = -(of_texts * mask[:, 1:]).sum() / mask.sum()
        assert steps.sft(Responses(texts, mask)) == pytest.approx(training.step(loss, 0.01))
        same(steps.policy, other)


def test_the_reward_model():
    """-ln σ(winner's score - loser's), read at the last token of each."""
    steps = real_steps()
    steps.reward.scale.data[...] = 1.5
    _, other = exact(steps.reward)
    texts = np.random.default_rng(2).integers(3, size=(10, 4))
    mask = rollouts.response_mask(texts, 1, 0)
    ends = np.where(mask, np.arange(4), -1).max(axis=1)
    training = Training(other, eps=1e-5, clip=1.0)
    for _ in range(2):
        scores = other(texts)[np.arange(10), ends]
        loss = np.log(1 + np.exp(scores[5:] - scores[:5])).mean()
        assert steps.rank(Responses(texts, mask)) == pytest.approx(training.step(loss, 0.01))
        same(steps.reward, other)


def test_what_is_said_of_responses(monkeypatch):
    """By the policy, the reference and the reward model, of the responses of the policy; a response without
    its end loses a point."""
    steps = real_steps()
    responses, old, ref, scores = steps.respond(4)
    tokens = responses.tokens
    assert tokens.shape == (8, 4)
    np.testing.assert_array_equal(tokens[:4, 0], tokens[0, 0])  # four to a prompt
    whole = rollouts.response_mask(tokens, 1, 0)
    np.testing.assert_array_equal(responses.action_mask, whole[:, 1:])
    for got, model in ((old, steps.policy), (ref, steps.reference)):
        np.testing.assert_allclose(got, log_p(model(tokens[:, :-1])[0].data, tokens[:, 1:]), rtol=1e-9)
    ends = np.where(whole, np.arange(4), -1).max(axis=1)
    wanted = steps.reward(tokens).data[np.arange(8), ends] - (tokens[:, 1:] != 0).all(axis=1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-9)
    steps.reward.scale.data[...] = 3.0
    assert steps.price == pytest.approx(3 * BETA)


# -- before a stage --------------------------------------------------------------------------------


def test_before_a_stage():
    """SFT begins with new weights by the seed; then the reference and the reward model's body are the policy;
    every method begins at the reference, with the reward model as its critic, and without old moments."""
    steps = real_steps()
    texts = np.random.default_rng(2).integers(3, size=(6, 4))
    mask = rollouts.response_mask(texts, 1)
    states = lambda: {name: m.state_dict() for name, m in steps.things.items() if hasattr(m, "state_dict")}
    equal = lambda a, b: all(np.array_equal(a[name], b[name]) for name in a)
    steps.start_anew(5)
    first = steps.policy.state_dict()
    steps.sft(Responses(texts, mask))
    assert not equal(first, steps.policy.state_dict())
    steps.start_anew(5)
    assert equal(first, steps.policy.state_dict())
    assert not steps.optimizer.state
    steps.sft(Responses(texts, mask))

    steps.keep_reference()
    assert not steps.optimizer.state
    now = states()
    assert equal(now["policy"], now["reference"])
    assert equal({f"body.{name}": x for name, x in now["policy"].items()}, now["reward"])
    steps.rank(Responses(texts, mask))
    steps.dpo(Responses(texts, mask))
    steps.back_to_reference()
    assert not steps.optimizer.state
    after = states()
    assert equal(after["policy"], now["policy"])
    assert equal(after["reference"], now["reference"])
    assert equal(after["critic"], after["reward"])
    assert not equal(after["reward"], now["reward"])  # what it has learned stays
