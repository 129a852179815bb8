"""Crashes during a save: kills at every system call, and power cuts, after which unsynced data may be lost.

    python tests/tools/crashes.py  # every scenario: what can be loaded after each crash?
    python tests/tools/crashes.py --arrays 80

A save uses only a few system calls (`CALLS`). `watched` puts a hook before each of them: to count the
calls, to kill the process at the n-th, or to record them. `Disk` replays recorded calls on a model of a
disk that may lose everything that was not synced.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import tinygen.storage.files
from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

CALLS = ("mkdir", "write", "fsync", "rename", "replace", "unlink", "rmdir")

# -- hooks before the calls ------------------------------------------------------------------------


@contextlib.contextmanager
def watched(hook):
    """Run `hook(call, args)` before every call that changes the disk. `args` has full paths; for a write it
    has the path of the open file and the bytes. The real `fsync` is skipped, since it takes most of the
    time: a kill loses nothing that the operating system has received, and `Disk` models `fsync` itself."""
    originals = {name: getattr(os, name) for name in CALLS}

    def full(path, dir_fd=None):
        if isinstance(path, int):
            return os.readlink(f"/proc/self/fd/{path}")
        folder = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        return os.path.join(folder, os.fspath(path))

    def wrapped(name):
        def call(*args, dir_fd=None, **kwargs):
            if name == "write":
                hook(name, (full(args[0]), bytes(args[1])))
            elif name in ("rename", "replace"):
                hook(name, (full(args[0]), full(args[1])))
            else:
                hook(name, (full(args[0], dir_fd),))
            if dir_fd is not None:
                kwargs["dir_fd"] = dir_fd
            return None if name == "fsync" else originals[name](*args, **kwargs)

        return call

    def opened(path, mode="r", **kwargs):
        if "w" in mode:
            hook("open", (full(path),))
        return open(path, mode, **kwargs)

    tinygen.storage.files.open = opened
    for name in CALLS:
        setattr(os, name, wrapped(name))
    try:
        yield
    finally:
        del tinygen.storage.files.open
        for name, original in originals.items():
            setattr(os, name, original)


def unsynced(action, *args):
    with watched(lambda call, args: None):
        return action(*args)


def kill_points(action):
    """The number of points at which `action` can be killed: before each call, and within each write."""
    count = 0

    def hook(call, args):
        nonlocal count
        count += 2 if call == "write" else 1

    with watched(hook):
        action()
    return count


def killed(action, point):
    """Run `action` in a child process that kills itself (SIGKILL) at this point. Returns whether it reached
    the point."""
    write = os.write
    count = 0

    def hook(call, args):
        nonlocal count
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        if call == "write":
            if count == point:  # half of it is written
                path, content = args
                with open(path, "ab", buffering=0) as file:
                    write(file.fileno(), content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    child = os.fork()
    if child == 0:
        with watched(hook):
            action()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


# -- a disk that forgets ---------------------------------------------------------------------------


class File:
    def __init__(self, content=b""):
        self.now = self.safe = content


class Folder:
    """The names in a folder: as programs see them (`now`), as they are on the disk (`safe`), and the changes
    between the two."""

    def __init__(self):
        self.now, self.safe, self.pending = {}, {}, []

    def set(self, name, node, old=None):
        if old is not None:
            self.now.pop(old)
        self.now[name] = node
        self.pending.append((name, node, old))

    def drop(self, name):
        self.now.pop(name)
        self.pending.append((name, None, None))

    def sync(self):
        self.safe, self.pending = dict(self.now), []


class Disk:
    """A model of the disk under the folder `root`. At the beginning everything is on the disk."""

    def __init__(self, root):
        self.root = Path(root)
        self.top = self.scan(self.root)

    def scan(self, path):
        if path.is_file():
            return File(path.read_bytes())
        folder = Folder()
        folder.now = {child.name: self.scan(child) for child in path.iterdir()}
        folder.sync()
        return folder

    def find(self, path):
        node = self.top
        for part in Path(path).relative_to(self.root).parts:
            node = node.now[part]
        return node

    def play(self, call, args):
        path = Path(args[0])
        if call == "write":
            self.find(path).now += args[1]
        elif call == "fsync":
            node = self.find(path)
            if isinstance(node, Folder):
                node.sync()
            else:
                node.safe = node.now
        elif call == "open":
            folder = self.find(path.parent)
            if path.name in folder.now:
                folder.now[path.name].now = b""
            else:
                folder.set(path.name, File())
        elif call == "mkdir":
            self.find(path.parent).set(path.name, Folder())
        elif call in ("rename", "replace"):
            assert Path(args[1]).parent == path.parent, "the model knows renames within a folder only"
            self.find(path.parent).set(Path(args[1]).name, self.find(path), old=path.name)
        elif call in ("unlink", "rmdir"):
            self.find(path.parent).drop(path.name)

    def after_power_cut(self, target, names_kept, content):
        """Write into the folder `target` the files that exist after the power cut. For each unsynced change
        of a name, `names_kept()` says whether it is on the disk; `content(file)` is the content of an
        unsynced file."""

        def make(node, path):
            if isinstance(node, File):
                path.write_bytes(node.safe if node.safe == node.now else content(node))
                return
            path.mkdir()
            names = dict(node.safe)
            for name, child, old in node.pending:
                if names_kept():
                    names.pop(old, None)
                    names[name] = child
            for name, child in names.items():
                if child is not None:
                    make(child, path / name)

        make(self.top, Path(target))


def power_cuts(seed, count):
    """Arguments for `after_power_cut`: the orderly losses first, then random ones."""
    yield lambda: True, lambda file: file.now
    yield lambda: False, lambda file: file.safe
    yield lambda: True, lambda file: file.safe
    yield lambda: False, lambda file: file.now
    yield lambda: True, lambda file: bytes(len(file.now))
    rng = random.Random(seed)
    for _ in range(count - 5):
        yield (
            lambda: rng.random() < 0.5,
            lambda file: rng.choice([file.safe, file.now, file.now[: rng.randrange(len(file.now) + 1)]]),
        )


# -- scenarios: what is written, and what must survive ---------------------------------------------


def some_state(step, arrays):
    """A state for `step`. Each of its arrays differs from the arrays for any other step."""
    rng = np.random.default_rng(step)
    return {
        "weights": {f"w{i}": rng.normal(size=(3, i + 1)).astype(np.float32) for i in range(arrays)},
        "rng": rng.bit_generator.state,
        "losses": [step / 7, None, "x"],
    }


def equal(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


class FolderOfCheckpoints:
    """`prepare` writes older checkpoints, then `save` writes step 100. Scenarios differ in the older ones."""

    def __init__(self, steps=(), keep=3, leftovers=False, arrays=3):
        self.steps, self.keep, self.leftovers, self.arrays = steps, keep, leftovers, arrays

    def prepare(self, root):
        checkpoints = Checkpoints(root / "runs" / "checkpoints", keep=10)
        for step in self.steps:
            checkpoints.save(step, some_state(step, self.arrays), score=step)
        if self.leftovers:
            last = checkpoints.paths()[-1]
            shutil.copytree(last, checkpoints.folder / ".writing")
            shutil.copytree(last, checkpoints.folder / ".deleting")
            (checkpoints.folder / ".writing" / "manifest.json").unlink()

    def save(self, root):
        checkpoints = Checkpoints(root / "runs" / "checkpoints", self.keep)
        checkpoints.save(100, some_state(100, self.arrays), score=50)

    def check(self, root):
        """The last checkpoint that can be loaded: "new", "old", or "none" if there was none before.
        AssertionError in all other cases."""
        checkpoints = Checkpoints(root / "runs" / "checkpoints", self.keep)
        loaded = [checkpoints.load(path) for path in checkpoints.paths()]  # every visible one is complete
        assert all(equal(saved.state, some_state(saved.step, self.arrays)) for saved in loaded)
        if not self.steps and not loaded:
            return "none"
        step = checkpoints.load().step
        assert step in (100, *self.steps[-1:]), step
        return "new" if step == 100 else "old"

    def go_on(self, root):
        """The next save must succeed, and leave only checkpoints in the folder."""
        checkpoints = Checkpoints(root / "runs" / "checkpoints", self.keep)
        checkpoints.save(200, some_state(200, self.arrays), score=60)
        assert checkpoints.load().step == 200
        assert len(checkpoints.paths()) <= self.keep + 1
        assert sorted(os.listdir(checkpoints.folder)) == [path.name for path in checkpoints.paths()]


class OneFile:
    """`save_file` over an older file."""

    def __init__(self, arrays=3):
        self.arrays = arrays

    def prepare(self, root):
        save_file(root / "x", some_state(1, self.arrays)["weights"])

    def save(self, root):
        save_file(root / "x", some_state(100, self.arrays)["weights"])

    def check(self, root):
        loaded = load_file(root / "x")
        for step, answer in (100, "new"), (1, "old"):
            if equal(loaded, some_state(step, self.arrays)["weights"]):
                return answer
        raise AssertionError("neither the old nor the new file")

    def go_on(self, root):
        self.save(root)
        assert self.check(root) == "new"


def scenarios(arrays):
    return {
        "the first checkpoint": FolderOfCheckpoints(arrays=arrays),
        "one more": FolderOfCheckpoints(steps=(1, 2), arrays=arrays),
        "one more, the only one goes": FolderOfCheckpoints(steps=(60,), keep=1, arrays=arrays),
        "one more, two go, the best stays": FolderOfCheckpoints(steps=(1, 2, 3), keep=1, arrays=arrays),
        "after another kill": FolderOfCheckpoints(steps=(1,), leftovers=True, arrays=arrays),
        "save_file over a file": OneFile(arrays=arrays),
    }


def kill_at_every_point(scenario, folder):
    """{answer: count} of `check` after a kill at each point; "lost" counts its failures."""
    folder = Path(folder)
    (folder / "start").mkdir()
    unsynced(scenario.prepare, folder / "start")
    shutil.copytree(folder / "start", folder / "count")
    answers = {"none": 0, "old": 0, "new": 0, "lost": 0}
    for point in range(kill_points(lambda: scenario.save(folder / "count"))):
        root = folder / "run"
        shutil.copytree(folder / "start", root)
        assert killed(lambda root=root: scenario.save(root), point)
        try:
            answers[scenario.check(root)] += 1
            unsynced(scenario.go_on, root)
        except (AssertionError, CheckpointError) as error:
            print(f"point {point}: {error}")
            answers["lost"] += 1
        shutil.rmtree(root)
    return answers


def in_a_small_process(function, arrays, name, *args):
    """`function` of the scenario, in a new process: each kill needs a fork, which takes the longer the more
    memory a process has, and the tests that ran before have left some."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(of_a_scenario, function, arrays, name, *args).result()


