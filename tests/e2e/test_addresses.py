# SPDX-License-Identifier: BSD-3-Clause
"""What weir0 has in the kernel, across changes of the file and of health: a gateway beyond the
port's prefix (E22), addresses that are withdrawn (E37), what a former file had set (E38)."""

import contextlib
import time

import pytest

import traffic
import weir as weir_module
from lab import GATEWAYS, VIP, VIP6, Lab
from netns import PATIENCE, Namespace, run
from test_on_down import VIP2
from test_reload import TIMEOUTS, backends_of, reload, write

VIP2_6 = "2001:db8::12"
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


# E37

class Monitor:
    """Address events of a namespace, in order."""

    def __init__(self, namespace, path):
        self.namespace, self.path = namespace, path
        self.marks = 0
        with open(path, "w") as file:
            self.process = namespace.popen("ip", "-o", "monitor", "address", stdout=file)
        deadline = time.monotonic() + 10 * PATIENCE
        while not self._mark():         # until it listens
            assert time.monotonic() < deadline

    def _mark(self):
        """Whether an event of its own is seen."""
        self.marks += 1
        address = f"127.9.{self.marks // 250}.{self.marks % 250}/32"
        self.namespace.ip(f"address add {address} dev lo")
        deadline = time.monotonic() + 0.2 * PATIENCE
        while time.monotonic() < deadline:
            with open(self.path) as file:
                if address.split("/")[0] in file.read():
                    return True
            time.sleep(0.005)
        return False

    def events(self):
        """Those of weir0 so far."""
        deadline = time.monotonic() + 10 * PATIENCE
        while not self._mark():
            assert time.monotonic() < deadline
        with open(self.path) as file:
            return [line.strip() for line in file if " weir0 " in line]

    def of(self, address):
        """+ and - for each event of the address."""
        return "".join("-" if line.startswith("Deleted") else "+" for line in self.events()
                       if f" {address}/" in line)


@contextlib.contextmanager
def monitor(weir):
    made = Monitor(weir.netns, f"{weir.lab.directory}/monitor")
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def withdrawing(lab, **services):
    """The lab's file with services that withdraw an address of their own; by name: where it listens
    and its backends."""
    base = weir_module.config(lab, timeouts=TIMEOUTS, port={
        "address": (f"{VIP}/24", f"{VIP2}/32", f"{VIP6}/64", f"{VIP2_6}/128")})
    web = base["services"]["web"]
    base["services"] = {name: {**web, "on_all_down": "withdraw", "listen": listen,
                               "backends": backends}
                        for name, (listen, backends) in services.items()}
    return base


def both_families(lab):
    return withdrawing(lab, own=(f"{VIP2}:80", backends_of(lab, "con1", "con2")),
                       own6=(f"[{VIP2_6}]:80", backends6_of(lab, "con1", "con2")))


def set_healthy(lab, weir, names, healthy, *services):
    for name in names:
        lab.backend(name).set_healthy(healthy)
    for service in services:
        for name in names:
            weir.wait_health(name, "up" if healthy else "down", service=service)


def has(weir, address):
    return f" {address}/" in weir.netns.run("ip", "-o", "address", "show", "dev", "weir0").stdout


def test_e37_a_service_that_is_served_keeps_the_address(lab, start_weir):
    """It goes when no service on it has a backend, and comes back with the first that has."""
    weir = start_weir(text=withdrawing(lab, own=(f"{VIP2}:80", backends_of(lab, "con1")),
                                       other=(f"{VIP2}:81", backends_of(lab, "con3"))))
    with monitor(weir) as seen:
        set_healthy(lab, weir, ["con1"], False, "own")
        with lab.client.entered():
            assert traffic.get(address=VIP2, port=81) == "con3"
            with pytest.raises(OSError):
                traffic.get(address=VIP2)
        assert has(weir, VIP2) and seen.of(VIP2) == ""
        set_healthy(lab, weir, ["con3"], False, "other")
        weir.wait(lambda: not has(weir, VIP2), what="the address withdrawn")
        set_healthy(lab, weir, ["con1"], True, "own")
        weir.wait(lambda: has(weir, VIP2), what="the address back")
        assert seen.of(VIP2) == "-+"
        with lab.client.entered():
            assert traffic.get(address=VIP2) == "con1"


