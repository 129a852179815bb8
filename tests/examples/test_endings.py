"""Every example ends with one line and exit code 2 if its user has made a mistake; and it ends in order if
somebody stops it at a bad moment."""

import ast
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from example_runs import ALONE, EXAMPLES, command, module, path_of

from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.safetensors import save_file

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("hypothesis")

TRAINED = [
    "bert_reviews",
    "clip_guided_shapes",
    "clip_shapes",
    "controlnet_shapes",
    "ddpm_digits",
    "density_ladder",
    "diffusion_2d",
    "flows_2d",
    "gan_digits",
    "gan_ring",
    "gan_shapes",
    "gpt_algorithms",
    "gpt_text",
    "gpt_to_llama",
    "in_context",
    "inpaint_shapes",
    "language_ladder",
    "latent_diffusion_shapes",
    "lora_finetune",
    "palette_shapes",
    "ppo_cartpole",
    "rlhf_exact",
    "rlhf_sentiment",
    "scaling_laws",
    "style_transfer",
    "tasks_in_words",
    "translate_numbers",
    "vae_digits",
    "vqvae_shapes",
    "wavenet_tones",
    "word_vectors",
]
OTHERS = ["break_it", "generate", "gradcheck_your_layer", "stable_diffusion"]
SMALL = {  # so that nothing takes long before the folder is looked at
    "gpt_algorithms": ["--task", "sorting"],
    "rlhf_exact": ["--width", 8],
    "rlhf_sentiment": ["--width", 8],
    "lora_finetune": ["--width", 8, "--rank", 1],
    "tasks_in_words": ["--width", 8, "--layers", 1],
    "translate_numbers": ["--largest", 999, "--train", 100],
    "vqvae_shapes": ["--test", 8],
    "latent_diffusion_shapes": ["--channels", 8],
    "controlnet_shapes": ["--channels", 8],
}


def ended(monkeypatch, capsys, name, *flags):
    """The exit code, and what stands on stderr."""
    example = module(f"{name}.py")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        example.start(example.parse_args, example.main)
    out, err = capsys.readouterr()
    return end.value.code, out, err


@pytest.mark.parametrize("name", TRAINED)
def test_the_model_is_saved_before_it_is_judged_and_results_before_they_are_shown(name):
    """In this order: the loop, the model; result.json, which then prints."""
    text = path_of(f"{name}.py").read_text("utf-8")
    loop, model, result = (text.index(part) for part in ("run.loop(", "run.model(", "run.result("))
    assert loop < model < result
    assert "print(table" not in text[:result]


def test_no_example_is_forgotten():
    programs = [path for path in EXAMPLES.rglob("*.py") if "__main__" in path.read_text("utf-8")]
    names = {path.stem for path in programs if path.parent.name != "shared"}
    assert names == {*TRAINED, *OTHERS}


