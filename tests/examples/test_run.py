"""A run that ends early, at every place of a step and by every kind of end: it saves the state after the
last whole step, and the resumed run is equal, to the last bit, to a run that was never stopped."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from example_runs import EXAMPLES, outcome

from tinygen import nn
from tinygen.optim import EMA, AdamW
from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

sys.path.insert(0, str(EXAMPLES))
from shared import endings, flags
from shared import run as run_file
from shared.run import Run

sys.path.remove(str(EXAMPLES))

STEPS, SAVE_EVERY = 10, 4
PLACES = ("first", "drawn", "forward", "backward", "in the update", "updated", "logged", "looked", "last")


class Toy:
    """An example as small as can be, with all that a run has to remember: weights, a buffer that the forward
    pass writes, dropout's generator, moments, an average, generators of batches and of evaluations. `at` is
    called at each place of each step, and may raise."""

    def __init__(self, at=lambda place, step, toy: None):
        self.at = at

    def flags(self):
        parser = flags.Flags(__doc__)
        flags.add_run_flags(parser, "runs/toy", "every few steps")
        parser.add_argument("--steps", type=flags.number(int, 1), default=STEPS)
        parser.add_argument("--lr", type=flags.number(float, 0), default=0.1)
        parser.set_defaults(save_every=SAVE_EVERY)
        return parser.parse_args()

    def learn(self, args):
        rng, eyes = np.random.default_rng(1), np.random.default_rng(2)
        layers = nn.Linear(3, 4, rng=rng), nn.BatchNorm(4), nn.Dropout(0.2, rng=rng), nn.Linear(4, 1, rng=rng)
        self.model = model = nn.Sequential(*layers)
        toy = self

        class Halfway(AdamW):
            """Its update has a middle, in which one parameter has moved and the others have not."""

            def update_group(self, params, grads, states, group):
                super().update_group(params[:1], grads[:1], states[:1], group)
                toy.at("in the update", step, toy)
                super().update_group(params[1:], grads[1:], states[1:], group)

        optimizer, ema = Halfway(model.parameters()), EMA(model, 0.9)
        self.run = run = Run(args, ["step", "loss", "look"])
        with run:
            things = {"model": model, "optimizer": optimizer, "ema": ema, "batches": rng, "eyes": eyes}
            for step in run.loop(things):
                self.at("first", step, self)
                optimizer.lr = args.lr * (1 - step / args.steps)
                x = rng.standard_normal((8, 3)).astype(np.float32)
                self.at("drawn", step, self)
                self.loss = loss = np.mean((model(x)[:, 0] - x[:, 0]) ** 2)
                self.at("forward", step, self)
                optimizer.zero_grad()
                loss.backward()
                self.at("backward", step, self)
                optimizer.step()
                ema.update()
                self.at("updated", step, self)
                run.log(step=step, loss=loss.item())
                self.at("logged", step, self)
                run.show(self.loss.item())
                if step % 3 == 2:
                    run.log(step=step, look=float(eyes.random()))
                    run.say(f"step {step}: ε = {eyes.random()}")
                self.at("looked", step, self)
                self.at("last", step, self)
        run.model(model.state_dict())
        run.result([], "done", loss=run.rows[-1]["step"], steps=run.steps)


def play(monkeypatch, toy, out, *flags):
    """The exit code, or the exception that Python would show."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["toy.py", "--out", str(out), *map(str, flags)])
        try:
            endings.start(toy.flags, toy.learn)
        except SystemExit as end:
            return end.code
        except Exception as error:
            return error
    return 0


def once(place, step, act):
    """`act(toy)` at one place of one step."""

    def at(where, when, toy):
        if (where, when) == (place, step):
            act(toy)

    return at


def raising(error):
    def act(toy):
        raise error

    return act


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of a run without an interruption."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        assert play(patch, Toy(), out) == 0
    return outcome(out)


def last_step(out):
    return Checkpoints(out / "checkpoints").load().step


def same_when_resumed(monkeypatch, out, whole):
    assert play(monkeypatch, Toy(), out, "--resume") == 0
    assert outcome(out) == whole


# -- ends in the middle of a step ------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_an_error_at_any_place_of_a_step(tmp_path, monkeypatch, capsys, whole, place):
    """Step 6 is between two saves, and what it has done by then is undone. All is said in one line."""
    ended = play(monkeypatch, Toy(once(place, 6, raising(MemoryError("no room")))), tmp_path)
    assert ended == 2
    words = capsys.readouterr().err.splitlines()[-1]
    assert words == (
        "toy.py: error: out of memory (no room): smaller sizes need less; --resume goes on from there"
    )
    assert last_step(tmp_path) == 6
    same_when_resumed(monkeypatch, tmp_path, whole)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(32, "Broken pipe"), 141),
        (OSError(28, "No space left on device"), 2),
        (CheckpointError("a file", "damaged", 1, 2), 2),
        (ZeroDivisionError("a mistake"), None),
    ],
    ids=lambda x: type(x).__name__,
)
def test_any_error_in_the_middle_of_an_update(tmp_path, monkeypatch, capsys, whole, error, code):
    """A mistake in the program keeps its traceback, with a note."""
    ended = play(monkeypatch, Toy(once("in the update", 6, raising(error))), tmp_path)
    if code is None:
        assert ended is error
        assert ended.__notes__ == ["--resume goes on from there"]
    else:
        assert ended == code
        assert capsys.readouterr().err.endswith("; --resume goes on from there\n")
    assert last_step(tmp_path) == 6
    same_when_resumed(monkeypatch, tmp_path, whole)


