# SPDX-License-Identifier: BSD-3-Clause
"""What stands between the client and the servers: weir, and its peers, each in the same lab on the
same CPU. The peers' configurations are in peers/."""

import contextlib
import os
import signal
import subprocess
import time

import weir
from lab import PORT, VIP, offloads_off
from testpmd import Testpmd

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")


@contextlib.contextmanager
def on_cpus(*cpus):
    """What is started inside runs there, and nowhere else."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Rig:
    """A context manager; inside the block, `url` answers in the client's namespace."""

    name = None
    url = f"http://{VIP}/"
    script = None       # of wrk

    def __init__(self, lab, cpus):
        self.lab, self.cpus = lab, cpus

    def __enter__(self):
        try:
            self.start()
            self._wait_answer()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _wait_answer(self, seconds=15):
        deadline = time.monotonic() + seconds
        while self.lab.client.run("curl", "-s", "-o", "/dev/null", "-m", "2", self.url,
                                  check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer")
            time.sleep(0.1)


class WeirRig(Rig):
    name = "weir"

    def __init__(self, lab, cpus):
        super().__init__(lab, cpus)
        self.weir = None

    def start(self):
        config = weir.config(self.lab, "af_xdp", 1, flows=1048576,
                             cores={"control": self.cpus[1], "workers": (self.cpus[1],)})
        self.weir = weir.Weir(self.lab, config)
        with on_cpus(*self.cpus):
            self.weir.start()

    def stop(self):
        if self.weir:
            self.weir.stop()
            self.weir = None


class KernelRig(Rig):
    """A program, or rules, over the kernel's stack: the VIP is the port's own address."""

    def start(self):
        self.lab.plug_port(1)
        self.lab.lb.ip(f"address add {VIP}/24 dev {PORT}")
        self.lab.lb.sysctl(ipv4__ip_local_port_range="1024 65535")
        with on_cpus(self.cpus[1]):
            self.serve()

    def stop(self):
        self.end()
        self.lab.lb.run("ip", "address", "flush", "dev", PORT, check=False)


class ProgramRig(KernelRig):
    process = None

    def serve(self):
        self.process = self.lab.lb.popen(*self.command(), stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)

    def end(self):
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class NginxRig(ProgramRig):
    def command(self):
        directory = f"{self.lab.directory}/{self.conf}"
        os.makedirs(f"{directory}/logs", exist_ok=True)
        # The prefix is where it may write; modules are found by the same way.
        with contextlib.suppress(FileExistsError):
            os.symlink("/usr/lib/nginx/modules", f"{directory}/modules")
        return ("nginx", "-p", directory, "-c", f"{PEERS}/{self.conf}", "-e", "logs/error.log",
                "-g", f"daemon off; pid {directory}/pid;")


class NginxProxyRig(NginxRig):
    name, conf = "nginx proxy_pass", "nginx-proxy.conf"


class NginxStreamRig(NginxRig):
    name, conf = "nginx stream", "nginx-stream.conf"


class HaproxyRig(ProgramRig):
    name = "haproxy tcp"

    def command(self):
        return "haproxy", "-f", f"{PEERS}/haproxy.cfg"


class NftablesRig(KernelRig):
    name = "nftables"

    def serve(self):
        # One port in and out: without this the kernel tells the client to go to the servers itself.
        self.lab.lb.sysctl(ipv4__ip_forward=1, ipv4__conf__all__send_redirects=0,
                           **{f"ipv4__conf__{PORT}__send_redirects": 0})
        self.lab.lb.run("nft", "-f", f"{PEERS}/nftables.nft")

    def end(self):
        self.lab.lb.run("nft", "delete table ip balance", check=False)
        self.lab.lb.sysctl(ipv4__ip_forward=0)


class BumpRig(Rig):
    """testpmd io: all frames pass from one port to the other, unseen. No balancer of this machine
    over this kind of port can do better. The client has a bridge of its own then."""

    name = "testpmd io"
    url = "http://192.0.2.21:8080/"
    script = f"{PEERS}/spread.lua"

    def __init__(self, lab, cpus):
        super().__init__(lab, cpus)
        self.testpmd = None

    def start(self):
        lab = self.lab
        lab.plug_port(1)
        lab.switch.ip("link add bump type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                      "link set bump up", "link set client master bump")
        lab.lb.ip(f"link add {PORT}2 numtxqueues 1 numrxqueues 1 type veth peer name lbport2 netns "
                  f"{lab.switch.name} numtxqueues 1 numrxqueues 1",
                  f"link set {PORT}2 addrgenmode none up")
        lab.switch.ip("link set lbport2 master bump up")
        offloads_off(lab.lb, f"{PORT}2")
        offloads_off(lab.switch, "lbport2")
        with on_cpus(*self.cpus):
            devices = f"net_af_xdp0,iface={PORT}", f"net_af_xdp1,iface={PORT}2"
            running = Testpmd(*self.cpus, devices, "io", lab.lb)
            self.testpmd = running.__enter__()

    def stop(self):
        if self.testpmd:
            self.testpmd.__exit__()
            self.testpmd = None
        self.lab.lb.run("ip", "link", "delete", f"{PORT}2", check=False)
        self.lab.switch.run("ip", "link", "set", "client", "master", "br0", check=False)
        self.lab.switch.run("ip", "link", "delete", "bump", check=False)


RIGS = (BumpRig, WeirRig, NginxProxyRig, NginxStreamRig, HaproxyRig, NftablesRig)