@pytest.mark.ci
@pytest.mark.parametrize("healthy", [False, True], ids=["down", "up"])
def test_e37_no_event_across_restarts(lab, start_weir, healthy):
    """Neither an upgrade nor a start has the address back before a backend passes, and none takes
    it away: a routing daemon sees nothing."""
    services, addresses = ("own", "own6"), (VIP2, VIP2_6)
    weir = start_weir(text=both_families(lab))
    set_healthy(lab, weir, ["con1", "con2"], healthy, *services)
    weir.wait(lambda: all(has(weir, address) == healthy for address in addresses),
              what="the addresses")
    with monitor(weir) as seen:
        for life in LIVES.values():
            life(weir)
            for service in services:
                for name in ("con1", "con2"):
                    weir.wait_health(name, "up" if healthy else "down", service=service)
            time.sleep(0.6)             # a probe, and a look at weir0, at least
            assert [seen.of(address) for address in addresses] == ["", ""], seen.events()
        set_healthy(lab, weir, ["con2"], not healthy, *services)
        if healthy:
            set_healthy(lab, weir, ["con1"], False, *services)
        weir.wait(lambda: all(has(weir, address) != healthy for address in addresses),
                  what="the other way")
        assert [seen.of(address) for address in addresses] == ["-" if healthy else "+"] * 2


def test_e37_a_first_start_while_down(lab):
    """A namespace of somebody else's, who listens there before weir does."""
    for name in ALL:
        lab.backend(name).set_healthy(False)
    weir = weir_module.Weir(lab, both_families(lab))
    weir.netns.create()
    try:
        with monitor(weir) as seen:
            weir.start(wait_up=False)
            for service in ("own", "own6"):
                for name in ("con1", "con2"):
                    weir.wait_health(name, "down", service=service)
            assert seen.of(VIP) == seen.of(VIP6) == "+"
            assert seen.of(VIP2) == seen.of(VIP2_6) == ""
            set_healthy(lab, weir, ["con1"], True, "own", "own6")
            weir.wait(lambda: has(weir, VIP2) and has(weir, VIP2_6), what="both addresses")
            assert seen.of(VIP2) == seen.of(VIP2_6) == "+"
        assert weir.stop() == 0
    finally:
        weir.kill()
        weir.netns.delete()


def test_e37_another_file_says_what_is_withdrawn(lab, start_weir):
    """A service that withdraws comes and goes by a reload; a file that would withdraw an address of
    another service is refused."""
    weir = start_weir(text=withdrawing(lab, own=(f"{VIP2}:80", backends_of(lab, "con1"))))
    set_healthy(lab, weir, ["con1"], False, "own")
    weir.wait(lambda: not has(weir, VIP2), what="the address withdrawn")
    mixed = withdrawing(lab, own=(f"{VIP2}:80", backends_of(lab, "con1")),
                        other=(f"{VIP2}:81", backends_of(lab, "con3")))
    mixed["services"]["other"]["on_all_down"] = "reset"
    error = reload(weir, mixed)
    assert "services.own.on_all_down: would withdraw" in error and "where service other" in error
    mixed["services"]["other"]["on_all_down"] = "withdraw"
    assert reload(weir, mixed) == ""
    weir.wait(lambda: has(weir, VIP2), what="the address back for the other")
    mixed["services"].pop("other")
    assert reload(weir, mixed) == ""
    weir.wait(lambda: not has(weir, VIP2), what="the address withdrawn")
    mixed["services"]["own"]["on_all_down"] = "reset"
    assert reload(weir, mixed) == ""
    weir.wait(lambda: has(weir, VIP2), what="the address back for good")


# E38

def default_routes(weir):
    """Those of both families: (gateway, protocol)."""
    shown = "".join(weir.netns.run("ip", family, "route", "show", "default").stdout
                    for family in ("-4", "-6"))
    return sorted((words[2], words[words.index("proto") + 1] if "proto" in words else "boot")
                  for words in map(str.split, shown.splitlines()))


