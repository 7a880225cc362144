# SPDX-License-Identifier: BSD-3-Clause
"""What was set by hand holds over the death of the process (E14), until a reload takes it back."""

import pytest

import traffic
import weir as weir_module
from test_dns import lives_again
from test_reload import TIMEOUTS, backends_of, reload, usual

ALL = ("con1", "con2", "con3", "con4")


def by_hand(weir):
    return {name: (one["state"], one["weight"], one["temporary"])
            for name, one in weir.backends().items()}


@pytest.mark.parametrize("life", [
    "killed", "upgraded", pytest.param("stopped", marks=pytest.mark.ci)])
def test_e14_it_holds_until_a_reload(lab, start_weir, life):
    """The process dies at once after the answer."""
    config = usual(lab, services={"web": {"backends": backends_of(
        lab, *ALL, con3={"state": "disabled"}, con4={"weight": 3})}})
    weir = start_weir(**config, wait_up=False)
    weir.wait_in_use(["con1", "con2", "con4"])
    weir.command("activate", service="web", backend="con3")
    weir.command("weight", service="web", backend="con1", weight=0)
    weir.command("drain", service="web", backend="con4")
    weir.command("weight", service="web", backend="con4", weight=5)
    weir.command("drain", service="web", backend="con2")
    expected = {"con1": ("active", 0, "weight"), "con2": ("drain", 1, "state"),
                "con3": ("active", 1, "state"), "con4": ("drain", 5, "state, weight")}
    assert by_hand(weir) == expected
    lives_again(weir, life)
    assert by_hand(weir) == expected
    weir.wait_in_use(["con3"])
    assert set(traffic.bodies(traffic.requests(lab.client, 40))) == {"con3"}

    before = len(weir.log())
    assert reload(weir) == ""
    said = weir.log()[before:]
    for words in ("con1: weight 0 -> 1", "con2: drain -> active", "con3: active -> disabled",
                  "con4: drain -> active, weight 5 -> 3"):
        assert f"reload: service web: {words} (as in the file)" in said
    lives_again(weir, life)                     # nor does it come back
    weir.wait_in_use(["con1", "con2", "con4"])
    assert by_hand(weir) == {"con1": ("active", 1, ""), "con2": ("active", 1, ""),
                             "con3": ("disabled", 1, ""), "con4": ("active", 3, "")}


@pytest.mark.ci
def test_e14_what_the_file_says_meanwhile_is_no_mark(lab, start_weir):
    """The file was edited to what had been set by hand; another backend left it."""
    weir = start_weir(timeouts=TIMEOUTS)
    weir.command("drain", service="web", backend="con2")
    weir.command("drain", service="web", backend="con4")
    weir.kill()
    config = usual(lab, services={"web": {"backends": backends_of(
        lab, *ALL[:3], con2={"state": "drain"})}})
    with open(weir.path, "w") as file:
        file.write(weir_module.dump(config))
    weir.start(wait_up=False)
    weir.wait_in_use(["con1", "con3"])
    assert by_hand(weir)["con2"] == ("drain", 1, "")
    assert "reload: nothing changed" not in weir.log()
    assert reload(weir) == "" and "reload: nothing changed" in weir.log()