@pytest.mark.parametrize("name", TRAINED)
def test_what_was_there_stays_until_all_is_checked(tmp_path, monkeypatch, capsys, name):
    """A finished run is in the folder. Wrong flags, a folder that is a file, and the checkpoint of another
    run to go on from: each is one line, and touches nothing."""
    out = tmp_path / "out"
    checkpoints = Checkpoints((out / "sorting" if name == "gpt_algorithms" else out) / "checkpoints")
    path = checkpoints.save(1, {"settings": {"steps": 1}, "rows": [], "things": {}})
    before = sorted(out.rglob("*"))
    (tmp_path / "file").write_text("not a folder")
    for flags, message in (
        (["--lr", "fast"], "argument --lr: must be a float at least 0, not 'fast'"),
        (["--lr", "nan"], "argument --lr: must be a float at least 0, not 'nan'"),
        (["--save-every", "1e3"], "argument --save-every: must be an int at least 1, not '1e3'"),
        (["--resume", *SMALL.get(name, [])], "saved with another"),
        (["--out", tmp_path / "file", *SMALL.get(name, [])], "--out must be a folder, and this is none"),
    ):
        code, _, err = ended(monkeypatch, capsys, name, "--out", out, *flags)
        assert code == 2
        assert message in err
        assert err.startswith(f"{name}.py: error: ")
        assert err.count("\n") == 1
    assert sorted(out.rglob("*")) == before
    assert checkpoints.load().path == path


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("gpt_text", ["--batch", 10**9], "argument --batch: must be an int at most 65,536"),
        ("gpt_text", ["--data", "FOLDER"], "there is no file"),
        ("gpt_text", ["--data", "FIFO"], "there is no file"),
        ("gpt_text", ["--width", 6], "--heads 4 does not divide --width 6"),
        ("generate", ["--model", "FOLDER"], "config.json"),
        ("generate", ["--model", "FOLDER", "--prompt", "\udcff"], "is not UTF-8"),
        ("stable_diffusion", ["--model", "FOLDER"], "model_index.json: cannot be read"),
        ("stable_diffusion", [], "--model is needed: a folder of Stable Diffusion 1 or 2"),
        ("break_it", ["no_wheels"], "there is no ablation 'no_wheels'"),
        ("gradcheck_your_layer", ["--batch", 10**9], "argument --batch: must be an int at most 256"),
        ("ppo_cartpole", ["--carts", 1, "--horizon", 2], "--minibatches 4 are more than the steps"),
        ("rlhf_sentiment", ["--width", 5], "--width 5 is odd, and there are 2 attention heads"),
        ("lora_finetune", ["--width", 5], "--width 5 is odd, and there are 2 attention heads"),
        ("gan_ring", ["--game", "chess"], "argument --game: invalid choice: 'chess'"),
        ("flows_2d", ["--data", "lattice"], "argument --data: invalid choice: 'lattice'"),
        ("gpt_to_llama", ["--width", 100], "--heads 6, --width 100: the heads must be a multiple of 3"),
        ("gpt_to_llama", ["--block", 20_000], "characters; --block 20000 needs 800000"),
        ("in_context", ["--channels", 6], "--channels 6 is no multiple of 4"),
        ("scaling_laws", ["--sizes", 9], "argument --sizes: must be an int from 3 to 8, not '9'"),
        ("language_ladder", ["--width", 12], "--width 12 is no multiple of 8"),
        ("word_vectors", ["--strays", 2], "argument --strays: must be a float from 0 to 0.99"),
        ("bert_reviews", ["--width", 6], "--width 6 is no multiple of the 4 attention heads"),
        ("tasks_in_words", ["--width", 6], "--width 6 is no multiple of the 4 attention heads"),
        ("translate_numbers", ["--width", 6], "--width 6 must be even, and --heads 4 must divide it"),
        ("wavenet_tones", ["--kind", "birds"], "argument --kind: invalid choice: 'birds'"),
        ("gan_digits", ["--judged", 501], "argument --judged: must be an int at most 500, not '501'"),
        ("density_ladder", ["--width", 8], "--width 8: codes of 16 numbers need hidden layers as wide"),
        ("density_ladder", ["--components", 64], "argument --components: must be an int from 1 to 63"),
        ("clip_guided_shapes", ["--channels", 12], "--channels 12 is not a multiple of 8"),
        ("clip_guided_shapes", ["--timesteps", 90], "--evaluations 96 are more than --timesteps 90"),
        ("clip_shapes", ["--batch", 361], "argument --batch: must be an int at most 360, not '361'"),
        ("gan_shapes", ["--batch", 1], "argument --batch: must be an int at least 2, not '1'"),
        ("ddpm_digits", ["--channels", 5], "--channels 5 is odd"),
        ("vae_digits", ["--latent", 61], "PPCA needs 60 at most"),
        ("controlnet_shapes", ["--channels", 10], "--channels 10 is no multiple of 4"),
        ("latent_diffusion_shapes", ["--channels", 10], "--channels 10 is no multiple of 4"),
        ("latent_diffusion_shapes", ["--prompt", "a \udcff"], "unknown word"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, capsys, name, flags, message):
    os.mkfifo(tmp_path / "fifo")
    given = {"FOLDER": tmp_path, "FIFO": tmp_path / "fifo"}
    flags = [given.get(flag, flag) for flag in flags]
    out = [] if name in OTHERS else ["--out", tmp_path / "out"]
    code, printed, err = ended(monkeypatch, capsys, name, *out, *flags)
    assert (code, printed) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_of_another_shape_are_one_line(tmp_path, monkeypatch, capsys):
    save_file(tmp_path / "model.safetensors", {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float32)})
    flags = ["--draw-only", "--channels", 8, "--out", tmp_path]
    code, _, err = ended(monkeypatch, capsys, "latent_diffusion_shapes", *flags)
    assert code == 2
    assert "model.safetensors is of a run with other flags: " in err
    assert err.count("\n") == 1
    assert len(err) < 500


