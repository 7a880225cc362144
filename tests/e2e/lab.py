# SPDX-License-Identifier: BSD-3-Clause
"""The lab: a client, a switch, two hosts with two nginx each, and a balancer, all in network
namespaces of this machine. The end-to-end tests and scripts/demo use it.

    client 192.0.2.100 ──┐                        ┌── host1 192.0.2.21   con1 :8080  con2 :8081
                         ├── switch (a bridge) ───┤
    lb: veth "port" ─────┘                        └── host2 192.0.2.22   con3 :8080  con4 :8081
        (taken by weir, which answers for 192.0.2.10)

Lab(routed=True) puts the hosts at 10.0.0.11 and 10.0.0.12 behind a gateway 192.0.2.1 (and a second
one, 192.0.2.2). Lab(local=True) runs con3 and con4 on the balancer's own machine, on the address
192.0.2.30 of another interface of its.

Lab(narrow="hosts") puts the hosts behind two routers, at 192.0.2.1 and 10.0.0.1, with a link of MTU
1280 between them; Lab(narrow="client") puts the client there, at 10.0.0.100.

    switch ── router1 ══ 1280 bytes ══ router2 ── second switch ── hosts, or client

In the emulated machine of tests/nic the port is a network card: Lab(nic="0000:00:05.0") puts no
veth there, and plugs the kernel interface "uplink", which that card is wired to, into the switch.

Names: namespaces weir-NAME-client and so on, weir's own namespace weir-NAME, everything else in
/run/weir-lab/NAME. A lab whose owner died is removed by the next one.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import sys
import time

from netns import PATIENCE, Namespace, run

STATE = "/run/weir-lab"
VIP, VIP6 = "192.0.2.10", "2001:db8::10"
CLIENT, CLIENT6 = "192.0.2.100", "2001:db8::100"
LOCAL = "192.0.2.30"
GATEWAYS = ("192.0.2.1", "192.0.2.2")
PORT = "port"                           # weir's interface in the namespace lb
NARROW_MTU = 1280                       # the smallest of IPv6
UPLINK = "uplink"                       # leads to weir's PCI device, if it has one
PORT_MAC = "02:57:65:69:72:0a"
SERVERS = (("con1", 0, 8080), ("con2", 0, 8081), ("con3", 1, 8080), ("con4", 1, 8081))
TLS_OFFSET = 363                        # con1 and con3 speak TLS on 8443, con2 and con4 on 8444
BIG_BYTES = 200 * 1000 * 1000

NGINX_CONF = """
worker_processes 1;
user root;
pid {directory}/pid;
error_log {directory}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    default_type text/plain;
    server_tokens off;
    sendfile on;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {address}:{port} backlog=4096;
        {listen6}
        listen {address}:{tls_port} ssl;
        ssl_certificate {files}/certificate;
        ssl_certificate_key {files}/key;
        root {directory};
        location = / {{ return 200 "{name}\\n"; }}
        location = /ip {{ return 200 "$remote_addr:$remote_port\\n"; }}
        location = /health {{ try_files /healthy =503; }}
        location = /big {{ alias {files}/big; }}
        location /upload/ {{ root {files}; dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def start_time(pid):
    """When the process started, in clock ticks since boot: tells a reused pid from its first."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[19]


def offloads_off(namespace, interface):
    """Without this, veth carries unfinished checksums, frames above the MTU, and tags beside
    them."""
    namespace.run("ethtool", "-K", interface, "tx", "off", "rx", "off", "tso", "off", "gso", "off",
                  "gro", "off", "txvlan", "off", "tx-vlan-stag-hw-insert", "off")


class Backend:
    """One nginx. It can be killed, frozen, cut off and made to fail its health page."""

    def __init__(self, lab, name, namespace, address, address6, port):
        self.lab, self.name, self.namespace = lab, name, namespace
        self.address, self.address6, self.port = address, address6, port
        self.endpoint = f"{address}:{port}"
        self.endpoint6 = f"[{address6}]:{port}" if address6 else None
        self.directory = f"{lab.directory}/{name}"
        self.process = None
        self.frozen = self.is_cut = False
        os.makedirs(self.directory, exist_ok=True)
        self.set_healthy(True)

    def start(self):
        if self.process:
            return
        conf = f"{self.directory}/nginx.conf"
        listen6 = f"listen [{self.address6}]:{self.port} backlog=4096;" if self.address6 else ""
        with open(conf, "w") as file:
            file.write(NGINX_CONF.format(name=self.name, directory=self.directory, listen6=listen6,
                                         files=self.lab.files, address=self.address,
                                         port=self.port, tls_port=self.port + TLS_OFFSET))
        log = f"{self.directory}/error.log"
        with open(log, "a") as stderr:
            self.process = self.namespace.popen("nginx", "-p", self.directory, "-c", conf,
                                                "-e", log, "-g", "daemon off;",
                                                stdout=stderr, stderr=stderr)
        deadline = time.monotonic() + 5 * PATIENCE
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(log) as file:
                    raise RuntimeError(f"nginx {self.name} does not start: {file.read()[-500:]}")
            time.sleep(0.005)

    def _listens(self):
        """Whether one of its sockets takes connections, by the kernel's tables."""
        ports = f"{self.port:04X}|{self.port + TLS_OFFSET:04X}"
        with self.namespace.entered(), open("/proc/thread-self/net/tcp") as table, \
                open("/proc/thread-self/net/tcp6") as table6:
            return re.search(rf":({ports}) 0+:0000 0A", table.read() + table6.read()) is not None

    def kill(self):
        """As a crash: its connections and the probes get RST. When this returns the port is closed:
        the worker that has it outlives nginx's master, our child, by a millisecond or so."""
        if not self.process:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 5 * PATIENCE
        while self._listens():
            if time.monotonic() > deadline:
                raise RuntimeError(f"nginx {self.name} was killed, and its port is still open")
            time.sleep(0.0005)
        self.process, self.frozen = None, False

    def freeze(self):
        os.killpg(self.process.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        os.killpg(self.process.pid, signal.SIGCONT)
        self.frozen = False

    def cut(self):
        """Drop in silence what is for its port, as a firewall does."""
        self.namespace.run("nft", f"add table inet cut{self.port}; "
                           f"add chain inet cut{self.port} in "
                           f"{{ type filter hook input priority 0; }}; "
                           f"add rule inet cut{self.port} in tcp dport {self.port} drop")
        self.is_cut = True

    def mend(self):
        self.namespace.run("nft", f"delete table inet cut{self.port}")
        self.is_cut = False

    def set_healthy(self, healthy):
        """Whether /health answers 200 or 503."""
        path = f"{self.directory}/healthy"
        if healthy:
            open(path, "w").close()
        else:
            os.unlink(path)

    def restore(self):
        """As it was at the start, whatever a test did to it."""
        if self.frozen:
            self.thaw()
        if self.is_cut:
            self.mend()
        if not os.path.exists(f"{self.directory}/healthy"):
            self.set_healthy(True)
        if self.process and self.process.poll() is not None:
            self.kill()
        self.start()


class Lab:
    """Use as a context manager, or call create() and destroy()."""

    _count = 0

    def __init__(self, name=None, routed=False, local=False, nic=None, narrow=None):
        if name is None:
            name = f"t{os.getpid()}x{Lab._count}"
            Lab._count += 1
        self.name, self.local, self.nic, self.narrow = name, local, nic, narrow
        self.routed = routed or narrow == "hosts"
        self.directory = f"{STATE}/{name}"
        self.files = f"{self.directory}/files"
        self.client, self.switch, self.lb = map(self._namespace, ("client", "switch", "lb"))
        self.hosts = [self._namespace("host1"), self._namespace("host2")]
        self.routers = [self._namespace("router1"), self._namespace("router2")] \
            if routed or narrow else []
        self.backends = []
        self.weirs = []                 # running ones, kept by class Weir
        self.port_queues = 0
        self.port_mac = None

    def __enter__(self):
        return self.create()

    def __exit__(self, *_):
        self.destroy()

    def _namespace(self, role):
        return Namespace(f"weir-{self.name}-{role}")

    def create(self):
        remove_leftovers()
        if self.exists():
            raise RuntimeError(f"a lab named {self.name} is there already ({self.directory})")
        os.makedirs(f"{self.files}/upload")
        with open(f"{self.directory}/owner", "w") as file:
            file.write(f"{os.getpid()} {start_time(os.getpid())}")
        try:
            self._lay_network()
            run("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-subj", "/CN=weir lab", "-days", "2",
                "-keyout", f"{self.files}/key", "-out", f"{self.files}/certificate")
            self._add_backends()
        except BaseException:
            self.destroy()
            raise
        return self

    def destroy(self):
        for weir in list(self.weirs):
            weir.kill()
        for backend in self.backends:
            backend.kill()
        remove(self.name)

    def exists(self):
        return os.path.exists(self.directory)

    @contextlib.contextmanager
    def further_client(self, index):
        """Another client while the block runs: a namespace with addresses of its own."""
        namespace = self._namespace(f"client{index + 2}")
        namespace.create()
        try:
            namespace.sysctl(ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
            self._cable(namespace, "eth0", f"client{index + 2}", "br0", f"192.0.2.{101 + index}/24",
                        f"2001:db8::{101 + index}/64")
            yield namespace
        finally:
            namespace.delete()

    def keep(self):
        """Let it outlive this process; remove() ends it."""
        with open(f"{self.directory}/owner", "w") as file:
            file.write("kept")

    def backend(self, name):
        return next(backend for backend in self.backends if backend.name == name)

    def host_address(self, index):
        return f"10.0.0.1{index + 1}" if self.routed else f"192.0.2.2{index + 1}"

    def host_address6(self, index):
        return f"2001:db8:1::1{index + 1}" if self.routed else f"2001:db8::2{index + 1}"

    def restore(self):
        """Undo what a test did to backends and hosts."""
        for index in range(2):
            self.plug_host(index)
        for backend in self.backends:
            backend.restore()

    def big_file(self, size=BIG_BYTES):
        """Path of what every backend serves as /big. Random, so that no two blocks of it can be
        mistaken for one another."""
        path = f"{self.files}/big"
        if not os.path.exists(path) or os.path.getsize(path) != size:
            with open(path, "wb") as file:
                for _ in range(size // 1000000):
                    file.write(os.urandom(1000000))
        return path

    # the network

    def _namespaces(self):
        return [self.client, self.switch, self.lb, *self.hosts, *self.routers]

    def _lay_network(self):
        for namespace in self._namespaces():
            namespace.create()
            namespace.sysctl(ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
        self.switch.sysctl(ipv6__conf__default__disable_ipv6=1)
        self._bridge("br0")
        if self.routers:
            self._bridge("br1")
        if self.narrow:
            self._lay_narrow_path()
        elif self.routed:
            self._lay_two_paths()
        if self.narrow == "client":
            self._cable(self.client, "eth0", "client", "br1", "10.0.0.100/24", "2001:db8:1::100/64")
            self.client.ip("route add default via 10.0.0.1", "route add default via 2001:db8:1::1")
        else:
            self._cable(self.client, "eth0", "client", "br0", f"{CLIENT}/24", f"{CLIENT6}/64")
        hosts_bridge = "br1" if self.routed else "br0"
        for index, host in enumerate(self.hosts):
            self._cable(host, "eth0", f"host{index + 1}", hosts_bridge,
                        f"{self.host_address(index)}/24", f"{self.host_address6(index)}/64")
            host.sysctl(ipv4__conf__all__arp_notify=1, ipv4__conf__default__arp_notify=1,
                        ipv4__conf__eth0__arp_notify=1)
            if self.routed:
                host.ip("route add default via 10.0.0.1", "route add default via 2001:db8:1::1")
        if self.local:
            self._cable(self.lb, "local", "lblocal", "br0", f"{LOCAL}/24")
        if self.nic:
            run("ip", "link", "set", UPLINK, "netns", self.switch.name)
            self.switch.ip(f"link set {UPLINK} master br0 up")
        self.plug_port(1)

    def _lay_two_paths(self):
        for index, router in enumerate(self.routers):
            name = f"router{index + 1}"
            self._cable(router, "eth0", name, "br0", f"{GATEWAYS[index]}/24",
                        f"2001:db8::{index + 1}/64")
            self._cable(router, "eth1", name + "in", "br1", f"10.0.0.{index + 1}/24",
                        f"2001:db8:1::{index + 1}/64")
            self._make_router(router)

    def _lay_narrow_path(self):
        near, far = self.routers
        self._cable(near, "eth0", "router1", "br0", f"{GATEWAYS[0]}/24", "2001:db8::1/64")
        self._cable(far, "eth0", "router2", "br1", "10.0.0.1/24", "2001:db8:1::1/64")
        near.ip(f"link add eth1 mtu {NARROW_MTU} type veth peer name eth1 mtu {NARROW_MTU} "
                f"netns {far.name}")
        for own, router in enumerate(self.routers, 1):
            offloads_off(router, "eth1")
            self._make_router(router)
            router.ip(f"address add 10.1.0.{own}/24 dev eth1",
                      f"address add 2001:db8:2::{own}/64 nodad dev eth1", "link set eth1 up")
        near.ip("route add 10.0.0.0/24 via 10.1.0.2", "route add 2001:db8:1::/64 via 2001:db8:2::2")
        far.ip("route add default via 10.1.0.1", "route add default via 2001:db8:2::1")

    def _make_router(self, router):
        # With two routers and a host behind both, the way back may be the other one's.
        router.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1,
                      ipv4__conf__all__rp_filter=0, ipv4__conf__all__send_redirects=0)

    def _bridge(self, name):
        self.switch.ip(f"link add {name} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                       f"link set {name} up")

    def _cable(self, namespace, interface, peer, bridge, *addresses):
        namespace.ip(f"link add {interface} type veth peer name {peer} netns {self.switch.name}")
        self._connect(namespace, interface, peer, bridge)
        namespace.ip(*(f"address add {address}" + (" nodad" if ":" in address else "")
                       + f" dev {interface}" for address in addresses))

    def _connect(self, namespace, interface, peer, bridge):
        offloads_off(namespace, interface)
        offloads_off(self.switch, peer)
        self.switch.ip(f"link set {peer} master {bridge} up")
        namespace.ip(f"link set {interface} up")

    def plug_port(self, queues, mac=PORT_MAC):
        """Weir's interface, made anew when the number of queues or the MAC is to change: for
        AF_XDP, both ends of a veth must have as many queues as weir uses. It has no address, and
        no link-local one either, so that a run changes nothing that could be seen here."""
        if (queues, mac) == (self.port_queues, self.port_mac) or self.nic:
            return
        if self.port_queues:
            self.lb.ip(f"link delete {PORT}")
        self.lb.ip(f"link add {PORT} address {mac} numtxqueues {queues} numrxqueues {queues} "
                   f"type veth peer name lbport netns {self.switch.name} "
                   f"numtxqueues {queues} numrxqueues {queues}",
                   f"link set {PORT} addrgenmode none")
        self._connect(self.lb, PORT, "lbport", "br0")
        self.port_queues, self.port_mac = queues, mac

    def unplug_host(self, index):
        """Pull the host's cable at the switch."""
        self.switch.ip(f"link set host{index + 1} down")

    def plug_host(self, index):
        self.switch.ip(f"link set host{index + 1} up")

    def _add_backends(self):
        for name, host, port in SERVERS:
            if self.local and host == 1:
                backend = Backend(self, name, self.lb, LOCAL, None, port)
            else:
                backend = Backend(self, name, self.hosts[host], self.host_address(host),
                                  self.host_address6(host), port)
            self.backends.append(backend)
            backend.start()


def remove(name):
    """Remove the lab of that name, whoever made it: its processes, namespaces and files."""
    prefix = "weir-" + name
    lb = Namespace(prefix + "-lb")
    _end_gently(lb)
    number = os.stat(lb.path).st_ino if lb.exists() else None
    for role in ("-client", "-client2", "-client3", "-client4", "-switch", "-lb", "-host1",
                 "-host2",
                 "-router1", "-router2", "", "second"):
        Namespace(prefix + role).delete()
    # What an ended weir leaves behind, to be taken over by the next one with its name.
    files = (rf"{re.escape(prefix)}(second)?(\.\d)?"
             r"((map_\d+)|\.(flows\d|backends|names|neighbours|former|netns).*)?$"
             rf"|.*-net{number}(\.lock)?$")
    for folder in ("/dev/hugepages", "/dev/shm", "/dev/shm/weir", "/run/weir", "/var/run/dpdk"):
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(folder):
                own = folder == "/run/weir" and entry in (name, name + "second")
                if own or re.match(files, entry):
                    path = f"{folder}/{entry}"
                    if os.path.isdir(path) and not os.path.islink(path):
                        shutil.rmtree(path)
                    else:
                        os.unlink(path)
    shutil.rmtree(f"{STATE}/{name}", ignore_errors=True)


def _end_gently(namespace, seconds=3):
    """Let a weir that runs there clean up after itself."""
    if not namespace.exists():
        return
    for pid in namespace.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while namespace.pids() and time.monotonic() < deadline:
        time.sleep(0.05)


def remove_leftovers():
    """Remove the labs whose owners were killed; kept ones stay. One at a time: whoever else is at
    it has removed them when this returns."""
    os.makedirs(STATE, exist_ok=True)
    with open(f"{STATE}/leftovers.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_leftovers()


def _remove_leftovers():
    for name in os.listdir(STATE):
        try:
            with open(f"{STATE}/{name}/owner") as file:
                owner = file.read().split()
            if owner == ["kept"]:
                continue
            with contextlib.suppress(OSError):
                if start_time(int(owner[0])) == owner[1]:
                    continue
        except (FileNotFoundError, NotADirectoryError):
            continue                    # just being made, or no lab
        remove(name)


def main():
    """`lab.py up [NAME]` lays a lab that stays, `lab.py down [NAME]` removes it, `lab.py clean`
    removes those whose owners are dead."""
    verbs = {"up": lambda name: Lab(name).create().keep(), "down": remove,
             "clean": lambda _name: remove_leftovers()}
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in verbs:
        sys.exit("usage: lab.py up|down [NAME], lab.py clean")
    verbs[sys.argv[1]](sys.argv[2] if len(sys.argv) == 3 else "lab")


if __name__ == "__main__":
    main()