def of_a_scenario(function, arrays, name, *args):
    return function(scenarios(arrays)[name], *args)


def cut_power_at_every_point(scenario, folder, count):
    """{answer: count} of `check` after power cuts, `count` different ones between any two calls. If `save`
    has returned, the new checkpoint must be there."""
    folder = Path(folder)
    (folder / "start").mkdir()
    unsynced(scenario.prepare, folder / "start")
    shutil.copytree(folder / "start", folder / "run")
    calls = []
    with watched(lambda *call: calls.append(call)):
        scenario.save(folder / "run")
    disk = Disk(folder / "start")
    disk.root = folder / "run"
    answers = {"none": 0, "old": 0, "new": 0, "lost": 0}
    for i, call in enumerate([*calls, None]):
        for names_kept, content in power_cuts(i, count):
            root = folder / "cut"
            disk.after_power_cut(root, names_kept, content)
            try:
                answer = scenario.check(root)
                assert call is not None or answer == "new", "what was saved is not there"
                answers[answer] += 1
                unsynced(scenario.go_on, root)
            except (AssertionError, CheckpointError) as error:
                print(f"before call {i}, {call and call[0]}: {error}")
                answers["lost"] += 1
            shutil.rmtree(root)
        if call is not None:
            disk.play(*call)
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arrays", type=int, default=20, help="in the state: each is a write")
    parser.add_argument("--cuts", type=int, default=14, help="power cuts between any two calls")
    args = parser.parse_args()
    total = {}
    print(f"{'':44}{'none yet':>9}{'old':>7}{'new':>7}{'lost':>7}")
    for kind in "kill", "power cut":
        for name, scenario in scenarios(args.arrays).items():
            with tempfile.TemporaryDirectory() as folder:
                if kind == "kill":
                    answers = kill_at_every_point(scenario, folder)
                else:
                    answers = cut_power_at_every_point(scenario, folder, args.cuts)
            print(f"{kind + ', ' + name:44}" + "".join(f"{n:7d}" for n in answers.values()), flush=True)
            for answer, n in answers.items():
                total[kind, answer] = total.get((kind, answer), 0) + n
    for kind in "kill", "power cut":
        print(f"{sum(n for (k, _), n in total.items() if k == kind)} {kind}s, {total[kind, 'lost']} losses")
    sys.exit(any(n for (_, answer), n in total.items() if answer == "lost"))


if __name__ == "__main__":
    main()
