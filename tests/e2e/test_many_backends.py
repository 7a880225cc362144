# SPDX-License-Identifier: BSD-3-Clause
"""A thousand backends, read page by page."""

import traffic


def test_thousand_backends(lab, start_weir):
    """All are read by name; the four that exist serve."""
    servers = {backend.endpoint: backend.name for backend in lab.backends}
    listed = [{"address": endpoint, "name": name} for endpoint, name in servers.items()]
    listed += [{"address": f"{lab.host_address(number % 2)}:{10000 + number}",
                "name": f"backend_with_a_long_name_number_{number}"} for number in range(996)]
    weir = start_weir(wait_up=False, services={"web": {
        "health": {"type": "tcp", "path": None}, "backends": listed}})
    backends = weir.backends()
    assert set(backends) == {backend["name"] for backend in listed}
    assert all(backends[backend["name"]]["address"] == backend["address"] for backend in listed)
    for name in servers.values():
        weir.wait_health(name, "up")
    weir.wait(lambda: weir.services()[0]["backends_up"] == 4, 20, "996 dead backends found down")
    assert weir.info()["backends"] == 1000
    results = traffic.requests(lab.client, 200)
    assert traffic.errors(results) == []
    assert set(traffic.bodies(results)) == set(servers.values())


def test_two_hundred_services(lab, start_weir):
    services = {f"service{number}": {"listen": f":{2000 + number}",
                                     "health": {"type": "tcp"},
                                     "backends": [backend.endpoint for backend in lab.backends]}
                for number in range(200)}
    weir = start_weir(services=services)
    found = weir.services()
    assert {service["name"] for service in found} == {"web", *services}
    assert weir.info()["services"] == 201
    everything = weir.telemetry.pages("/weir/backends")
    assert len(everything) == 4 * 201
    for port in (2000, 2199):
        # Telemetry tells of a change when it is found; the workers know it when the tables of all
        # services that it concerns are built.
        weir.wait(lambda: not traffic.errors(traffic.requests(lab.client, 8, port=port)), 5,
                  f"port {port} to be served")
        assert len(traffic.bodies(traffic.requests(lab.client, 40, port=port))) == 4
    assert next(service["listen"] for service in found if service["name"] == "service7") == ":2007"
