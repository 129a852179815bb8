"""A run: its folder, and a loop over its steps. No end of a run loses a finished step.

    run = Run(args, columns)  # reads and checks; nothing is touched yet
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "batches": rng}):
            loss = ...  # one training step
            run.log(step=step, batch_loss=loss.item())
            run.show(loss.item())

The loop saves a checkpoint every `--save-every` steps and at the end. The state of a run is consistent only
between two steps: weights, moments, averages, generators, the rows of metrics.csv. So the loop copies it in
memory after each step. When an error, a lack of memory or a second Ctrl-C ends a run in the middle of a step,
the loop saves this copy. A resumed run is equal, to the last bit, to a run without interruption. The copy and
the search for NaN take 3 % of the step of a GPT of 0.8 or 1.6 million parameters on one core. On a GPU a copy
to the CPU would take as long as a step: there the loop copies only when it saves, and an error goes back to
the last save.

Ctrl-C and other signals, a closed pipe, and a full disk under metrics.csv end the run after the current step.

With several processes (shared/together.py), they share each batch:

            with run.share(x, y) as (x, y):  # the rows of this process
                batch_loss = run.backward(model.loss(x, y), model)  # `.grad` and the loss of the whole batch

A signal to any of them ends all after the same step. When one fails, the last checkpoint is what is saved.

When a step ends with a loss or a weight that is NaN or infinite, the loop undoes the step and repeats it
under `tinygen.anomaly()`, which names the op and the source line of the first NaN. Then the run ends, with
the state before that step saved.
"""

from __future__ import annotations

from shared.endings import DIVERGED, PIPE, USER, Ended, Stop, end_by_signal, ending

import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from shared.folder import RunFolder
from shared.together import Follower
from tqdm import tqdm

from tinygen import anomaly
from tinygen.nn import Module
from tinygen.optim.optimizer import Optimizer
from tinygen.parallel import average_gradients, batch_loss, broadcast, share, sum_over_processes
from tinygen.storage.files import CheckpointError
from tinygen.storage.state import copy_arrays, restore, state_of


class Whole(NamedTuple):
    """A copy of the whole state of a run between two steps."""

    step: int
    rows: int  # the number of rows of the metrics
    state: dict[str, Any]
    score: float | None


class Doubt(NamedTuple):
    """A step that is repeated because it ended with a NaN, and its loss."""

    step: int
    loss: float


def is_finite(tree: Any) -> bool:
    """Whether all numbers in the arrays of a tree are finite. It tests sums: a NaN or infinity makes a sum
    not finite."""
    if isinstance(tree, Mapping):
        return all(map(is_finite, tree.values()))
    return not isinstance(tree, np.ndarray) or tree.dtype.kind != "f" or math.isfinite(tree.sum())


