"""Film a stored policy: greedy episodes, the same ones as an evaluation's, as mp4 or gif."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.opengl import ADVICE
from tiebreak.core.text import one_line
from tiebreak.core.types import State
from tiebreak.envs.base import HostEnv
from tiebreak.envs.task import Task
from tiebreak.loops.evaluate import Evaluator
from tiebreak.training import policy_files
from tiebreak.training.evaluate import check_request, require_fit
from tiebreak.training.policy import acting_mode
from tiebreak.training.request import check_max_steps, check_settings

MOST_FPS = 50
"""Pictures per second of a video, unless another number is asked for: no gif shows more."""
USUAL_FPS = 30
"""Steps per second of an environment that does not say how many it has."""

ENCODERS: dict[str, dict[str, Any]] = {
    ".mp4": {"codec": "libx264"},
    ".gif": {
        "codec": "gif",
        "pix_fmt_out": "pal8",
        "quality": None,
        "output_params": [
            "-filter_complex", "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse",
        ],
    },
}  # fmt: skip
"""Options of imageio_ffmpeg.write_frames by the suffix of the file; a gif has one palette."""


class Filmed(NamedTuple):
    """A video that was written."""

    path: Path
    pictures: int
    fps: float
    """Pictures per second."""
    returns: list[float]
    """Undiscounted return of each episode, equal to those of an evaluation."""


def film(
    directory: str | Path,
    out: str | Path | None = None,
    *,
    episodes: int = 1,
    framework: str | None = None,
    fps: float | None = None,
    seed: int | None = None,
    task: str | None = None,
    max_steps: int | None = None,
    device: str = "cpu",
    allow_import: bool = False,
) -> Filmed:
    """Write a video of greedy episodes of the policy in `directory`, one after the other.

    `out` ends in .mp4 or .gif; default: `policy.mp4` beside the policy. `fps` is pictures per
    second; default: as many as steps, so that it is as fast as the real thing, but at most
    MOST_FPS. The rest is as for `evaluate`. Raises UsageError for an environment that draws no
    pictures, and for what `evaluate` refuses.
    """
    path = _choose_path(Path(directory), out)
    _check_fps(fps)
    check_max_steps("max_steps", max_steps)
    policy = policy_files.load_runnable(directory, allow_import)
    framework = framework or str(policy.metadata.get("framework"))
    trained_on = Task.parse(str(policy.metadata.get("task")))
    chosen = trained_on if task is None else Task.parse(task)
    check_request(policy.spec, episodes, chosen, directory, allow_import or task is not None)
    seed = int(policy.metadata.get("seed", 0)) if seed is None else seed
    mode = acting_mode(framework)
    check_settings(policy.algorithm, framework, chosen, mode=mode, seed=seed)
    registry.require_packages("a video", ("imageio_ffmpeg",), "video")

    with registry.kept_settings(framework, mode):
        if chosen != trained_on:
            require_fit(policy, chosen, trained_on)
        runtime = registry.make_runtime(framework, mode, device=device)
        evaluator, state = _prepare(policy, runtime, chosen, episodes, seed, max_steps)
        with contextlib.closing(evaluator):
            return _write(path, evaluator, state, fps)


def _prepare(
    policy: policy_files.Policy,
    runtime: Any,
    task: Task,
    episodes: int,
    seed: int,
    max_steps: int | None,
) -> tuple[Evaluator, State]:
    """Return environments that can be drawn, and the agent's state."""
    raw_agent = registry.make_raw_agent(policy.algorithm, policy.spec, policy.config, runtime)
    evaluator = Evaluator(
        algorithm=policy.algorithm,
        runtime=runtime,
        raw_agent=raw_agent,
        config=policy.config,
        task=task,
        episodes=episodes,
        seed=seed,
        max_steps=max_steps,
        render=True,
    )
    return evaluator, runtime.agent(raw_agent).load(policy.weights)


def _choose_path(directory: Path, out: str | Path | None) -> Path:
    if out is None:
        is_file = directory.suffix == ".safetensors"
        return (directory if is_file else directory / policy_files.POLICY).with_suffix(".mp4")
    path = Path(out)
    if path.suffix not in ENCODERS:
        raise UsageError(f"-o takes a file that ends in .mp4 or .gif, got {str(path)!r}")
    return path


def _check_fps(fps: float | None) -> None:
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"fps is {fps:g}; it must be above 0, and at most 1000")


def _write(path: Path, evaluator: Evaluator, state: State, fps: float | None) -> Filmed:
    """Play all episodes and write their pictures; nothing is left of a video that fails."""
    rate = evaluator.env.steps_per_s or USUAL_FPS
    stride = max(1, round(rate / (fps or MOST_FPS)))
    fps = fps or rate / stride
    returns: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tiebreak-video-") as folder:
        draft = Path(folder) / f"video{path.suffix}"
        count = encode(draft, _pictures(evaluator, state, stride, returns), fps)
        try:
            write_atomic(path, draft.read_bytes())
        except OSError as error:
            raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error
    return Filmed(path, count, fps, returns)


def _pictures(
    evaluator: Evaluator, state: State, stride: int, returns: list[float]
) -> Iterator[np.ndarray]:
    """Yield a picture before every `stride`-th step; append each episode's return at its end.

    Episode i is played in environment i, as in an evaluation, while the others play theirs again.
    """
    for episode in range(evaluator.env.num_envs):
        total = 0.0
        for step, (totals, running) in enumerate(evaluator.play(state)):
            total = float(totals[episode])
            if not running[episode]:
                break
            if step % stride == 0:
                yield _draw(evaluator.env, episode)
        returns.append(total)


def _draw(env: HostEnv, index: int) -> np.ndarray:
    """Return a picture of an environment. Raises UsageError if it cannot be drawn here."""
    try:
        return env.render(index)
    except UsageError:
        raise
    except Exception as error:  # of OpenGL, a simulator, a user's own environment
        reason = one_line(f"{type(error).__name__}: {error}")
        if _is_mujoco(error):
            raise MissingDependency(f"this machine cannot draw: {reason}. {ADVICE}") from error
        raise UsageError(f"the environment's render() raised {reason}") from error


def _is_mujoco(error: BaseException) -> bool:
    """Return whether an error was raised below MuJoCo's or OpenGL's packages."""
    trace, names = error.__traceback__, set()
    while trace:
        names.add(trace.tb_frame.f_globals.get("__name__", "").partition(".")[0])
        trace = trace.tb_next
    return bool(names & {"mujoco", "OpenGL", "dm_control"}) or "mujoco" in str(error).lower()


def encode(path: Path, pictures: Iterator[np.ndarray], fps: float) -> int:
    """Write pictures [height, width, 3] uint8 of one size, and return how many they were."""
    import imageio_ffmpeg

    first = next(pictures)
    height, width, _ = first.shape
    # Players want mp4 in even sizes: the last row and column are doubled.
    odd = (height % 2, width % 2) if path.suffix == ".mp4" else (0, 0)
    writer = imageio_ffmpeg.write_frames(
        path,
        (width + odd[1], height + odd[0]),
        fps=fps,  # type: ignore[arg-type], it takes fractions
        macro_block_size=1,
        ffmpeg_log_level="error",
        **ENCODERS[path.suffix],
    )
    writer.send(None)  # starts it
    count = 0
    with contextlib.closing(writer):
        for picture in itertools.chain([first], pictures):
            if picture.shape != first.shape:
                raise UsageError(
                    f"the environment's pictures change their size from {first.shape} to "
                    f"{picture.shape}"
                )
            writer.send(np.pad(picture, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge"))
            count += 1
    return count
