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


@pytest.mark.parametrize("question", (
    "/weir/services,x", "/weir/services,4294967296", "/weir/services,18446744073709551616",
    "/weir/services,1x", "/weir/services,-1", "/weir/backends,nobody", "/weir/backends,web,x",
    "/weir/backends,web,4294967296", "/weir/snat,nobody,0", "/weir/snat," + "x" * 100,
    "/weir/drops,99", "/weir/drops,4294967296", "/weir/workers,0", "/weir/info,x",
    "/weir/flows,1"))
def test_e28_a_wrong_parameter(weir, question):
    """E28: an error that says what is right, not null, and not what another number would give."""
    answer = weir.telemetry.query(question)
    assert list(answer) == ["error"] and "arameter" in answer["error"], answer


def test_e28_a_right_parameter(weir):
    """E28: what was right is so."""
    assert weir.telemetry.query("/weir/services,0")[0]["name"] == "web"
    assert len(weir.telemetry.query("/weir/backends,web,1")) == 3
    assert weir.telemetry.query("/weir/backends,4294967295") == []
    assert weir.telemetry.query("/weir/drops,0")["received"] >= 0


def test_e29_log_lines_have_a_date(weir):
    """E29: each of those that weir writes by hand."""
    lines = [line for line in weir.log().split("\n") if " info app: " in line]
    assert lines
    for line in lines:
        assert re.match(r"20\d\d-[01]\d-[0-3]\d [0-2]\d:[0-5]\d:[0-6]\d\.\d{3} info app: ", line)


def test_e30_the_manual_says_what_probes_do_to_servers_that_speak_first():
    """E30: README names MySQL's limit, and the keys that help."""
    with open(f"{weir_module.ROOT}/README.md") as file:
        text = " ".join(file.read().split())
    place = text.index("MySQL's log")
    for word in ("max_connect_errors", "interval_ms", "health.port", 'type = "none"'):
        assert word in text[place:place + 700]
