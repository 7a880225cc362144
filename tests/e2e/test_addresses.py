# SPDX-License-Identifier: BSD-3-Clause
"""What weir0 has in the kernel: a gateway beyond the port's prefix (E22)."""

import pytest

import traffic
import weir as weir_module
from lab import GATEWAYS, Lab
from netns import run

FAR, FAR6 = "198.51.100.10", "2001:db8:f::10"
GATEWAY6 = "2001:db8::1"
ALL = ("con1", "con2", "con3", "con4")


def restart(weir):
    weir.kill()
    weir.start(wait_up=False)


def stop_and_start(weir):
    assert weir.stop(keep=True) == 0
    weir.start(wait_up=False)


LIVES = {"killed": restart, "stopped": stop_and_start, "upgraded": lambda weir: weir.upgrade()}


def backends6_of(lab, *names):
    return [{"address": lab.backend(name).endpoint6, "name": name} for name in names]


# E22

def far_config(lab, driver):
    """A port whose addresses are all that it has, and a router that is no neighbour of theirs."""
    base = weir_module.config(lab, driver, port={"address": (f"{FAR}/32", f"{FAR6}/128"),
                                                 "gateway": (GATEWAYS[0], GATEWAY6)})
    web = base["services"]["web"]
    base["services"] = {"web": {**web, "listen": f"{FAR}:80"},
                        "web6": {**web, "listen": f"[{FAR6}]:80",
                                 "backends": backends6_of(lab, *ALL)}}
    return base


@pytest.mark.parametrize("driver", ["af_xdp", pytest.param("af_packet", marks=pytest.mark.ci),
                                    pytest.param("tap", marks=pytest.mark.ci)])
def test_e22_a_gateway_outside_of_the_prefix(start_weir, driver):
    """As hosters give them out: an address alone, and a router elsewhere. Both families; after an
    upgrade and a kill as well."""
    with Lab(routed=True) as lab:
        for namespace in (lab.client, *lab.routers):
            namespace.ip(f"route add {FAR}/32 dev eth0", f"route add {FAR6}/128 dev eth0")
        weir = start_weir(in_lab=lab, text=far_config(lab, driver), driver=driver)
        checked = run(weir_module.BINARY, "--check", "-c", weir.path)
        assert "right" in checked.stdout
        for gateway in (GATEWAYS[0], GATEWAY6):
            assert f"port.gateway {gateway} lies in no prefix" in checked.stderr
        for life in (lambda weir: None, LIVES["upgraded"], LIVES["killed"]):
            life(weir)
            weir.wait_all_up()
            for address, service in ((FAR, "web"), (FAR6, "web6")):
                results = traffic.requests(lab.client, 20, address=address)
                assert traffic.errors(results) == []
                assert set(traffic.bodies(results)) == set(ALL)
                assert {backend["neighbour"] for backend in weir.backends(service).values()} \
                    == {"resolved"}
        assert weir.stop() == 0
