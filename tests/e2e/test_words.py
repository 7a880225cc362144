# SPDX-License-Identifier: BSD-3-Clause
"""What weir and weirctl say to who asks in another way than they expect."""

import re
import subprocess

import pytest

import weir as weir_module

CONTROL = f"{weir_module.ROOT}/scripts/weirctl"


def weirctl(*words):
    return subprocess.run([CONTROL, *words], capture_output=True, text=True)


def test_e23_a_backend_with_a_name_by_its_address(weir, lab):
    """E23: by the one as by the other; a name counts first where it is another one's address."""
    con1, con2 = lab.backend("con1").endpoint, lab.backend("con2").endpoint
    assert weir.command("drain", service="web", backend=con1) == [
        "service web: con1: active -> drain (until the next reload)"]
    weir.wait_in_use(["con2", "con3", "con4"])
    assert weir.command("weight", service="web", backend=con2, weight=3) == [
        "service web: con2: weight 1 -> 3 (until the next reload)"]
    with pytest.raises(weir_module.WeirFailed, match="the service has no backend"):
        weir.command("drain", service="web", backend="192.0.2.99:8080")
    weir.command("reload")
    weir.wait_in_use(["con1", "con2", "con3", "con4"])


def test_e24_weirctl_without_a_weir(weir):
    """E24: it says that none runs there, and how those that run are reached."""
    done = weirctl("-i", "nobody", "reload")
    assert done.returncode == 2 and "Errno" not in done.stderr
    assert "no weir runs at /run/weir/nobody/control.sock" in done.stderr
    assert f"weirctl -i {weir.instance}" in done.stderr