class Run(RunFolder):
    """A folder with a loop; see above. A step may set `score`: the checkpoint with the lowest score stays."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.stop, self.stack = Stop(), ExitStack()
        self.bar = tqdm(disable=True)
        self.step = 0
        self.loss = 0.0
        self.score: float | None = None
        self.whole: Whole | None = None
        self.doubt: Doubt | None = None
        self.checks = ExitStack()  # has `anomaly` while there is doubt
        self.shared = False  # whether a step has divided its batch

    def __enter__(self) -> Self:
        self.stack.enter_context(self.stop)
        self.stack.enter_context(np.errstate(all="ignore"))  # the loop looks for NaN itself
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.stack, self.checks:
            with self.console():
                self.bar.close()
            if self.follows and isinstance(error, Ended):
                raise Follower from None
            if error is not None:
                self.rescue(error)
            elif self.stop.asked:  # at the last moment
                raise self.end_at_signal()

    def loop(self, things: Mapping[str, Any], stage: str = "training") -> Iterator[int]:
        """Yield the numbers of the steps that remain. `things` are the objects that a step changes; the loop
        first restores them from the last checkpoint. The time of the steps belongs to `stage`, until a step
        enters another one; the time after the loop belongs to "evaluation"."""
        self.things, self.step = dict(things), self.saved_step or 0
        if not self.follows:
            self.stack.enter_context(self.checkpoints)  # the lock: no other program writes there
        if state := self.begin():
            restore(self.things, state)
        broadcast(self.things, self.comm)
        self.remember()
        copy_each = self.args.device == "cpu"
        self.clock.enter(stage)
        self.bar = tqdm(
            total=self.steps, initial=self.step, unit="step", dynamic_ncols=True, disable=self.follows
        )
        while self.step < self.steps and not self.is_stopped():
            yield self.step
            if self.comm is not None and not self.shared:
                raise Ended(USER, "error: this example trains in one process: start it without mpiexec")
            self.step += 1
            save = self.step % self.args.save_every == 0 or self.step == self.steps
            sound = math.isfinite(self.loss) and (self.remember() if copy_each or save else True)
            if not sound:
                self.go_back()
                continue
            if self.doubt and self.doubt.step < self.step:  # no NaN this time: the machine made an error
                self.doubt = None
                self.checks.close()
            with self.console():
                self.bar.update()
            if save:
                self.save()
        if self.stop.asked:
            self.remember()
            self.save()
            raise self.end_at_signal()
        self.clock.enter("evaluation")
        if self.follows:
            raise Follower

    def is_stopped(self) -> bool:
        """Whether a signal has asked this process to stop, or another one that trains with it."""
        if self.comm is not None and sum_over_processes(np.int64(bool(self.stop.asked)), self.comm):
            self.stop.asked = self.stop.asked or end_by_signal(signal.SIGTERM)
        return self.stop.asked is not None

    def remember(self) -> bool:
        """Copy the state of the run. False when a module has a NaN or infinity: then the last copy stays."""
        state = {
            name: copy_arrays(state_of(thing)) if isinstance(thing, Module) else state_of(thing)
            for name, thing in self.things.items()
        }
        modules = [state[name] for name, thing in self.things.items() if isinstance(thing, Module)]
        if self.step and not all(map(is_finite, modules)):
            return False
        self.whole, self.score = Whole(self.step, len(self.rows), state, self.score), None
        return True

    def save(self) -> None:
        """Write the copy as a checkpoint, unless it has been saved already or no step is finished."""
        if self.whole and self.whole.step not in (0, self.saved_step):
            self.write_checkpoint(*self.whole)

    def end_at_signal(self) -> Ended:
        """The end of a run that a signal stops, after the state is saved."""
        asked = self.stop.asked or end_by_signal(signal.SIGINT)
        return Ended(asked.code, f"{asked} at step {self.step}; {self.where()}")

    def where(self) -> str:
        if self.saved_step is None:
            return "no step is saved"
        return (
            f"--resume goes on from {'there' if self.saved_step == self.step else f'step {self.saved_step}'}"
        )

    # -- when something goes wrong -----------------------------------------------------------------

    def go_back(self) -> None:
        """Undo the step that ended with a NaN, and repeat it under `anomaly`. If it ends with a NaN again,
        end the run."""
        self.step -= 1
        if self.doubt or self.whole is None:
            raise self.divergence("no op has made it")
        restore(self.things, self.whole.state)
        del self.rows[self.whole.rows :]
        with self.console():
            self.write_metrics()
        self.doubt, self.loss = Doubt(self.step, self.loss), 0.0
        self.checks.enter_context(anomaly())
        self.step = self.bar.n = self.whole.step

    def divergence(self, why: object) -> Ended:
        rates = [f"{x.lr:.3g}" for x in self.things.values() if isinstance(x, Optimizer)]
        loss = self.doubt.loss if self.doubt else self.loss
        what = f"loss {loss:.4g}, learning rate {' and '.join(rates)}"
        return Ended(DIVERGED, f"the run diverged in step {self.step} ({what}): {why}")

    def is_divergence(self, error: BaseException) -> bool:
        """Whether a NaN caused an error in the middle of a step."""
        end = ending(error)
        if end is None:  # a mistake in the program, unless there was a NaN before
            return self.doubt is not None or not math.isfinite(self.loss)
        return end.code == DIVERGED and end is not error

    def rescue(self, error: BaseException) -> None:
        """Save the state after the last finished step, and add a note to the error: where --resume
        continues."""
        if self.whole is None or (isinstance(error, Ended) and error.code != DIVERGED):
            return  # nothing has begun, or all is saved
        ended = self.divergence(error) if self.is_divergence(error) else error
        diverged = isinstance(ended, Ended)
        try:
            if not self.follows:
                del self.rows[self.whole.rows :]
                self.write_metrics()
                self.save()
        except (CheckpointError, OSError) as refused:
            if str(refused) != str(error):
                ended.add_note(str(refused))
        ended.add_note(f"step {self.saved_step} is saved" if diverged and self.saved_step else self.where())
        if ended is not error:
            raise ended from error

    @contextmanager
    def console(self) -> Iterator[None]:
        """An error in writing ends the run, but only after the current step."""
        try:
            yield
        except BrokenPipeError:
            self.stop.asked = self.stop.asked or Ended(PIPE, "nobody reads the output any more: stopped")
        except OSError as error:
            self.stop.asked = self.stop.asked or Ended(USER, f"error: {error}: stopped")

    # -- several processes -------------------------------------------------------------------------

    @contextmanager
    def share(self, *batch: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of this process of a batch: of its arrays or lists, which are whole in all processes. In
        the block, means and draws are of the whole batch (tinygen/parallel)."""
        self.shared = True
        with share(len(batch[0]), self.comm) as rows:
            yield batch if self.comm is None else tuple(part[rows] for part in batch)

    def backward(self, loss: Any, *modules: Module) -> float:
        """`loss.backward()`, for the loss of the whole batch: the modules have its gradients in all
        processes, and the result is its value."""
        with average_gradients((p for module in modules for p in module.parameters()), self.comm):
            loss.backward()
        return self.mean(loss)

    def mean(self, loss: Any) -> float:
        """A loss of the whole batch; within `share`."""
        return batch_loss(loss.item(), self.comm)

    # -- logging from a step -----------------------------------------------------------------------

    def log(self, **row: float) -> None:
        """A row of metrics.csv."""
        with self.console():
            super().log(**row)

    def enter(self, stage: str) -> None:
        """Count the time for `stage` from this step on."""
        self.clock.enter(stage)

    def show(self, loss: float, note: str = "") -> None:
        """Show the loss and a note beside the progress bar. A loss that is not finite ends the run."""
        self.loss = loss
        with self.console():
            self.bar.set_postfix_str(f"loss {loss:.4f}{note}", refresh=False)

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        with self.console():
            self.bar.write(line)
