# SPDX-License-Identifier: BSD-3-Clause
"""The command line and --check, which needs neither a port nor root. The table of all messages is
a unit test of the module conf; here: the way they come out."""

import os
import re
import subprocess

import pytest

from netns import PATIENCE
from weir import BINARY, ROOT

GOOD = """port = {
  device  = "0000:03:00.0";
  address = "192.0.2.10/24";
  gateway = "192.0.2.1";
};
services = {
  web = {
    listen   = ":80";
    backends = ( "10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.11:8081", "10.0.0.12:8081" );
  };
};
"""

# what replaces what in the file above; the line of the message; what it must name
BAD = [
    ("gateway = ", "gatway = ", 4, "gatway"),
    ('":80"', "80", 8, "listen"),
    ('":80"', '":0"', 8, "listen"),
    ('":80"', '"192.0.2.11:80"', 8, "192.0.2.11/32"),
    ('"192.0.2.10/24"', '"192.0.2.300/24"', 3, "address"),
    ('"192.0.2.1"', '"192.0.2.255"', 4, "gateway"),
    ('"192.0.2.1"', '"2001:db8::1"', 4, "gateway"),
    ('"10.0.0.12:8081"', '"10.0.0.11:8080"', 9, "10.0.0.11:8080"),
    ('"10.0.0.12:8081"', '"192.0.2.10:8080"', 9, "192.0.2.10"),
    ('"10.0.0.12:8081"', '"[2001:db8::5]:8080"', 9, "IPv6"),
    ('"10.0.0.12:8081" )', '"10.0.0.12:8081", )', 9, ""),
    ('"10.0.0.12:8081"', '{ address = "10.0.0.12:8081"; weight = 4294967376; }', 9, "weight"),
    ("web = {", 'web = { scheduler = "fastest";', 7, "scheduler"),
    ("web = {", "web = { health = { interval_ms = 0; };", 7, "interval_ms"),
    ("services = {", "flows = 10;\nservices = {", 6, "flows"),
]


def weir(*arguments, **options):
    return subprocess.run([BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=20 * PATIENCE, **options)


def check(path, **options):
    return weir("-c", str(path), "--check", **options)


def test_good_file(tmp_path):
    path = tmp_path / "weir.conf"
    path.write_text(GOOD)
    done = check(path)
    assert done.returncode == 0, done.stderr


def test_reference_file():
    """The annotated reference parses."""
    done = check(os.path.join(ROOT, "conf/weir.conf"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("old, new, line, names", BAD, ids=[row[1][:30] for row in BAD])
def test_bad_file(tmp_path, old, new, line, names):
    """D8: one message with file, line and key; the exit code says so."""
    assert GOOD.count(old) == 1
    path = tmp_path / "weir.conf"
    path.write_text(GOOD.replace(old, new))
    done = check(path)
    assert done.returncode not in (0, None) and done.returncode > 0
    lines = (done.stderr + done.stdout).strip().split("\n")
    assert len(lines) == 1, lines
    assert re.search(rf"{re.escape(str(path))}:{line}: ", lines[0]), lines[0]
    assert names in lines[0]


@pytest.mark.parametrize("kind", ("missing", "directory", "fifo", "huge", "nul", "half"))
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "weir.conf"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(1 << 30)
    elif kind == "nul":
        path.write_bytes(GOOD.encode() + b"\0\0\0")
    elif kind == "half":
        path.write_text(GOOD[:len(GOOD) // 2])
    done = check(path)
    assert done.returncode > 0 and str(path) in done.stderr


def test_a_file_that_others_may_write(tmp_path):
    """E31: it is taken, and said, with what to do."""
    path = tmp_path / "weir.conf"
    path.write_text(GOOD)
    path.chmod(0o666)
    done = check(path)
    assert done.returncode == 0 and f"chmod go-w {path}" in done.stderr
    path.chmod(0o644)
    assert check(path).stderr == ""


def test_check_as_another_user(tmp_path):
    """Offline, so without any right."""
    path = tmp_path / "weir.conf"
    path.write_text(GOOD)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if str(folder) not in ("/", "/tmp"):
            os.chmod(folder, 0o755)
    if not os.access(os.path.dirname(BINARY), os.X_OK):
        pytest.skip("the build is not readable for others")
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
                           BINARY, "-c", str(path), "--check"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=20 * PATIENCE)
    assert done.returncode == 0, done.stderr


def test_help():
    done = weir("--help")
    assert done.returncode == 0
    for option in ("-c", "--check", "--version", "--help"):
        assert option in done.stdout


def test_version():
    done = weir("--version")
    assert done.returncode == 0 and re.search(r"\d+\.\d+", done.stdout)


def test_unknown_option():
    done = weir("--wrong")
    assert done.returncode > 0 and done.stderr
