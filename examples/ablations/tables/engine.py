"""Ablations of the engine."""

from __future__ import annotations

from ablations.ablation import Ablation, Change

BACKWARD = "tinygen/backward.py"

ENGINE = (
    Ablation(
        name="assign_for_add",
        chapter="the engine",
        title="= for += where gradients meet",
        change=Change(BACKWARD, "        before = sums.get(x)\n", "        before = None\n"),
        experiment="engine.residual_network",
        worse="higher",
        why="A value that is used twice reaches the loss on two paths, and by the chain rule each path adds "
        "its term to the gradient. Here each term replaces the one before, so only the last one is "
        "left. The network still learns, but slowly: a wrong gradient is no error message.",
        test="tests/test_backward.py::test_a_diamond",
    ),
    Ablation(
        name="no_order",
        chapter="the engine",
        title="No topological order",
        change=Change(BACKWARD, '    order.sort(key=attrgetter("seq"))\n', "    order.reverse()\n"),
        experiment="engine.residual_network",
        worse="higher",
        why="Without the sort, backward visits the nodes in the order in which a search from the loss finds "
        "them. It finds the input of a residual block before the layer inside the block, and sends the "
        "input's gradient on before the layer has added its term. Late terms are lost.",
        test="tests/test_backward.py::test_a_diamond_whose_arms_have_different_lengths",
        further=(
            Change(
                BACKWARD,
                "        return {x: conjugate(g) for x, g in sums.items()}\n",
                "        kept = {x: g for x, g in sums.items() if type(x) is not Node or x in wanted}\n"
                "        return {x: conjugate(g) for x, g in kept.items()}\n",
            ),
        ),
    ),
    Ablation(
        name="one_copy",
        chapter="the engine",
        title="The mean over copies, where unbroadcast takes the sum",
        change=Change(
            BACKWARD,
            "        g = sum_over(g, (*range(added), *stretched)).reshape(x.shape)\n",
            "        g = g.mean(axis=(*range(added), *stretched)).reshape(x.shape)\n",
        ),
        experiment="engine.offset",
        worse="higher",
        why="Broadcasting copies a bias to every example. Each copy is one more use of it, so its gradient "
        "is the sum over all copies. With the mean, the bias learns 500 times too slowly, and the "
        "weights of the inputs cannot do its work.",
        test="tests/pages/test_equal_the_library.py::test_engine_unbroadcasts",
    ),
    Ablation(
        name="no_max",
        chapter="the engine",
        title="Softmax without its maximum subtracted",
        change=Change(
            "tinygen/ops/activation.py",
            "    return x - np.where(top == -np.inf, 0.0, top).astype(x.dtype)\n",
            "    return x\n",
        ),
        experiment="engine.large_inputs",
        worse="lower",
        why="In float32, exp(x) is infinite from x = 88.8 on, and inf / inf is NaN. One such logit makes "
        "the gradient NaN, and from then on all weights. Softmax does not change when all logits move "
        "by the same amount, so the maximum can be subtracted for free.",
        test="tests/ops/test_loss.py::test_large_logits_do_not_overflow[off]",
    ),
)
