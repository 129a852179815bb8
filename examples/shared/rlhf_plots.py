"""Plots and table rows of the rlhf examples: reward and praise over divergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared.plots import panels
from shared.table import Expectation, Figure

Rows = Sequence[Mapping[str, float]]


def method_figures(
    name: str, found: Mapping[str, float], start_reward: float, expected: Expectation | None
) -> list[Figure]:
    """The table rows of a method: its reward beside the frontier and the start, its gain, its divergence."""
    share, none = (100 * reward / found["frontier"] for reward in (found["reward"], start_reward))
    return [
        Figure(f"{name}: reward, % of the frontier", share, expected, 100, none),
        Figure(f"{name}: gain, % of what is possible", 100 * found["gain"], None, 100, 0),
        Figure(f"{name}: KL to SFT, nats a response", found["kl"]),
    ]


def draw_frontier(path: Path, rows: Rows, frontier: Any, ends: Mapping[str, Rows]) -> None:
    """Draw the path of each method with the first seed, and its end with every seed; and beside this the
    same, enlarged, near the frontier."""
    with panels(path, 2, (11, 5)) as (whole, part):
        near_zero = frontier[0] < 3.5
        for axes in (whole, part):
            axes.plot(frontier[0][near_zero], frontier[1][near_zero], "k", lw=1.2, label="the frontier")
            for k, (name, last) in enumerate(ends.items()):
                way = [row for row in rows if row["stage"] == k + 2 and row["seed"] == 0]
                x, y = ([frontier[i][0], *(row[of] for row in way)] for i, of in enumerate(("kl", "reward")))
                axes.plot(x, y, ".--" if name == "best of n" else ".-", lw=0.9, ms=4, color=f"C{k}")
                points = [row["kl"] for row in last], [row["reward"] for row in last]
                axes.scatter(*points, color=f"C{k}", s=30, edgecolor="k", lw=0.5, zorder=3, label=name)
            axes.set(xlabel="KL(policy ‖ SFT), nats a response", ylabel="mean reward")
        near = [row for name in ("REINFORCE", "PPO", "DPO") for row in ends[name]]
        for limits, of, room in ((part.set_xlim, "kl", 0.15), (part.set_ylim, "reward", 0.1)):
            limits(min(row[of] for row in near) - room, max(row[of] for row in near) + room)
        whole.set_title("Reward, and its price")
        part.set_title("where they end")
        whole.legend(frameon=False)


def draw_tax(
    path: Path, rows: Rows, stages: Sequence[str], cheapest: Callable[[float], float], floor: float
) -> None:
    """Draw the share of praise and the perplexity over the divergence. `rows` are the rows with a KL, the
    first one for the SFT policy; `cheapest` is the least divergence for a share of praise."""
    with panels(path, 2, (9, 4)) as (left, right):
        share = np.linspace(rows[0]["positive"], 1, 200)
        left.plot([cheapest(q) for q in share], share, "k", lw=1.2, label="the cheapest way")
        right.axhline(floor, color="k", lw=1.2, label="the grammar itself")
        for k, stage in enumerate(stages[3:], 3):
            way = [rows[0], *(row for row in rows if row["stage"] == k)]
            for axes, of in ((left, "positive"), (right, "perplexity")):
                axes.plot([row["kl"] for row in way], [row[of] for row in way], ".-", lw=0.9, label=stage)
        for axes, label in ((left, "reviews that praise"), (right, "perplexity on held-out texts")):
            axes.set(xlabel="KL(policy ‖ SFT), nats a review", ylabel=label)
            axes.legend(frameon=False)
