"""Ask JAX for its devices, and say in one line why it has none."""

from __future__ import annotations

import os

from tiebreak.core.errors import MissingDevice


def require_devices() -> list[str]:
    """Start JAX, and return the platforms that it sees, sorted.

    Raises MissingDevice if it sees none, as with a JAX_PLATFORMS that is left over from a machine
    with other devices.
    """
    import jax

    try:
        return sorted({device.platform for device in jax.devices()})
    except Exception as error:  # of several types, by version and platform
        chosen = os.environ.get("JAX_PLATFORMS")
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "set JAX_PLATFORMS=cpu, or reinstall JAX"
        if chosen:
            remedy = f"JAX_PLATFORMS={chosen!r} is set: unset it, or set JAX_PLATFORMS=cpu"
        raise MissingDevice(f"JAX sees no device here ({reason}); {remedy}") from error
