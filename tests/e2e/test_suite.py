# SPDX-License-Identifier: BSD-3-Clause
"""scripts/test itself: a run that meets its time limit says so, names the test that ran, and leaves
nothing behind."""

import glob
import json
import os
import shutil
import subprocess
import sys

import pytest

import lab as lab_module
import netns
from netns import PATIENCE
from weir import ROOT

HANG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hang.py")


def processes_of(text):
    """Command lines of the processes that have the text in theirs."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path) as file:
                line = file.read().replace("\0", " ")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_hangs", "test_is_deaf"])
def test_hanging_end_to_end_test(name, tmp_path):
    hang_file = tmp_path / "lab"
    done = subprocess.run(
        [f"{ROOT}/scripts/test", "--e2e", "-k", f"{name} and hang.py"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "WEIR_TEST_SECONDS": str(int(20 * PATIENCE)), "PYTEST_ADDOPTS": HANG,
             "WEIR_TEST_PATIENCE": str(PATIENCE), "HANG_FILE": str(hang_file)})
    lab = hang_file.read_text()         # so it hung, after weir's start
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stdout
    assert lines[-1] == "0 passed, 1 failed", done.stdout
    assert any(line.startswith("FAILED e2e: ") and line.endswith(f"hang.py::{name}")
               for line in lines), done.stdout
    assert "The time limit of the run is met" in done.stdout, done.stdout
    assert processes_of(f"{lab_module.STATE}/{lab}") == []
    assert [space for space in netns.names() if space.startswith(f"weir-{lab}")] == []
    assert not os.path.exists(f"{lab_module.STATE}/{lab}")


def bounded(seconds, *command):
    return subprocess.run([sys.executable, f"{ROOT}/scripts/bounded.py", str(seconds), *command],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def count(folder):
    """The lines of count-tests.py, and its exit code."""
    done = subprocess.run([sys.executable, f"{ROOT}/scripts/count-tests.py", str(folder)],
                          stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines(), done.returncode


@pytest.mark.ci
def test_hanging_unit_test(tmp_path):
    (tmp_path / "meson.build").write_text("""
project('hang')
test('passes', find_program('true'))
test('hangs', find_program('sleep'), args: '100000')
""")
    build = tmp_path / "build"
    netns.run("meson", "setup", build, tmp_path)
    done = bounded(int(10 * PATIENCE), "meson", "test", "-C", str(build), "--logbase", "unit")
    assert done.returncode == 124, done.stdout
    assert "The time limit of the run is met" in done.stdout
    os.rename(build / "meson-logs/unit.json", tmp_path / "unit.json")
    (tmp_path / "unit.status").write_text("124 5\n")
    lines, code = count(tmp_path)
    assert "FAILED unit: hangs (INTERRUPT)" in lines
    assert (lines[-1], code) == ("1 passed, 1 failed", 1)


def test_kind_without_results(tmp_path):
    """One that ended before it wrote any is a failure with a name."""
    (tmp_path / "unit.status").write_text("124 5\n")
    (tmp_path / "fuzz.status").write_text("0 5\n")
    lines, code = count(tmp_path)
    assert "FAILED unit: exit code 124" in lines
    assert (lines[-1], code) == ("1 passed, 1 failed", 1)


def test_nothing_outlives_a_command(tmp_path):
    """Whatever session or parent it has."""
    pid_file = tmp_path / "pid"
    done = bounded(int(60 * PATIENCE), "sh", "-c",
                   f"setsid sh -c 'echo $$ >{pid_file}; exec sleep 100000' & "
                   f"while [ ! -s {pid_file} ]; do sleep 0.05; done")
    assert (done.returncode, "Left running, now ended: sleep" in done.stdout) == (0, True)
    assert not os.path.exists(f"/proc/{int(pid_file.read_text())}")


@pytest.mark.parametrize("check, path, text", (
    ("format", "lib/one.c", "int  one;\n"),
    ("cppcheck", "lib/one.c", "int one(void)\n{\n\tint a[2];\n\treturn a[2];\n}\n"),
    ("shell", "scripts/one.sh", "#!/bin/sh\nrm $1\n"),
    ("python", "scripts/one.py", "import os\n"),
))
def test_lint_finds(tmp_path, check, path, text):
    """A slip fails its check; without it, the check passes."""
    for folder in ("lib", "app", "tests", ".ci", "scripts"):
        os.mkdir(tmp_path / folder)
    for name in ("scripts/lint", "scripts/lib.sh", ".clang-format", ".flake8", ".shellcheckrc"):
        shutil.copy(f"{ROOT}/{name}", tmp_path / name)
    (tmp_path / "lib/right.c").write_text("int right;\n")
    (tmp_path / "scripts/right.py").write_text("right = 1\n")

    def result():
        netns.run(tmp_path / "scripts/lint", "--results", tmp_path / "results", check, check=False)
        return json.loads((tmp_path / "results").read_text().splitlines()[-1])["result"]

    assert result() in ("OK", "SKIP")
    (tmp_path / path).write_text(text)
    assert result() in ("FAIL", "SKIP")
