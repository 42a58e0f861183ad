"""Kinds of hosts: where the manager of a share of a suite runs, and how its results come back.

To add one, write a class with these methods, whose fields are the keys of its table in hosts.toml,
and add its row to KINDS.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar

from tiebreak import __version__
from tiebreak.bench.hosts.sessions import Say, Session, ShellSession, SubmititSession
from tiebreak.bench.manager.manager import RESULTS
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.installation import how_to_install, missing_packages
from tiebreak.core.process_env import affinity
from tiebreak.core.text import one_line

HOSTS = "hosts"
"""Folder of the hosts' own results, in that of the whole suite."""

SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=30")
"""Asks for no password, and notices a host that is gone."""

ANSWER_S = 120.0
"""Time limit of a short command on a host."""

THIS_INSTALLATION = f"{quote(sys.executable)} -m tiebreak"


@dataclass(frozen=True)
class LocalHost:
    """This machine, or some of its cores."""

    name: str
    cores: tuple[int, ...] = ()
    """CPUs of its manager and workers; empty: all."""
    command: str = THIS_INSTALLATION
    """How to start Tiebreak, for a shell."""

    shares_installation: ClassVar[bool] = True
    """It is this computer's installation, so that a certificate made here serves."""
    shares_disk: ClassVar[bool] = True

    @property
    def is_here(self) -> bool:
        """Return whether its manager runs on this machine."""
        return True

    def lacks(self) -> str:
        """Return what its table in hosts.toml lacks; empty if nothing."""
        return ""

    def check(self) -> None:
        """Raise UsageError if nothing can be run here."""
        if missing := sorted(set(self.cores) - set(affinity())):
            raise UsageError(f"host {self.name!r}: core {missing[0]} is not ours: {affinity()}")
        if self.cores and not shutil.which("taskset"):
            raise UsageError(f"host {self.name!r}: cores need taskset (util-linux)")

    def folder(self, out: Path) -> str:
        """Return the path of its results there, for a suite whose results are in `out`."""
        return str(out / HOSTS / self.name)

    def send(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files into a folder of the host."""
        for name, content in files.items():
            write_atomic(Path(folder) / name, content)

    def start(self, script: str, out: Path, say: Say) -> Session:
        """Run a watched script."""
        return ShellSession(["sh", "-c", script], say)

    def fetch(self, folder: str, name: str) -> bytes | None:
        """Return a file of the host; None if there is none."""
        path = Path(folder) / name
        return path.read_bytes() if path.is_file() else None


@dataclass(frozen=True)
class SubmititHost(LocalHost):
    """A job on a cluster, which shares this folder with the machine that it is started from."""

    cluster: str = "slurm"
    """Executor of submitit: slurm, or local for a process of this machine."""
    minutes: int = 1440
    """Time limit of the job."""
    cpus: int = 0
    """CPUs of the job; 0: as many as the cluster gives."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters of submitit's AutoExecutor, such as `slurm_partition`."""

    @property
    def is_here(self) -> bool:
        return self.cluster == "local"

    def check(self) -> None:
        """Raise UsageError if submitit is not installed."""
        if missing := missing_packages(("submitit",)):
            raise MissingDependency(
                f"host {self.name!r} needs {missing[0]}, not installed here: "
                f"{how_to_install('submitit')}"
            )

    def start(self, script: str, out: Path, say: Say) -> Session:
        """Submit a watched script as a job."""
        parameters: dict[str, Any] = {"name": f"tiebreak-{self.name}", "timeout_min": self.minutes}
        if self.cpus:
            parameters["cpus_per_task"] = self.cpus
        log = out / HOSTS / f"{self.name}-jobs"
        return SubmititSession(self.cluster, script, log, parameters | dict(self.parameters), say)


@dataclass(frozen=True)
class SshHost:
    """Another machine, over ssh."""

    name: str
    address: str = ""
    """As ssh takes it: `me@server`, or a name of its own configuration."""
    cores: tuple[int, ...] = ()
    command: str = "tiebreak"
    """How to start Tiebreak there, for a shell."""
    directory: str = "."
    """Folder there to start in, from the home folder; results lie below it."""

    shares_installation: ClassVar[bool] = False
    shares_disk: ClassVar[bool] = False

    @property
    def is_here(self) -> bool:
        return False

    def lacks(self) -> str:
        return "" if self.address else 'an address, e.g. address = "me@server"'

    def check(self) -> None:
        """Raise UsageError if it cannot be reached, or has another version of Tiebreak."""
        answer = self._ask(f"{self.command} --version")
        said = _last(answer.stdout)
        if answer.returncode == 255:
            raise UsageError(
                f"host {self.name!r} cannot be reached: {_last(answer.stderr)} "
                f"(ssh {self.address} has to work without a password)"
            )
        if answer.returncode:
            raise UsageError(
                f"host {self.name!r}: {self.command!r} does not run there: "
                f"{_last(answer.stderr)}; name it with command = … in its table"
            )
        if said != f"tiebreak {__version__}":
            raise UsageError(f"host {self.name!r} has {said!r}, and here is {__version__}")

    def folder(self, out: Path) -> str:
        return f"{RESULTS}/{out.absolute().name[:39]}-{self.name}"

    def send(self, folder: str, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            path = quote(f"{folder}/{name}")
            script = f'mkdir -p "$(dirname {path})" && cat > {path}'
            answer = self._ask(script, content)
            if answer.returncode:
                reason = _last(answer.stderr)
                raise UsageError(f"host {self.name!r}: cannot send {name}: {reason}")

    def start(self, script: str, out: Path, say: Say) -> Session:
        return ShellSession(self._argv(script), say)

    def fetch(self, folder: str, name: str) -> bytes | None:
        path = quote(f"{folder}/{name}")
        answer = self._ask(f"if [ -e {path} ]; then cat {path}; else exit 9; fi", limit_s=None)
        if answer.returncode == 9:
            return None
        if answer.returncode:
            reason = _last(answer.stderr)
            raise UsageError(f"host {self.name!r}: cannot fetch {name}: {reason}")
        return answer.stdout

    def _argv(self, script: str) -> list[str]:
        # Whatever shell the user has there, POSIX's runs the script.
        inner = f"cd {quote(self.directory)} || exit 1\n{script}"
        return [*SSH, self.address, f"sh -c {quote(inner)}"]

    def _ask(
        self, script: str, content: bytes = b"", limit_s: float | None = ANSWER_S
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a short script there, with `content` as its standard input."""
        try:
            return subprocess.run(
                self._argv(script),
                input=content,
                capture_output=True,
                timeout=limit_s,
                check=False,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise UsageError(f"host {self.name!r} needs ssh, which is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise UsageError(
                f"host {self.name!r} did not answer within {ANSWER_S:g} s (ssh {self.address})"
            ) from error


Host = LocalHost | SubmititHost | SshHost

KINDS: dict[str, type[LocalHost] | type[SubmititHost] | type[SshHost]] = {
    "local": LocalHost,
    "ssh": SshHost,
    "submitit": SubmititHost,
}


def _last(output: bytes) -> str:
    """Return the last line of what a command printed."""
    lines = output.decode(errors="replace").strip().splitlines()
    return one_line(lines[-1])[:300] if lines else "it said nothing"
