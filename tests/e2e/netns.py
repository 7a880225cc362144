# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces: make, enter, run in, and remove with all that runs in them."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time

# Factor of all time limits, for a machine that is emulated.
PATIENCE = float(os.environ.get("WEIR_TEST_PATIENCE", 1))
DIRECTORY = "/run/netns"
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A command that had to succeed did not; the text is what it said."""


def run(*command, check=True, timeout=60, **options):
    """Run a command; returns its CompletedProcess with text output."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout * PATIENCE, **options)
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(map(str, command))}: exit code {done.returncode}: "
                            f"{(done.stderr or done.stdout).strip()}")
    return done


def names():
    """Names of all namespaces that `ip netns` knows."""
    try:
        return sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return []


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


class Namespace:
    """A namespace under /run/netns. Nothing is made until create()."""

    def __init__(self, name):
        self.name = name
        self.path = f"{DIRECTORY}/{name}"

    def exists(self):
        return os.path.exists(self.path)

    def create(self):
        run("ip", "netns", "add", self.name)
        self.ip("link set lo up")

    def delete(self):
        """Kill what runs inside, then remove it. Fine if it isn't there."""
        if not self.exists():
            return
        deadline = time.monotonic() + 5 * PATIENCE
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        run("ip", "netns", "delete", self.name, check=False)

    def pids(self):
        found = run("ip", "netns", "pids", self.name, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def command(self, *words):
        """The command line that runs `words` inside.

        By nsenter and not by `ip netns exec`: the latter has a mount namespace of its own, in which
        namespaces that the program makes under /run/netns would stay unseen.
        """
        return ["nsenter", f"--net={self.path}", "--", *map(str, words)]

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def popen(self, *words, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("start_new_session", True)
        return subprocess.Popen(self.command(*words), **options)

    def ip(self, *lines):
        """Arguments of `ip`, one string a command, run as one batch."""
        done = subprocess.run(self.command("ip", "-batch", "-"), input="\n".join(lines) + "\n",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise CommandFailed(f"ip in {self.name}: {done.stderr.strip()}")

    def enter_thread(self):
        """Move the calling thread here for good."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            _setns(fd)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is inside during the block: its sockets stay here for ever."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self.enter_thread()
            try:
                yield self
            finally:
                _setns(home)
        finally:
            os.close(home)

    def sysctl(self, **settings):
        """Set net.* values; the key's double underscores are slashes: ipv4__ip_forward=1."""
        with self.entered():
            for key, value in settings.items():
                with open("/proc/sys/net/" + key.replace("__", "/"), "w") as file:
                    file.write(str(value))