@pytest.mark.parametrize("life", ["killed", pytest.param("stopped", marks=pytest.mark.ci),
                                  pytest.param("upgraded", marks=pytest.mark.ci)])
def test_e38_a_gateway_that_left_the_file(lab, start_weir, life):
    """Its route goes with the next process, each family's on its own; another one takes its place.
    Routes that are others' stay."""
    def config(*gateways):
        return weir_module.config(lab, timeouts=TIMEOUTS, port={
            "address": (f"{VIP}/24", f"{VIP6}/64"), **({"gateway": gateways} if gateways else {})})

    weir = start_weir(text=config("192.0.2.1", GATEWAY6))
    assert default_routes(weir) == [("192.0.2.1", "static"), (GATEWAY6, "static")]
    others = [("192.0.2.7", "boot"), ("192.0.2.8", "bird")]
    weir.netns.ip("route add default via 192.0.2.7 metric 50",
                  "route add default via 192.0.2.8 metric 60 proto bird")
    for gateways in (("192.0.2.2",), ("192.0.2.1", "2001:db8::2"), ()):
        write(weir, config(*gateways))
        LIVES[life](weir)
        weir.wait_all_up()
        assert default_routes(weir) == sorted([*others, *((one, "static") for one in gateways)])


def test_e38_a_port_and_a_namespace_that_left_the_file(lab):
    """Another device and another namespace: the former ones are as they were before weir; so are
    the others with --forget, whatever the file says by then."""
    netns = Namespace(f"weir-{lab.name}second")

    def state():
        return (lab.lb.run("nft", "list", "tables").stdout,
                lab.lb.run("sysctl", "net.ipv6.conf.port.disable_ipv6").stdout)

    lab.lb.ip("link add port2 type veth peer name lbport2 netns " + lab.switch.name)
    lab.lb.ip("link set port2 up")
    lab.switch.ip("link set lbport2 up")
    weir = weir_module.Weir(lab, weir_module.config(lab, timeouts=TIMEOUTS))
    before = state()
    other = weir_module.config(lab, timeouts=TIMEOUTS, port={
        "device": "port2", "driver": "af_packet", "netns": netns.name, "address": "192.0.2.60/24"})
    try:
        weir.start()
        assert "weir_port" in state()[0]
        assert weir.stop(keep=True) == 0
        assert "weir_port" in state()[0]
        write(weir, other)
        weir.start(wait_up=False)
        assert not weir.netns.exists() and netns.exists()
        assert "weir_port2" in state()[0]
        assert state()[0].replace("table netdev weir_port2\n", "") == before[0]
        assert state()[1] == before[1]
        assert weir.stop(keep=True) == 0
        write(weir, weir.config)
        weir.forget()
        assert state() == before and not netns.exists()
    finally:
        weir.kill()
        netns.delete()
        lab.lb.ip("link delete port2")


def neighbours(weir):
    """Addresses that the kernel keeps resolved for weir."""
    shown = weir.netns.run("ip", "neighbour", "show", "dev", "weir0").stdout
    return {line.split()[0] for line in shown.splitlines() if "managed" in line}


@pytest.mark.parametrize("life", ["killed", pytest.param("upgraded", marks=pytest.mark.ci)])
def test_e38_neighbours_of_a_former_file(lab, start_weir, life):
    """Of a backend and a gateway that left it: the kernel asks for them no more."""
    def config(*names, **port):
        return weir_module.config(lab, timeouts=TIMEOUTS, port=port, services={
            "web": {"backends": backends_of(lab, *names)}})

    weir = start_weir(text=config("con1", "con3", gateway="192.0.2.2"))
    weir.wait(lambda: neighbours(weir) == {"192.0.2.21", "192.0.2.22", "192.0.2.2"},
              what="all neighbours")
    write(weir, config("con1"))
    LIVES[life](weir)
    weir.wait(lambda: neighbours(weir) == {"192.0.2.21"}, what="no others")
