"""One file per array library: mode, device, precision, threads, noise, sync, memory, traces.

Everything framework-shaped that does not vary by algorithm lives here, so that agent files hold
no jit, clock or device.
"""
