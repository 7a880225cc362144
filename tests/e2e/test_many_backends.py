# SPDX-License-Identifier: BSD-3-Clause
"""A thousand backends, read page by page."""

import traffic
from test_reload import reload
from weir import config, merged


SERVICE_MAX = 65536                     # backends of a service
CROWD_PORTS = range(9000, 9016)


def crowd_endpoints(count):
    return [f"198.18.{index // 250}.{index % 250 + 1}:{port}"
            for index in range(-(-count // len(CROWD_PORTS))) for port in CROWD_PORTS][:count]


def crowd(lab, count, **health):
    """Beside the usual service so many endpoints behind host1, all probed alike. They have services
    of their own: whoever asks for the usual four isn't told of a hundred thousand."""
    health = {"type": "tcp", **health}
    listed = crowd_endpoints(count)
    services = {f"crowd{index}": {"listen": f":{1000 + index}", "health": health,
                                  "backends": listed[first:first + SERVICE_MAX]}
                for index, first in enumerate(range(0, count, SERVICE_MAX))}
    return {"port": {"gateway": lab.host_address(0)},
            "services": {"web": {"health": {"path": None, **health}}, **services}}


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


def test_e41_a_list_that_changes_between_two_pages_is_read_anew(lab, start_weir, monkeypatch):
    """Each page says which state of the list it is of."""
    weir = start_weir(wait_up=False, **crowd(lab, 96))
    smaller = merged(config(lab), crowd(lab, 56))
    asked, query = [], weir.telemetry.query

    def reload_meanwhile(command):
        answer = query(command)
        if command.startswith("/weir/backends"):
            asked.append((command, answer[0]["list"]))
            if len(asked) == 2:
                assert reload(weir, smaller) == ""
        return answer

    assert len(weir.backends("crowd0")) == 96
    before = query("/weir/backends,crowd0")[0]["list"]
    assert query("/weir/services")[0]["list"] == before
    with monkeypatch.context() as patch:
        patch.setattr(weir.telemetry, "query", reload_meanwhile)
        found = weir.telemetry.pages("/weir/backends,crowd0")
    names = [one["name"] for one in found]
    assert len(set(names)) == len(names) == found[0]["total"]
    assert {one["list"] for one in found} == {found[-1]["list"]}
    assert found[0]["list"] > before == asked[0][1]
    assert [command for command, _ in asked].count("/weir/backends,crowd0") >= 2
    # Those that left the file go from the list in their time, and that is a change, too.
    weir.wait(lambda: len(weir.backends("crowd0")) == 56, what="the removed ones gone")
    assert query("/weir/backends,crowd0")[0]["list"] >= found[0]["list"] + (len(found) > 56)
