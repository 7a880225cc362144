# SPDX-License-Identifier: BSD-3-Clause
"""README's commands build and install Weir on a Debian that has nothing: debootstrap's smallest
one, in a directory. The network is needed for the distribution's mirror alone; the packages are
kept."""

import os
import re
import shutil
import stat
import subprocess
import time
import urllib.request

import pytest

from netns import PATIENCE, CommandFailed, run
from weir import ROOT

CACHE = "/var/cache/weir-test"          # the packages of each suite
NOT_SOURCE = ("build*", ".git", "__pycache__", ".cache")
TRIES = 3                               # of what asks the mirror
# README's commands are typed as they stand, so that apt may not ask.
APT_SETTINGS = f"""
APT::Get::Assume-Yes "true";
Acquire::Retries "{TRIES}";
quiet "1";
"""
# Mounts of its own, which are gone with the last process in it; the packages of earlier runs.
ENTER = r"""
mount --rbind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount -t tmpfs tmpfs "$1/tmp"
mount --bind "$2" "$1/var/cache/apt/archives"
exec chroot "$1" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} sh -euc "$3"
"""


def readme_commands():
    """The block of README that begins with the installation of packages, as it stands there."""
    with open(f"{ROOT}/README.md") as file:
        blocks = re.findall(r"(?:^ {4}.*\n)+", file.read(), re.M)
    return next(block for block in blocks if "apt-get install" in block)


def tried(ask, *arguments):
    """What ask() returns. A mirror that fails is asked again; one that goes on failing, or a
    machine on which no system can be made, says nothing about README: the test is skipped."""
    for left in reversed(range(TRIES)):
        try:
            return ask(*arguments)
        except (OSError, ValueError, CommandFailed, subprocess.TimeoutExpired) as failure:
            if left == 0 or isinstance(failure, subprocess.TimeoutExpired):
                pytest.skip(f"no bare system can be made here: {failure}")
            time.sleep(5)


def apt_mirror(suite):
    """Where apt gets its packages on this machine, if the suite is there."""
    said = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").stdout
    failure = ValueError("apt has no sources")
    for uri in dict.fromkeys(said.split()):
        try:
            with urllib.request.urlopen(f"{uri}dists/{suite}/Release", timeout=20 * PATIENCE):
                return uri
        except (OSError, ValueError) as failed:
            failure = failed
    raise failure


class BareSystem:
    """A fresh minbase, with a copy of the source in /root/weir."""

    def __init__(self, suite, directory):
        self.suite, self.root, self.cache = suite, f"{directory}/{suite}", f"{CACHE}/{suite}"

    def create(self):
        os.makedirs(self.cache, exist_ok=True)
        tried(self.make, tried(apt_mirror, self.suite))
        with open(f"{self.root}/etc/apt/apt.conf.d/80weir-test", "w") as file:
            file.write(APT_SETTINGS)
        with open(f"{self.root}/etc/dpkg/dpkg.cfg.d/80weir-test", "w") as file:
            file.write("force-unsafe-io\n")         # the system needn't outlive a power failure
        os.makedirs(f"{self.root}/dev/net")         # as on a machine: unit tests open TAP ports
        os.mknod(f"{self.root}/dev/net/tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))
        shutil.copytree(ROOT, f"{self.root}/root/weir", ignore=shutil.ignore_patterns(*NOT_SOURCE))
        tried(self.fetch)

    def make(self, mirror):
        self.remove()                   # what a try before has left
        # Of the whole it is a quarter: a machine that takes longer has no time for the rest.
        run("debootstrap", "--variant=minbase", f"--cache-dir={self.cache}", self.suite, self.root,
            mirror, timeout=200)

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def fetch(self):
        """Get README's packages from the mirror, so that it can't fail later. A name that isn't
        known there is README's fault, which shows when the block is typed."""
        install = re.search(r"apt-get install (?:[^\n]*\\\n)*[^\n]*", readme_commands()).group()
        done = self.run(f"apt-get -o APT::Update::Error-Mode=any update\n{install} --download-only")
        if done.returncode != 0 and "Unable to locate package" not in done.stdout:
            raise CommandFailed(done.stdout[-300:])

    def run(self, commands, seconds=700):
        """In the system, until the first one that fails."""
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", ENTER, "enter",
             self.root, self.cache, "cd /root/weir\n" + commands],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=seconds * PATIENCE)

    def type(self, commands):
        """All that is said; none may fail."""
        done = self.run(commands)
        assert done.returncode == 0, \
            f"README.md, on a bare {self.suite}:\n{commands}\n... {done.stdout[-3000:]}"
        return done.stdout


@pytest.fixture
def bare_system(request, tmp_path):
    if not shutil.which("debootstrap"):
        pytest.skip("debootstrap isn't installed")
    system = BareSystem(request.param, tmp_path)
    try:
        system.create()
        yield system
    finally:
        system.remove()


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("bare_system", ["bookworm", "trixie"], indirect=True)
def test_readme_on_a_bare_system(bare_system):
    """Nothing is missing in README's list of packages, and no compiler warns."""
    said = bare_system.type(readme_commands())
    assert "warning:" not in said, "\n".join(
        line for line in said.splitlines() if "warning:" in line)
    with open(f"{ROOT}/meson.build") as file:
        version = re.search(r"version: '([0-9.]+)'", file.read()).group(1)
    assert version in said.splitlines()[-1]
    assert "right" in bare_system.type("weir -c conf/weir.conf --check")
    with open(f"{ROOT}/scripts/lib.sh") as file:
        more = re.search(r'^UNIT_PACKAGES="([^"]*)"', file.read(), re.M).group(1)
    bare_system.type(f"apt-get install --no-install-recommends {more}\n"
                     "meson test -C build --no-rebuild --print-errorlogs")
