# SPDX-License-Identifier: BSD-3-Clause
"""The checks of scripts/test that read the sources alone find what they are for. No lab is
needed."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from weir import ROOT


@pytest.fixture
def tree(tmp_path):
    """A copy of the sources, to plant faults in."""
    for folder in ("lib", "app", "scripts", "tests"):
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def findings(check, root):
    done = subprocess.run([sys.executable, f"{ROOT}/scripts/{check}", root], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode in (0, 1), done.stdout
    return done.stdout.splitlines() if done.returncode else []


def include(tree, path, header):
    with open(tree / path, "a") as file:
        file.write(f'#include "{header}"\n')


def replace(tree, path, pattern, text):
    before = (tree / path).read_text()
    after = re.sub(pattern, text, before, flags=re.MULTILINE)
    assert after != before
    (tree / path).write_text(after)


def test_sources_include_as_declared(tree):
    assert findings("check-includes.py", tree) == []


def test_undeclared_include(tree):
    include(tree, "lib/health/health.c", "scheduler.h")
    assert findings("check-includes.py", tree) == ["undeclared: health includes of sched"]


def test_upward_include(tree):
    include(tree, "lib/net/addr.c", "snat.h")
    assert findings("check-includes.py", tree) == [
        "undeclared: net includes of flow",
        "upward: lib/net/addr.c includes lib/flow/include/snat.h"]


def test_unused_module(tree):
    replace(tree, "lib/stats/meson.build", r"\Z", "uses = ['base']\n")
    assert findings("check-includes.py", tree) == ["table: stats uses base",
                                                   "unused: stats declares base"]


def test_table_of_levels_that_is_not_true(tree):
    replace(tree, "lib/README.md", r"^(\| 2 \| conf \|.*\| )net \|$", r"\1base, net |")
    assert findings("check-includes.py", tree) == ["table: conf uses net"]


def test_public_header_of_a_module_alone(tree):
    (tree / "lib/net/ip6.h").rename(tree / "lib/net/include/ip6.h")
    assert findings("check-includes.py", tree) == ["needless: lib/net/include/ip6.h"]


def test_new_circle(tree):
    include(tree, "lib/stats/include/stats.h", "stats_connect.h")
    include(tree, "lib/stats/stats_connect.c", "stats.h")
    assert findings("check-includes.py", tree) == ["circle: stats: connect stats"]


def test_known_circle_that_is_gone(tree):
    replace(tree, "lib/route/neighbour.h", r'^#include "route.h"$', "")
    assert findings("check-includes.py", tree) == ["gone: route: neighbour route"]


def test_named_cases_are_in_the_catalogue(tree):
    assert findings("check-cases.py", tree) == []


@pytest.mark.parametrize("path, text", [
    ("lib/net/addr.c", "/* Case {}. */"), ("tests/e2e/lab.py", '"""Case {}."""'),
    ("tests/unit/rig.c", "// {}: and more")])
def test_case_that_is_not_in_the_catalogue(tree, path, text):
    case = f"A{99}"
    with open(tree / path, "a") as file:
        file.write(text.format(case) + "\n")
    assert findings("check-cases.py", tree) == [f"{path}: {case} is not in tests/README.md"]


def test_code_that_looks_like_a_case(tree):
    with open(tree / "lib/net/addr.c", "a") as file:
        file.write(f"int A{99};\n")
    assert findings("check-cases.py", tree) == []


def test_catalogue_that_lists_a_file_without_the_case(tree):
    replace(tree, "tests/README.md", r"^(\| A11 \|.*\| )e2e/", r"\1e2e/lab.py, e2e/")
    assert findings("check-cases.py",
                    tree) == [f"tests/README.md: tests/e2e/lab.py doesn't name A{11}"]