def test_before_the_first_step_is_whole_nothing_is_saved(tmp_path, monkeypatch, capsys, whole):
    ended = play(monkeypatch, Toy(once("last", 0, raising(KeyboardInterrupt()))), tmp_path)
    assert ended == 130
    assert capsys.readouterr().err.endswith("toy.py: stopped; no step is saved\n")
    assert Checkpoints(tmp_path / "checkpoints").paths() == []
    assert play(monkeypatch, Toy(), tmp_path) == 0
    assert outcome(tmp_path) == whole


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_error_while_a_checkpoint_is_written(tmp_path, monkeypatch, whole, error):
    """Of step 4, the first one: it is written again, on the way out."""
    failures = [error]
    add = Checkpoints.add

    def failing(self, *args):
        if failures:
            raise failures.pop()
        return add(self, *args)

    monkeypatch.setattr(Checkpoints, "add", failing)
    assert play(monkeypatch, Toy(), tmp_path) == endings.ending(error).code
    assert last_step(tmp_path) == 4
    same_when_resumed(monkeypatch, tmp_path, whole)


def test_a_disk_that_takes_no_checkpoint(tmp_path, monkeypatch, capsys, whole):
    """The checkpoint before stays, and the line names its step."""

    def full(*args):
        raise OSError(28, "No space left on device")

    add = Checkpoints.add
    refusing = lambda self, step, *more: (full if step > 4 else add)(self, step, *more)
    monkeypatch.setattr(Checkpoints, "add", refusing)
    assert play(monkeypatch, Toy(), tmp_path) == 2
    words = capsys.readouterr().err.splitlines()[-1]
    assert words.count("No space left on device") == 1
    assert words.endswith("; --resume goes on from step 4")
    monkeypatch.setattr(Checkpoints, "add", add)
    same_when_resumed(monkeypatch, tmp_path, whole)


# -- ends that wait for the end of the step --------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1"])
def test_signals(tmp_path, monkeypatch, capsys, whole, name):
    number = getattr(signal, name)
    given = signal.getsignal(number)
    if given == signal.SIG_IGN:  # the tests were started by nohup, or by a shell's &
        signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    toy = Toy(once("in the update", 5, lambda toy: os.kill(os.getpid(), number)))
    assert play(monkeypatch, toy, tmp_path) == 128 + number
    by = "" if name == "SIGINT" else f" by {name}"
    assert capsys.readouterr().err.endswith(f"toy.py: stopped{by} at step 6; --resume goes on from there\n")
    assert signal.getsignal(number) == before
    signal.signal(number, given)
    assert last_step(tmp_path) == 6
    same_when_resumed(monkeypatch, tmp_path, whole)


def test_a_second_ctrl_c_ends_it_at_once(tmp_path, monkeypatch, whole):
    def press_twice(toy):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # asks again, and is not heard
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not at once")

    assert play(monkeypatch, Toy(once("in the update", 5, press_twice)), tmp_path) == 130
    assert last_step(tmp_path) == 5
    same_when_resumed(monkeypatch, tmp_path, whole)


