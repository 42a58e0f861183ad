"""Run a user's agent on the problem of an algorithm, and write what it computed as one file.

`python -m tiebreak.verify.against.worker '{"agent": …}' FD PARENT` with the file descriptor of the
result and the pid of the parent, with which it ends; process.py starts it. Here, and only here, is
foreign code imported: that which the user has named.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, NamedTuple

import numpy as np

import tiebreak
from tiebreak.core import user_modules
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.process_env import die_with_parent
from tiebreak.core.text import one_line, quoted
from tiebreak.verify.against.held_modules import HeldModules
from tiebreak.verify.against.problem import as_dictionaries, make_problem
from tiebreak.verify.against.rules import GRADIENT, require_terms
from tiebreak.verify.against.trace import Trace
from tiebreak.verify.against.user_arrays import ArrayMap, arrays_of
from tiebreak.verify.case import cast

METHODS = {
    "update": "update(batch, noise): one update; returns terms by name",
    "weights": "weights(): arrays in dictionaries and lists; or `modules`: torch modules by name",
    "load": "load(weights): take numbers, in a tree like that of weights()",
}
"""What an agent has to have, as errors describe it."""
HERE = os.path.dirname(tiebreak.__file__)


class Request(NamedTuple):
    """Arguments of one worker."""

    algorithm: str
    agent: str
    """`module:Class` or `file.py:Class`."""
    precision: str


class Answer(NamedTuple):
    """What an agent has computed."""

    updates: Trace
    actions: str
    settings: dict[str, Any]
    notes: dict[str, Any]
    """Facts about its arrays: whether kernels are transposed, what was ignored, their type."""


class AgentError(UsageError):
    """Reports an error in a user's code, with file and line of it."""


def import_agent(name: str) -> Any:
    """Import a user's class by `module:Class` or `file.py:Class`, or say why that fails."""
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            module = user_modules.import_file(place)
        else:
            module = user_modules.import_module(place)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        if error.name in (place, place.partition(".")[0]):
            folder = user_modules.started_in()
            message = f"there is no module {quoted(place)}, neither in {folder} nor installed"
            raise UsageError(message) from error
        raise failure(name, "import", error) from error
    except (Exception, SystemExit) as error:
        raise failure(name, "import", error) from error
    if not hasattr(module, attribute):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise unknown(f"class in {place}", attribute, classes)
    return getattr(module, attribute)


def holder_of(name: str, agent: Any) -> Any:
    """Return what has an agent's `weights` and `load`; raise UsageError if a method is missing."""
    holder = agent
    if hasattr(agent, "modules") and not hasattr(agent, "weights"):
        holder = HeldModules(agent.modules, getattr(agent, "optimizers", ()))
    for method, use in METHODS.items():
        if not callable(getattr(agent if method == "update" else holder, method, None)):
            raise UsageError(f"{name} has no method {method}; it needs {use}")
    return holder


