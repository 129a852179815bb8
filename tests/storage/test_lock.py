"""One writer at a time: an error names the owner of a folder, dead processes hold no lock, and nothing is
damaged."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tinygen.nn import Linear
from tinygen.storage import lock
from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.files import CheckpointError
from tinygen.storage.lock import LOCK, FolderLock
from tinygen.storage.state import snapshot

STATE = {"w": np.arange(3.0)}


def test_who_writes_is_said_and_a_killed_owner_has_nothing(tmp_path):
    """Another process holds the folder for its run; then it is killed."""
    code = (
        "import sys; from tinygen.storage.checkpoints import Checkpoints\n"
        "with Checkpoints(sys.argv[1]) as c: print(c.save(1, {'x': 1}), flush=True); input()"
    )
    checkpoints = Checkpoints(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        for attempt in (lambda: checkpoints.save(2, STATE), checkpoints.__enter__):
            with pytest.raises(CheckpointError, match="somebody else writes here: expected one w") as caught:
                attempt()
            assert f"found process {other.pid} on " in str(caught.value)
            assert "since 20" in str(caught.value)
        assert checkpoints.load().step == 1  # readers may come at any time
        other.send_signal(signal.SIGKILL)
    assert LOCK in os.listdir(tmp_path)
    checkpoints.save(2, STATE)
    assert sorted(os.listdir(tmp_path)) == ["000001-step-1", "000002-step-2"]


def test_two_objects_in_one_process(tmp_path):
    with Checkpoints(tmp_path) as first:
        with first:  # as deep as one likes
            first.save(1, STATE)
        with pytest.raises(CheckpointError, match=f"found process {os.getpid()} "):
            Checkpoints(tmp_path).save(2, STATE)
        first.save(3, STATE)
    Checkpoints(tmp_path).save(4, STATE)
    assert [path.name[-1] for path in first.paths()] == ["1", "3", "4"]
    assert LOCK not in os.listdir(tmp_path)


def test_who_takes_a_folder_sweeps_it(tmp_path):
    for name in (".writing", ".deleting"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "arrays.safetensors").write_bytes(b"half")
    with Checkpoints(tmp_path):
        assert os.listdir(tmp_path) == [LOCK]
    assert os.listdir(tmp_path) == []


def in_child(action):
    child = os.fork()
    if child == 0:
        os._exit(action())
    return child


def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_many_writers_at_once_damage_nothing(tmp_path):
    """Processes and threads that save as fast as they can: each checkpoint is one of theirs, whole, and who
    was refused was told why."""

    def save(which):
        checkpoints = Checkpoints(tmp_path, keep=1000)
        refused = 0
        for step in range(12):
            try:
                checkpoints.save(step, {"a": np.full(5000, which), "b": np.full(5000, which)})
            except CheckpointError as error:
                assert "somebody else writes here" in str(error), error  # noqa: PT017
                refused += 1
        return refused

    def in_threads():
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(save, (10, 11)))

    children = [in_child(lambda which=which: save(which)) for which in (1, 2)] + [in_child(in_threads)]
    refused = [code_of(child) for child in children]
    checkpoints = Checkpoints(tmp_path)
    assert all(0 <= n <= 24 for n in refused)
    assert len(checkpoints.paths()) == 4 * 12 - sum(refused) > 0
    for path in checkpoints.paths():
        state = checkpoints.load(path).state
        assert np.all(state["a"] == state["b"][0])
    checkpoints.save(100, STATE)
    assert sorted(os.listdir(tmp_path)) == [path.name for path in checkpoints.paths()]


def test_a_forked_child_does_not_hold_what_its_parent_holds(tmp_path):
    def refused():
        try:
            checkpoints.save(2, STATE)
        except CheckpointError as error:
            return f"found process {os.getppid()} " not in str(error)
        return 2

    def leave():
        checkpoints.__exit__()  # as when the child runs out of the block
        return LOCK not in os.listdir(tmp_path)

    with Checkpoints(tmp_path) as checkpoints:
        assert code_of(in_child(refused)) == 0
        assert code_of(in_child(leave)) == 0
        checkpoints.save(1, STATE)
        orphan = in_child(lambda: time.sleep(60) or 0)  # would keep a lock that it had inherited
    Checkpoints(tmp_path).save(3, STATE)
    os.kill(orphan, signal.SIGKILL)
    os.waitpid(orphan, 0)


def test_a_killed_parent_s_child_does_not_keep_its_lock(tmp_path):
    read, write = os.pipe()

    def owner():
        FolderLock(tmp_path).__enter__()
        os.write(write, str(in_child(lambda: time.sleep(60) or 0)).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    assert code_of(in_child(owner)) == -signal.SIGKILL
    orphan = int(os.read(read, 100))
    with FolderLock(tmp_path):
        pass
    os.kill(orphan, signal.SIGKILL)


def test_a_lock_on_a_file_that_was_removed_just_now_is_none(tmp_path, monkeypatch):
    """The owner before removes it when it is done, maybe when we have opened it."""
    original, calls = lock.try_lock, []

    def try_lock(descriptor):
        if not calls:
            os.remove(tmp_path / LOCK)
        calls.append(descriptor)
        return original(descriptor)

    monkeypatch.setattr(lock, "try_lock", try_lock)
    with FolderLock(tmp_path), pytest.raises(CheckpointError), FolderLock(tmp_path):
        pass
    assert len(calls) == 3


def test_a_file_system_without_locks_is_written_without(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    Checkpoints(tmp_path).save(1, STATE)
    assert os.listdir(tmp_path) == ["000001-step-1"]


def test_a_lock_that_points_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(CheckpointError, match="symbolic link"):
        Checkpoints(tmp_path / "c").save(1, STATE)
    assert (tmp_path / "mine").read_text() == "mine"


# -- saved while training goes on ------------------------------------------------------------------


def test_a_checkpoint_from_a_thread_is_whole_or_refused(tmp_path):
    """Another thread writes k = 1, 2, ... into all of a model: each checkpoint has one k only."""
    model = Linear(300, 300, rng=np.random.default_rng(0))
    stop = threading.Event()

    def train():
        k = 0
        while not stop.is_set():
            k += 1
            for p in model.parameters():
                p.data[...] = k
            time.sleep(0.04)

    thread = threading.Thread(target=train)
    checkpoints = Checkpoints(tmp_path, keep=100)
    for p in model.parameters():
        p.data[...] = 0
    thread.start()
    try:
        for step in range(12):
            try:
                checkpoints.save(step, {"model": model})
            except CheckpointError as error:
                assert "changes while it is copied" in str(error), error  # noqa: PT017
    finally:
        stop.set()
        thread.join()
    assert checkpoints.paths()
    for path in checkpoints.paths():
        tensors = checkpoints.load(path).state["model"]["tensors"]
        assert len({float(x) for a in tensors.values() for x in (a.min(), a.max())}) == 1


class Restless:
    """Counts how often it is asked; `kind` says as what."""

    def __init__(self, kind):
        self.n, self.kind = 0, kind

    def state_dict(self):
        self.n += 1
        return {"n": self.kind(self.n)}

    def load_state_dict(self, saved):
        self.n = int(saved["n"])


def test_what_changes_all_the_time_is_refused(monkeypatch):
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # a test runner may have threads
    assert snapshot({"x": Restless(np.array)}) == {"x": {"n": 1}}  # alone, nothing is compared
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    with pytest.raises(
        CheckpointError, match="changes while it is copied: expected a moment between two steps"
    ):
        snapshot({"a": 1.0, "b": {"x": Restless(np.array)}})


def test_a_clock_may_go_on_meanwhile(monkeypatch):
    """As it does beside the thread of a progress bar."""
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    things = {"clock": Restless(float), "w": [np.array([np.nan, 1]), (1, None)], "nan": float("nan")}
    assert snapshot(things)["clock"] == {"n": 1.0}
    assert snapshot(things)["w"][1] == [1, None]


def test_a_snapshot_stays_as_it_is(tmp_path):
    w = np.zeros(3)
    state = snapshot({"w": w, "log": [w[:1]]})
    w += 1
    Checkpoints(tmp_path).save(1, state)
    assert Checkpoints(tmp_path).load().state["w"].tolist() == [0, 0, 0]
    assert Checkpoints(tmp_path).load().state["log"][0].tolist() == [0]