def test_ctrl_c_before_and_after_the_run_is_one_line(capsys):
    """While modules are imported, the hook that says it is there already."""
    endings = sys.modules["shared.endings"]
    assert sys.excepthook is endings.last_words
    with pytest.raises(SystemExit) as end:
        endings.last_words(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert end.value.code == 130
    assert capsys.readouterr().err.endswith(": stopped\n")
    for name in TRAINED + OTHERS:
        tree = ast.parse(path_of(f"{name}.py").read_text("utf-8"))
        imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        before = {"from __future__ import annotations", "import sys", "from pathlib import Path"}
        assert next(line for line in imports if line not in before) == "from shared.endings import start"


# -- in a process ----------------------------------------------------------------------------------

TINY = ["--layers", 1, "--width", 16, "--heads", 2, "--block", 16, "--batch", 4, "--eval-every", 20]


def test_a_console_of_ascii_and_a_reader_who_leaves(tmp_path):
    """Without docstrings, too (-OO). The text has letters that the console does not have; the reader of the
    output leaves after the text of step 20."""
    text = tmp_path / "ε.txt"
    text.write_text("ε is ≥ 0, naïve 中文 and nothing else\n" * 60, encoding="utf-8")
    flags = [*TINY, "--data", text, "--out", tmp_path / "out"]
    env = {**ALONE, "PYTHONIOENCODING": "ascii", "PYTHONOPTIMIZE": "2"}
    process = subprocess.Popen(
        command("gpt_text.py", *flags, "--steps", 10**6),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    while not process.stdout.readline().startswith(b"step    20"):
        assert process.poll() is None
    process.stdout.close()
    said = process.stderr.read().decode("ascii")
    process.stderr.close()
    assert process.wait(timeout=300) == 141, said
    assert "Traceback" not in said
    step = Checkpoints(tmp_path / "out" / "checkpoints").load().step
    assert said.endswith(
        f"nobody reads the output any more: stopped at step {step}; --resume goes on from there\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5, 0.8, 1.2, 1.8, 2.5, 3.5, 5])
def test_ctrl_c_at_any_moment(tmp_path, seconds):
    """From the first import on: one line, after the progress bar if there is one, and exit code 130."""
    process = subprocess.Popen(
        command("gpt_text.py", *TINY, "--steps", 10**6, "--out", tmp_path / "out"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=ALONE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert said.count(b"stopped") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("diffusion_2d", ["--width", 65536]),
        ("ppo_cartpole", ["--carts", 65536, "--horizon", 65536]),
    ],
)
def test_more_than_fits_in_memory_is_one_line(tmp_path, name, flags):
    """In 8 GB of addresses, of which libraries take some."""
    shell = "ulimit -v 8000000; exec " + " ".join(
        map(str, command(f"{name}.py", "--out", tmp_path / "out", *flags))
    )
    done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=300, check=False, env=ALONE)
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"out of memory" in done.stderr