def test_nohup(tmp_path, monkeypatch, whole):
    """A hang-up signal that `nohup` ignores stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        toy = Toy(once("drawn", 5, lambda toy: os.kill(os.getpid(), signal.SIGHUP)))
        assert play(monkeypatch, toy, tmp_path) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome(tmp_path) == whole


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe(tmp_path, monkeypatch, whole, stream):
    """Nobody reads the line about step 5, or the progress bar: the run ends, but finishes the step first."""
    name, step = ("write", 3) if stream == "stdout" else ("update", 1)
    with monkeypatch.context() as patch:
        patch.setattr(run_file.tqdm, name, lambda *_, **__: raising(BrokenPipeError())(None))
        assert play(monkeypatch, Toy(), tmp_path) == 141
    assert last_step(tmp_path) == step
    same_when_resumed(monkeypatch, tmp_path, whole)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_disk_that_is_full_under_the_metrics(tmp_path, monkeypatch, capsys, whole):
    def fill(toy):
        (tmp_path / "metrics.csv").unlink()
        (tmp_path / "metrics.csv").symlink_to("/dev/full")

    assert play(monkeypatch, Toy(once("first", 6, fill)), tmp_path) == 2
    words = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in words
    assert words.endswith("stopped at step 7; --resume goes on from there")
    same_when_resumed(monkeypatch, tmp_path, whole)


# -- runs that diverge -----------------------------------------------------------------------------


def all_finite(out):
    tensors = Checkpoints(out / "checkpoints").load().state["things"]["model"]["tensors"]
    return all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_a_loss_that_is_infinite_is_traced_to_its_op(tmp_path, monkeypatch, capsys, whole):
    """A weight, once it is too large to be squared. The step is undone, and done again."""

    def blow_up(place, step, toy):
        if (place, step) == ("drawn", 6):
            toy.model[3].weight.data[:] = 1e30

    assert play(monkeypatch, Toy(blow_up), tmp_path) == 3
    words = capsys.readouterr().err.splitlines()[-1]
    assert "the run diverged in step 6 (loss inf, learning rate 0.04): infinity at index" in words
    assert "the value of power(" in words
    assert f"{os.path.basename(__file__)}:" in words
    assert words.endswith("; step 6 is saved")
    assert last_step(tmp_path) == 6
    assert all_finite(tmp_path)
    same_when_resumed(monkeypatch, tmp_path, whole)


def test_a_loss_of_nan_with_weights_that_are_fine(tmp_path, monkeypatch, capsys, whole):
    def spoil(place, step, toy):
        if (place, step) == ("logged", 6):
            toy.loss = toy.loss * np.float32("nan")

    assert play(monkeypatch, Toy(spoil), tmp_path) == 3
    words = capsys.readouterr().err
    assert "in step 6 (loss nan, learning rate 0.04): NaN at index () in the value of multiply(" in words
    assert last_step(tmp_path) == 6
    same_when_resumed(monkeypatch, tmp_path, whole)


@pytest.mark.parametrize("again", [True, False], ids=["always", "only once"])
def test_a_gradient_of_nan_does_not_reach_what_is_saved(tmp_path, monkeypatch, capsys, whole, again):
    """The loss is fine, and after the step the weights are not. No op is found; the step before is kept.
    A NaN that does not come again, a fault of the machine, leaves no trace."""
    times = []

    def spoil(place, step, toy):
        if (place, step) == ("backward", 6) and (again or not times):
            times.append(step)
            toy.model[0].weight.grad[0, 0] = np.nan

    ended = play(monkeypatch, Toy(spoil), tmp_path)
    if again:
        assert ended == 3
        words = capsys.readouterr().err.splitlines()[-1]
        assert "the run diverged in step 6" in words
        assert last_step(tmp_path) == 6
        assert all_finite(tmp_path)
        assert not (tmp_path / "model.safetensors").exists()
        same_when_resumed(monkeypatch, tmp_path, whole)
    else:
        assert ended == 0
        assert outcome(tmp_path) == whole


# -- a folder that is used again -------------------------------------------------------------------


def test_a_new_run_leaves_the_old_checkpoints_until_it_has_its_own(tmp_path, monkeypatch, whole):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert play(monkeypatch, Toy(), tmp_path) == 0
    old = checkpoints.paths()
    assert play(monkeypatch, Toy(), tmp_path, "--steps", "many") == 2
    assert play(monkeypatch, Toy(once("last", 0, raising(MemoryError()))), tmp_path, "--lr", 0.2) == 2
    assert checkpoints.paths() == old
    same_when_resumed(monkeypatch, tmp_path, whole)  # the old one, from its checkpoint
    assert play(monkeypatch, Toy(once("last", 5, raising(MemoryError()))), tmp_path, "--lr", 0.2) == 2
    assert [int(path.name.split("-")[-1]) for path in checkpoints.paths()] == [4, 5]
    assert not set(checkpoints.paths()) & set(old)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"settings": {"steps": 9}, "rows": [], "things": {}}, "the run in it is not finished"),
        ({"weights": [1, 2]}, "saved by no example"),
        ([1, 2], "saved by no example"),
    ],
)
def test_what_is_not_to_be_overwritten(tmp_path, monkeypatch, capsys, state, message):
    path = Checkpoints(tmp_path / "checkpoints").save(3, state)
    assert play(monkeypatch, Toy(), tmp_path) == 2
    words = capsys.readouterr().err
    assert message in words
    assert words.count("\n") == 1
    assert Checkpoints(tmp_path / "checkpoints").paths() == [path]
    assert os.listdir(tmp_path) == ["checkpoints"]


def test_two_runs_in_one_folder(tmp_path, monkeypatch, capsys):
    """The second is refused, and the first notices nothing."""
    ended = []

    def another(toy):
        ended.append(play(monkeypatch, Toy(), tmp_path))

    assert play(monkeypatch, Toy(once("first", 2, another)), tmp_path) == 0
    assert ended == [2]
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == STEPS


def test_weights_are_saved_before_anything_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.print", lambda *_, **__: raising(BrokenPipeError())(None))
    assert play(monkeypatch, Toy(), tmp_path) == 141
    assert load_file(tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == STEPS
