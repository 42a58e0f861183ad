"""`tiebreak video`: film a trained policy."""

from __future__ import annotations

import argparse
import os

from tiebreak import registry
from tiebreak.commands.options import Parser


def parser() -> Parser:
    """Return the parser of `tiebreak video`."""
    out = Parser(
        "video",
        "Film greedy episodes of a trained policy, the first ones of its evaluation. It plays as\n"
        "fast as the real thing. MuJoCo needs no display: it draws by EGL or OSMesa.",
        [
            "tiebreak video runs/sac",
            "tiebreak video runs/sac -o cheetah.gif --episodes 3 --seed 7",
            "tiebreak video runs/cartpole --task gymnasium/CartPole-v1",
        ],
    )
    out.add_argument(
        "directory", metavar="RUN", help="a folder that `tiebreak train` wrote, or a policy in it"
    )
    out.add_argument("-o", metavar="FILE", dest="out", help=".mp4 or .gif; default: RUN/policy.mp4")
    out.add_argument("--episodes", type=int, default=1, metavar="N")
    out.add_argument("--framework", help=f"{', '.join(registry.FRAMEWORKS)}; else the training's")
    out.add_argument("--fps", type=float, metavar="N", help="pictures per second")
    out.add_argument("--seed", type=int, help="of the environments; else the training's")
    out.add_argument("--task", help="another task with the same shapes; else the training's")
    out.add_argument(
        "--eval-max-steps",
        type=int,
        metavar="N",
        help="cut episodes after N steps (default: the task's own limit, else 10000)",
    )
    out.add_argument("--device", default="cpu")
    out.add_argument(
        "--allow-import",
        action="store_true",
        help="import the module of the environment that the policy's file names",
    )
    return out


def run(args: argparse.Namespace) -> int:
    """Write the video, and print its length and the returns."""
    from tiebreak.core.cache import keep_compiled_programs
    from tiebreak.core.opengl import choose_off_screen
    from tiebreak.core.seeding import seed_global_generators

    choose_off_screen()
    keep_compiled_programs()
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from tiebreak.training.video import film

    seed_global_generators(args.seed or 0)
    filmed = film(
        args.directory,
        args.out,
        episodes=args.episodes,
        framework=args.framework,
        fps=args.fps,
        seed=args.seed,
        task=args.task,
        max_steps=args.eval_max_steps,
        device=args.device,
        allow_import=args.allow_import,
    )
    returns = ", ".join(f"{value:.2f}" for value in filmed.returns)
    seconds = filmed.pictures / filmed.fps
    print(f"video: {filmed.path} ({filmed.pictures} pictures, {seconds:.1f} s)")
    print(f"return{'s' * (len(filmed.returns) > 1)}: {returns}")
    return 0
