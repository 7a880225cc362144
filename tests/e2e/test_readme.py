# SPDX-License-Identifier: BSD-3-Clause
"""README's telemetry reference names every field that weir answers with, and no other; the packages
that it has one install are those that the scripts install."""

import os
import re

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ANYWHERE = {"total", "next"}


def section(title):
    with open(f"{ROOT}/README.md") as file:
        text = file.read()
    return re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", text, re.M | re.S).group(1)


def documented(title):
    """The names in the first column of the section's table."""
    rows = re.findall(r"^\| ([^|]*) \|", section(title), re.M)
    return {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)}


@pytest.mark.parametrize("command", ["/weir/info", "/weir/services", "/weir/backends",
                                     "/weir/workers", "/weir/drops", "/weir/flows"])
def test_telemetry_reference(weir, command):
    answer = weir.telemetry.query(command)
    fields = set(answer[0] if isinstance(answer, list) else answer)
    named = documented(command)
    if command == "/weir/drops":
        named |= documented("Drop reasons")
    assert fields - named == set(), "not in README"
    assert named - fields - ANYWHERE == set(), "in README only"


def test_every_command_is_there(weir):
    commands = {one for one in weir.telemetry.query("/") if one.startswith("/weir/")}
    with open(f"{ROOT}/README.md") as file:
        assert commands == set(re.findall(r"^### (/weir/\w+)$", file.read(), re.M))


def test_packages():
    with open(f"{ROOT}/scripts/lib.sh") as file:
        wanted = re.search(r'^BUILD_PACKAGES="([^"]*)"', file.read(), re.M).group(1).split()
    with open(f"{ROOT}/README.md") as file:
        text = re.search(r"apt-get install ((?:[^\n]*\\\n)*[^\n]*)", file.read()).group(1)
    assert set(wanted) | {"dpdk", "dpdk-dev"} == set(text.replace("\\", "").split()[1:])
