# SPDX-License-Identifier: BSD-3-Clause
"""The packages that README has one install are those that the scripts install."""

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_packages():
    with open(f"{ROOT}/scripts/lib.sh") as file:
        wanted = re.search(r'^BUILD_PACKAGES="([^"]*)"', file.read(), re.M).group(1).split()
    with open(f"{ROOT}/README.md") as file:
        text = re.search(r"apt-get install ((?:[^\n]*\\\n)*[^\n]*)", file.read()).group(1)
    assert set(wanted) | {"dpdk", "dpdk-dev"} == set(text.replace("\\", "").split()[1:])
