# SPDX-License-Identifier: BSD-3-Clause
"""Make before break (E11): when all backends of a service are exchanged, by DNS or by a reload, the
old ones serve until a new one has a verdict."""

import contextlib
import http.server
import threading
import time

import pytest

import traffic
from test_dns import dns, followed      # noqa: F401
from test_reload import reload, usual

PORT = 8090
PROBE_S = 0.2
# The first probe counts, however long a busy machine takes for it.
HEALTH = {"type": "http", "path": "/health", "interval_ms": 10000, "timeout_ms": 9000}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers at once, but for the probes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            time.sleep(PROBE_S)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, *_):
        pass                            # a probe that was given up


@contextlib.contextmanager
def addresses(lab, count):
    """Further addresses of con1's host, on each of which a server listens."""
    made = [f"192.0.2.{130 + number}" for number in range(count)]
    host = lab.hosts[0]
    host.ip(*(f"address add {one}/24 dev eth0" for one in made))
    with host.entered():
        server = Server(("0.0.0.0", PORT), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        host.ip(*(f"address delete {one}/24 dev eth0" for one in made))


def flips(lab, weir, made, flip, name=""):
    """Exchange one address for the next one under a stream of new connections: none is refused."""
    with traffic.Stream(lab.client, threads=4, rate=200) as stream:
        for address in made[1:]:
            stream.more(5)
            flip(address)
            weir.wait(lambda: weir.backends().get(name + address, {}).get("in_use"),
                      what=f"{address} in use")
    assert len(stream.results) > 20 and traffic.errors(stream.results) == []
    assert "leaving" not in {one["state"] for one in weir.backends().values()}


FEW = [4, pytest.param(20, marks=pytest.mark.ci)]


@pytest.mark.parametrize("count", FEW)
def test_e11_a_name_flips(lab, dns, start_weir, count):         # noqa: F811
    with addresses(lab, count + 1) as made:
        dns.addresses = made[:1]
        weir = followed(start_weir, port=PORT, health=HEALTH)
        weir.wait_in_use([f"app/{made[0]}"])
        flips(lab, weir, made, lambda address: setattr(dns, "addresses", [address]), "app/")


def listing(lab, address, **changes):
    return usual(lab, services={"web": {"health": HEALTH, **changes, "backends": [
        {"address": f"{address}:{PORT}", "name": address}]}})


@pytest.mark.parametrize("count", FEW)
def test_e11_a_reload_exchanges_all(lab, start_weir, count):
    with addresses(lab, count + 1) as made:
        weir = start_weir(**listing(lab, made[0]))

        def flip(address):
            assert reload(weir, listing(lab, address)) == ""

        flips(lab, weir, made, flip)


@pytest.mark.ci
@pytest.mark.parametrize("life", ["killed", "upgraded"])
def test_e11_after_a_restart_with_two_workers(lab, start_weir, life):
    with addresses(lab, 4) as made:
        weir = start_weir(workers=2, **{key: value for key, value in listing(lab, made[0]).items()
                                        if key in ("services", "timeouts")})
        cores = weir.config["cores"]
        if life == "killed":
            weir.kill()
            weir.start()
        else:
            weir.upgrade()

        def flip(address):
            assert reload(weir, {**listing(lab, address), "cores": cores}) == ""

        flips(lab, weir, made, flip)


@pytest.mark.ci
def test_e11_a_new_one_that_fails_its_probe(lab, start_weir):
    """What the file says holds once it is known, be it a service without a backend."""
    with addresses(lab, 1) as made:
        weir = start_weir(**listing(lab, made[0]))
        assert reload(weir, listing(lab, "192.0.2.140")) == ""
        weir.wait_health("192.0.2.140", "down")
        weir.wait_in_use([])
        assert set(traffic.errors(traffic.requests(lab.client, 5))) != set()
        assert reload(weir, listing(lab, made[0])) == ""
        weir.wait_in_use(made)
