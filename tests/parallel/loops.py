"""The training loops of examples that share their batches, a few small steps of each, in as many processes as
are started:

    mpiexec -n 2 python -m mpi4py tests/parallel/loops.py FOLDER
"""

import runpy
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
from shared.run import Run  # noqa: E402
from shared.together import Follower, be_quiet, processes  # noqa: E402

LOOPS = {  # batches of odd numbers of rows: the parts are unequal
    "alignment/ppo_cartpole": "--seeds 1 --carts 3 --horizon 5 --minibatches 2 --epochs 1 --steps 30",
    "language/translate_numbers": "--batch 5 --width 8 --heads 2 --layers 1 --train 100 --merges 20",
    "language/wavenet_tones": "--batch 3 --channels 4 --skip-channels 4 --layers 3 --length 50",
    "pictures/ddpm_digits": "--batch 5 --channels 8",
    "pictures/gan_digits": "--batch 5 --channels 8",
    "pictures/vae_digits": "--batch 5 --eval-every 9 --draws 1",
    "pictures/vqvae_shapes": "--batch 3 --width 4 --codes 8 --dim 4 --test 8 --eval-every 9",
    "text_to_image/latent_diffusion_shapes": "--ae-steps 2 --diffusion-steps 2 --ae-channels 4 --channels 8 "
    "--batch 6 --drawings 1",
}


class Loop(Run):
    """A run without what comes after its loop: that is process 0's alone."""

    def loop(self, *given):
        yield from super().loop(*given)
        raise Follower


def main(out):
    be_quiet(processes())
    for name, flags in LOOPS.items():
        began = time.perf_counter()
        steps = [] if "steps" in flags else ["--steps", "2"]
        sys.argv = [name, *flags.split(), *steps, "--out", str(out / Path(name).stem)]
        example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        example["main"].__globals__["Run"] = Loop
        try:
            example["main"](example["parse_args"]())
        except Follower:
            print(f"{name}: {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
