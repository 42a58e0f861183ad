"""Run a suite on several hosts at once: a manager on each, whole blocks, one results folder.

Every host measures a share of the blocks into a folder of its own, `hosts/NAME` below that of the
suite, which is a results folder like any other. What the suite's folder holds is put together from
them whenever the hosts are done, and can be made again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from tiebreak.bench.clock import nap, stamp
from tiebreak.bench.hosts import hosts_file, merge
from tiebreak.bench.hosts.kinds import HOSTS, Host
from tiebreak.bench.hosts.sessions import Ending, Session, watched
from tiebreak.bench.manager import store
from tiebreak.bench.manager.certificates import (
    CERTIFICATES,
    find_certificate,
    kept_files,
    make_certificate,
    raced,
)
from tiebreak.bench.manager.manager import (
    RESULTS,
    Interrupted,
    check_same,
    command_of,
    describe,
    refuse_used,
    write_suite,
)
from tiebreak.bench.suite import suite as suites
from tiebreak.bench.suite.plan import Plan
from tiebreak.bench.suite.share import Share
from tiebreak.core.errors import UsageError
from tiebreak.core.files import remove_leftovers, write_atomic

STOP_S = 40.0
"""Time that managers have to end after an interruption."""


class Request(NamedTuple):
    """A suite to run, as the command line names it."""

    suite: str
    """Name of a built-in suite, or path of a .toml file."""
    hosts_file: Path
    out: Path | None = None
    scale: str | None = None
    seed: int | None = None
    device: str | None = None


def run_on(request: Request, resume: bool = False, progress: bool = True) -> tuple[Path, list[str]]:
    """Run a suite on the hosts of a file; return its results folder, and what failed, a line each.

    Args:
        request: What to run, where; `scale`, `seed` and `device` are as for `run_suite`.
        resume: Go on with `request.out`: each host runs what its own folder lacks.
        progress: Whether to show on stderr what the managers say.

    Raises UsageError before anything runs, and if no host has measured anything; Interrupted on
    Ctrl-C.
    """
    hosts = hosts_file.read(request.hosts_file)
    stored: Mapping[str, Any] = _read_stored(request.out, hosts) if resume else {}
    scale, device = request.scale or stored.get("scale"), request.device or stored.get("device")
    seed = stored.get("seed") if resume else request.seed
    seed = secrets.randbelow(2**31) if seed is None else seed
    plan = suites.load(request.suite, scale, seed, device)
    folder = request.out or Path(RESULTS) / f"{plan.suite}-{stamp()}"
    if not resume:
        refuse_used(folder)
    for host in hosts:
        host.check()

    with store.hold(folder):
        remove_leftovers(folder, store.SUITE, store.RECORDS)
        if resume:
            check_same(plan, folder)
        else:
            command = command_of(request.suite, plan, folder, device)
            command += f" --on {quote(str(request.hosts_file))}"
            names = [host.name for host in hosts]
            write_suite(folder, {**describe(plan, command, device), "hosts": names, "merged": []})
        run = _Run(request.suite, plan, folder, hosts, device, progress)
        return folder, run.run()


def _read_stored(out: Path | None, hosts: Sequence[Host]) -> dict[str, Any]:
    """Return suite.json of the folder to resume, which has to be one of these hosts."""
    if out is None:
        raise UsageError("--resume needs the folder to go on with: --out DIR")
    stored = store.read_suite(out)
    names = [host.name for host in hosts]
    if "hosts" not in stored:
        raise UsageError(f"{out} was not run on several hosts: leave --on out")
    if stored["hosts"] != names:
        raise UsageError(
            f"{out} was run on the hosts {', '.join(stored['hosts'])}, which divide its blocks; "
            f"the file names {', '.join(names)}"
        )
    return stored


class _Run:
    """The managers of a suite's hosts, and what they have come to."""

    def __init__(
        self,
        suite: str,
        plan: Plan,
        folder: Path,
        hosts: Sequence[Host],
        device: str | None,
        progress: bool,
    ):
        from rich.console import Console

        self.suite, self.plan, self.folder, self.hosts = suite, plan, folder, hosts
        self.device = device
        self.console = Console(stderr=True, quiet=not progress, soft_wrap=True, highlight=False)
        self.folders = {host.name: host.folder(folder) for host in hosts}
        """Path of each host's results, as the host names it."""
        self.sessions: list[Session] = []
        self.endings: dict[str, Ending] = {}
        self.failures: dict[str, str] = {}
        """Name of a host -> why its share is not done."""

    def run(self) -> list[str]:
        """Run all managers to their ends, and put their records together."""
        self._send_files()
        self._run_managers()
        parts = self._collect()
        if not parts:
            raise UsageError(
                "no host has measured anything: "
                + "; ".join(f"{name}: {why}" for name, why in self.failures.items())
            )
        suite = store.read_suite(self.folder)
        ours = merge.Part(self.folder.name, self.folder, suite, parts[0].records, "")
        merge.check_same_suite([ours, *parts])
        merge.write_merged(self.folder, suite, parts)
        go_on = f"go on with: {suite['command']} --resume"
        return [f"host {name!r}: {why}; {go_on}" for name, why in self.failures.items()]

    def say(self, host: Host, line: str) -> None:
        """Print one line of a host's."""
        self.console.print(f"{host.name}: {line}", markup=False)

    def _send_files(self) -> None:
        """Send each host the suite, if it is a file, and the certificate that is made once."""
        certificates = self._certificates()
        for host in self.hosts:
            files = {f"{CERTIFICATES}/{name}": data for name, data in certificates.items()}
            if self.suite.endswith(".toml") and not host.shares_disk:
                files[Path(self.suite).name] = Path(self.suite).read_bytes()
            host.send(self.folders[host.name], files)

    def _certificates(self) -> dict[str, bytes]:
        """Return the files of this installation's certificates, made now if a host needs one."""
        if not self.plan.settings.certificate:
            return {}
        algorithms, frameworks = raced(self.plan)
        serves = any(host.shares_installation for host in self.hosts)
        known = find_certificate(algorithms, frameworks, quick=self.plan.scale != "full")
        if serves and frameworks and known is None:
            make_certificate(self.plan, lambda line: self.console.print(line, markup=False))
        return kept_files()

    def _run_managers(self) -> None:
        """Start a manager on each host, and wait for all; end them if this process is to end."""
        threads = []
        try:
            for number, host in enumerate(self.hosts, 1):
                script = self._script(host, Share(number, len(self.hosts)))
                session = host.start(script, self.folder, lambda line, h=host: self.say(h, line))
                self.sessions.append(session)
                thread = threading.Thread(target=self._follow, args=(host, session), daemon=True)
                thread.start()
                threads.append(thread)
            while any(thread.is_alive() for thread in threads):
                nap(0.1)  # not join: a signal has to be heard at once
        except BaseException as error:
            for session in self.sessions:
                session.stop()
            for thread in threads:
                thread.join(STOP_S)
            if not isinstance(error, KeyboardInterrupt):
                raise
            command = store.read_suite(self.folder)["command"]
            raise Interrupted(
                f"interrupted; each host has kept what it measured, go on with: {command} --resume"
            ) from None

    def _follow(self, host: Host, session: Session) -> None:
        """Wait for a host's manager; runs in a thread of its own."""
        ending = session.wait()
        self.endings[host.name] = ending
        if ending.status > 1:
            self.say(host, ending.why())

    def _script(self, host: Host, share: Share) -> str:
        """Return the shell script of a host's manager, which begins or resumes its folder."""
        folder = quote(self.folders[host.name])
        suite = self.suite
        if suite.endswith(".toml") and not host.shares_disk:
            suite = f"{self.folders[host.name]}/{Path(suite).name}"
        words = [
            *(["taskset", "-c", ",".join(map(str, host.cores))] if host.cores else []),
            host.command,
            f"run {quote(suite)} --scale {self.plan.scale} --share {share} --out {folder}",
            *([f"--device {self.device}"] if self.device else []),
            '"$@"',
        ]
        begin = (
            f"if [ -e {folder}/{store.SUITE} ]; then set -- --resume; "
            f"else set -- --seed {self.plan.seed}; fi\n"
        )
        return watched(begin, " ".join(words))

    def _collect(self) -> list[merge.Part]:
        """Bring the hosts' results here, and read those that hold a run."""
        parts = []
        for host in self.hosts:
            here = self.folder / HOSTS / host.name
            try:
                if not host.shares_disk:
                    self._fetch(host, here)
                if (here / store.SUITE).is_file():
                    parts.append(merge.read_part(here, host.name))
            except UsageError as error:
                self.failures.setdefault(host.name, str(error))
        measured = [part for part in parts if _has_visit(part)]
        complete = {part.name for part in measured if self._is_done(part)}
        for host in self.hosts:
            if host.name not in complete:
                self.failures.setdefault(host.name, self._ending(host.name).why())
        return measured

    def _ending(self, name: str) -> Ending:
        return self.endings.get(name, Ending(1))

    def _is_done(self, part: merge.Part) -> bool:
        """Return whether a host's manager came to its end.

        Its status is 1 for cells that failed, too: these are in its records.
        """
        status = self._ending(part.name).status
        return status == 0 or (status == 1 and any(map(_is_failure, part.records)))

    def _fetch(self, host: Host, here: Path) -> None:
        """Copy a host's results from another machine."""
        for name in (store.RECORDS, store.SUITE):
            content = host.fetch(self.folders[host.name], name)
            if content is not None:
                write_atomic(here / name, content)


def _has_visit(part: merge.Part) -> bool:
    return any(record["kind"] == "visit" for record in part.records)


def _is_failure(record: Mapping[str, Any]) -> bool:
    """Return whether a record makes `tiebreak run` end with status 1."""
    if record["kind"] == "certificate":
        return not record["certificate"]["green"]
    return record["kind"] == "visit" and record["status"] not in ("ok", "missing")
