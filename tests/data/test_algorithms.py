"""Sorting and addition: every prompt and its answer, the batches for a GPT, and the held-out split."""

import zlib

import numpy as np
import pytest

from tinygen.data import IGNORED, Task, addition, sorting

TASKS = {"sorting": sorting, "addition": addition}


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]()


def test_a_sorting_example() -> None:
    x, y = sorting().examples(np.array([[2, 0, 1, 0, 2, 1]]))
    assert x.tolist() == [[2, 0, 1, 0, 2, 1, 0, 0, 1, 1, 2]]
    assert y.tolist() == [[-1, -1, -1, -1, -1, 0, 0, 1, 1, 2, 2]]


def test_an_addition_example() -> None:
    x, y = addition().examples(np.array([[8, 5, 5, 0], [0, 7, 0, 5]]))  # 85 + 50 and 7 + 5
    assert x.tolist() == [[8, 5, 5, 0, 5, 3], [0, 7, 0, 5, 2, 1]]
    assert y.tolist() == [[-1, -1, -1, 5, 3, 1], [-1, -1, -1, 2, 1, 0]]


def test_every_sum_is_right() -> None:
    task = addition()
    prompts = np.concatenate([task.train, task.test])
    a, b = prompts[:, :2] @ [10, 1], prompts[:, 2:] @ [10, 1]
    assert (task.answer(prompts) @ [1, 10, 100] == a + b).all()


def test_every_sorted_prompt_is_right() -> None:
    task = sorting()
    prompts = np.concatenate([task.train, task.test])
    assert [sorted(prompt) for prompt in prompts.tolist()] == task.answer(prompts).tolist()


def test_x_and_y_are_one_sequence(task: Task) -> None:
    x, y = task.examples(task.test)
    assert x.shape == y.shape == (len(task.test), task.block_size)
    scored = y != IGNORED
    assert scored.sum(axis=1).tolist() == [task.answer_size] * len(y)
    assert scored[:, -task.answer_size :].all()
    # What comes next in x is what y said should come.
    assert (x[:, 1:][scored[:, :-1]] == y[:, :-1][scored[:, :-1]]).all()
    assert x.min() == 0
    assert x.max() == y.max() == task.vocab_size - 1


# -- the split -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size", "held_out"), [("sorting", 729, 180), ("addition", 10_000, 500)])
def test_each_prompt_is_in_one_part_and_no_other(name: str, size: int, held_out: int) -> None:
    task = TASKS[name]()
    train, test = ({tuple(p) for p in prompts.tolist()} for prompts in (task.train, task.test))
    assert len(train) == len(task.train) == size - held_out
    assert len(test) == len(task.test) == held_out
    assert not train & test


def test_the_rule_of_the_sorting_split() -> None:
    task = sorting()
    assert all(zlib.crc32(bytes(p)) % 4 == 0 for p in task.test.tolist())
    assert all(zlib.crc32(bytes(p)) % 4 != 0 for p in task.train.tolist())


@pytest.mark.parametrize(("name", "digest"), [("sorting", 0x2861FCF2), ("addition", 0x5D356FFF)])
def test_the_split_is_the_same_on_every_machine(name: str, digest: int) -> None:
    assert zlib.crc32(TASKS[name]().test.astype(np.uint8).tobytes()) == digest


def test_batches_come_from_the_training_part_only_and_from_all_of_it(task: Task) -> None:
    x, y = task.random_batch(30 * len(task.train), np.random.default_rng(0))
    size = task.test.shape[1]
    seen = {tuple(prompt) for prompt in x[:, :size].tolist()}
    # A prompt is missed with probability e^-30; any of 9,500, less often than 1e-8.
    assert seen == {tuple(prompt) for prompt in task.train.tolist()}
    assert (y == task.examples(x[:, :size])[1]).all()


# -- the score -------------------------------------------------------------------------------------


def test_accuracy_counts_answers_that_are_wholly_right(task: Task) -> None:
    prompts = task.test[:100]
    generated = task.answer(prompts)
    assert task.accuracy(prompts, generated) == 1.0
    generated[:25, -1] = (generated[:25, -1] + 1) % task.vocab_size  # one wrong digit
    generated[:5] = task.vocab_size  # a wholly wrong answer counts no more than that
    assert task.accuracy(prompts, generated) == 0.75


def test_accuracy_wants_answers_without_their_prompts(task: Task) -> None:
    whole = np.concatenate([task.test, task.answer(task.test)], axis=1)
    with pytest.raises(ValueError, match="without their prompt"):
        task.accuracy(task.test, whole)