def failure(name: str, where: str, error: BaseException) -> AgentError:
    """Return an error in a user's code on one line, with file and line of it."""
    if isinstance(error, AgentError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (HERE, os.path.dirname(os.__file__), "<frozen")
    theirs = [f for f in frames if not f.filename.startswith(libraries)]
    place = ""
    if theirs:
        place = f"{os.path.relpath(theirs[-1].filename)}, line {theirs[-1].lineno}: "
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{os.path.relpath(error.filename)}, line {error.lineno}: "
    message = one_line(f"{type(error).__name__}: {error}")[:500]
    return AgentError(f"{name} failed in {where}: {place}{message}")


def use_precision(precision: str) -> None:
    """Let libraries that the user's module has imported make arrays of float64, if it is wanted."""
    if precision != "float64":
        return
    if torch := sys.modules.get("torch"):
        torch.set_default_dtype(torch.float64)
    if keras := sys.modules.get("keras") or sys.modules.get("tf_keras"):
        keras.backend.set_floatx("float64")


def run_agent(name: str, kind: Any, algorithm: str, precision: str) -> Answer:
    """Make an agent, load the problem's weights into it and let it compute all updates."""
    settings = dict(getattr(kind, "settings", {}))
    actions = getattr(kind, "actions", "")
    problem = make_problem(algorithm, actions, settings)
    agent = _call(name, "__init__", kind, problem.spec(precision))
    holder = holder_of(name, agent)
    names = getattr(agent, "names", None)
    arrays = load(name, holder, names, cast(problem.weights, precision))
    notes = {
        "transposed": arrays.transposed,
        "ignored": arrays.ignored,
        "dtype": _dtype(arrays, _call(name, "weights", holder.weights)),
    }
    updates: Trace = []
    for call in problem.calls:
        batch, noise = as_dictionaries(call)
        terms = _call(name, "update", agent.update, cast(batch, precision), cast(noise, precision))
        record = _terms(name, algorithm, arrays, terms)
        record.update(arrays.canonical(_call(name, "weights", holder.weights)))
        updates.append(record)
    return Answer(updates, actions, settings, notes)


def load(name: str, holder: Any, names: Any, ours: dict[str, np.ndarray]) -> ArrayMap:
    """Load our weights into an agent; raise UsageError unless it gives them back."""
    tree = _call(name, "weights", holder.weights)
    arrays = ArrayMap(tree, names, ours)
    _call(name, "load", holder.load, arrays.load())
    back = arrays.canonical(_call(name, "weights", holder.weights))
    for key, value in ours.items():
        if key.startswith("adam/"):
            continue
        got = back[key].astype(np.float32)
        if got.shape != value.shape or not np.array_equal(got, value.astype(np.float32)):
            raise UsageError(
                f"{name}: after load(), weights() returns other numbers for {key} than it was given"
            )
    return arrays


def _terms(name: str, algorithm: str, arrays: ArrayMap, terms: Any) -> dict[str, np.ndarray]:
    """Return what `update` returned, by our names."""
    if terms is None:
        return {}
    if not isinstance(terms, dict):
        raise UsageError(f"{name}: update() returned {quoted(terms)}; it returns a dictionary")
    gradients = {"grad": terms["grad"]} if "grad" in terms else {}
    scalars = arrays_of({key: value for key, value in terms.items() if key != "grad"})
    require_terms(algorithm, scalars)
    mapped = arrays.canonical(gradients)
    if gradients and not mapped:
        raise UsageError(
            f"{name}: no gradient below 'grad' has the name of an array of weights(): "
            f"{quoted(', '.join(arrays_of(gradients)))}"
        )
    return {**scalars, **{key: value for key, value in mapped.items() if key.startswith(GRADIENT)}}


def _dtype(arrays: ArrayMap, tree: Any) -> str:
    """Return the narrowest floating type of the weights that an agent keeps."""
    networks = {k: v for k, v in arrays.canonical(tree).items() if not k.startswith("adam/")}
    kinds = {v.dtype for v in networks.values() if v.dtype.kind == "f"}
    return str(min(kinds, key=lambda kind: kind.itemsize))


def _call(name: str, where: str, function: Any, *arguments: Any) -> Any:
    """Call a user's code; an error in it becomes one line."""
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        raise failure(name, where, error) from error


def run(request: Request) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return all arrays of an agent's updates, by `update|name`, and facts about it."""
    try:
        with user_modules.searched():
            kind = import_agent(request.agent)
            use_precision(request.precision)
            answer = run_agent(request.agent, kind, request.algorithm, request.precision)
    except UsageError as problem:
        return {}, {"error": str(problem)}
    arrays = {
        f"{index}|{name}": value
        for index, record in enumerate(answer.updates)
        for name, value in record.items()
    }
    facts = {"actions": answer.actions, "settings": answer.settings, **answer.notes}
    return arrays, {**facts, "count": len(answer.updates)}


def main() -> None:
    """Read the request, run the agent, write the result."""
    die_with_parent(int(sys.argv[3]))
    arrays, facts = run(Request(**json.loads(sys.argv[1])))
    with open(int(sys.argv[2]), "wb") as result:
        text = np.array(json.dumps(facts, default=str))
        np.savez(result, facts=text, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
