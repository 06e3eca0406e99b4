"""A lean Debian with a real systemd, in a container of systemd-nspawn. Needs root and Debian's packages debootstrap,
systemd-container and slirp4netns.

It has Python, git and systemd, a network of its own with a way out (slirp4netns), and no port that the host sees.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "systemd-sysv,dbus,python3,python3-venv,git"
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class Debian:
    """A running container. ``root`` is its file system, ``leader`` the pid of its systemd on the host."""

    root: Path
    leader: int

    def start(self, script: str, **options: object) -> subprocess.Popen[str]:
        """Start ``script`` in bash, as root, ended by its first error."""
        command = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        command += ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        command += ["bash", "-e", "-c", f"cd /root\n{script}"]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, script: str, code: int = 0) -> str:
        """Run ``script`` to its end, which must be with exit code ``code``. Returns what it printed."""
        process = self.start(script)
        printed, _ = process.communicate()
        assert process.returncode == code, f"exit code {process.returncode} of:\n{script}\n{printed}"
        return printed


@contextlib.contextmanager
def running(suite: str) -> Iterator[Debian]:
    """A new container of the release ``suite``, without anything of an earlier one."""
    assert os.geteuid() == 0, "only root can start a container"
    for tool in ("debootstrap", "systemd-nspawn", "slirp4netns"):
        assert shutil.which(tool), f"{tool} is missing: apt-get install debootstrap systemd-container slirp4netns"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="debian-")))
        root = stack.enter_context(_copy(_base(suite), folder))
        (root / "etc" / "resolv.conf").write_text("nameserver 10.0.2.3\n")
        shutil.copy(TRUSTED, root / TRUSTED.relative_to("/"))  # this machine's proxy may have its own authority
        boot = f"exec systemd-nspawn --quiet --directory={root} --boot --register=no --keep-unit"
        boot += " --private-network --resolv-conf=off --link-journal=no --console=pipe"
        if not Path("/sys/fs/cgroup/cgroup.controllers").exists():  # Debian 13 boots with cgroup2 only
            boot = f"mount -t cgroup2 none /sys/fs/cgroup && {boot}"
        log = stack.enter_context((folder / "boot.log").open("wb"))
        nspawn = subprocess.Popen(["unshare", "--mount", "sh", "-c", boot], stdin=subprocess.DEVNULL, stdout=log)
        stack.callback(_end, nspawn)
        machine = Debian(root, _leader(nspawn))
        network = subprocess.Popen(
            ["slirp4netns", "--configure", "--mtu=1500", "--disable-host-loopback", str(machine.leader), "tap0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_end, network)
        machine.run('until [ "$(systemctl is-system-running 2>&1)" = running ]; do sleep 0.1; done')
        machine.run("until getent hosts deb.debian.org >/dev/null; do sleep 0.1; done")
        yield machine


def _base(suite: str) -> Path:
    """The release as debootstrap makes it, kept for the next time."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = Path(home) / "headless-webrtc-peer" / f"debian-{suite}"
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"debian-{suite}-", dir=base.parent))
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, fresh], check=True)
        fresh.chmod(0o755)
        fresh.rename(base)
    return base


@contextlib.contextmanager
def _copy(base: Path, folder: Path) -> Iterator[Path]:
    """An overlay on ``base``."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    layers = f"lowerdir={base},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, folder / "root"], check=True)
    try:
        yield folder / "root"
    finally:
        subprocess.run(["umount", folder / "root"], check=True)


def _leader(nspawn: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert nspawn.poll() is None, "systemd-nspawn ended; it needs CAP_SYS_ADMIN and a cgroup2 file system"
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
        time.sleep(0.1)
    raise TimeoutError("systemd did not start in the container within 30 s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
