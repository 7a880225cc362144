# SPDX-License-Identifier: BSD-3-Clause
"""An emulated machine (QEMU without KVM) with two network cards on one switch: the port, which a
DPDK program is to take by vfio-pci behind an IOMMU, and the uplink of the machine's own lab.

Its root is the host's, read-only by 9p, with a tmpfs above; a shared folder brings orders in and
results out. On the host it leaves nothing: its taps and their bridge lie in a network namespace of
its own, which is removed with it.
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from netns import Namespace             # noqa: E402

PORT, UPLINK = "0000:00:05.0", "0000:00:06.0"   # where the guest finds the cards
PORT_MAC, UPLINK_MAC = "02:57:65:69:72:0a", "02:57:65:69:72:0f"
MEMORY_MB = 3072
HUGEPAGES = 512                         # of 2 MB, of that memory
# Without the card's segmentation and checksums: frames on the wire are to be whole.
PLAIN = ",csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"
# Behind the IOMMU a virtio card must be told of it, and be a modern one.
VIRTIO = ",disable-legacy=on,iommu_platform=on,ats=off" + PLAIN


class MachineFailed(Exception):
    """It did not do its orders; the text is what it said last."""


class Machine:
    def __init__(self, kernel, folder, card, queues=1, cpu="max", cpus=2):
        """`card` is QEMU's model of the port; `folder` becomes the share /run/share."""
        self.kernel, self.folder, self.card = kernel, folder, card
        self.queues, self.cpu, self.cpus = queues, cpu, cpus
        self.console = f"{folder}/console"
        self.network = Namespace(f"weir-nic-{os.getpid()}")
        self.process = None

    def run(self, orders, seconds):
        """Boot, run the shell script `orders` and power off. The script's exit status."""
        os.makedirs(self.folder, exist_ok=True)
        with open(f"{self.folder}/orders", "w") as file:
            file.write(orders)
        status = f"{self.folder}/status"
        if os.path.exists(status):
            os.unlink(status)
        try:
            self._lay_network()
            self._start()
            self._wait(seconds)
        finally:
            self.end()
        try:
            with open(status) as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            raise MachineFailed(f"the machine ended before its orders did:\n{self._tail()}")

    def _lay_network(self):
        self.network.create()
        self.network.sysctl(ipv6__conf__default__disable_ipv6=1)
        many = "multi_queue" if self.queues > 1 else ""
        for tap, mode in (("port", many), ("uplink", "")):
            self.network.run(*f"ip tuntap add {tap} mode tap vnet_hdr {mode}".split())
        self.network.ip("link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                        "link set port master br0 up", "link set uplink master br0 up",
                        "link set br0 up")

    def _arguments(self):
        port = f"{self.card},netdev=port,mac={PORT_MAC},addr={PORT[8:]},bus=pcie.0"
        tap = "tap,id={0},ifname={0},script=no,downscript=no,vhost=off"
        netdev = tap.format("port")
        if self.card.startswith("virtio"):
            port += VIRTIO + (",rss=on" if self.queues > 1 else "")
        if self.queues > 1:
            netdev += f",queues={self.queues}"
            port += f",mq=on,vectors={2 * self.queues + 2}"
        console = "console=ttyS0 quiet panic=-1 loglevel=4"
        return [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi",
            "-cpu", self.cpu, "-smp", str(self.cpus), "-m", str(MEMORY_MB),
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-serial", f"file:{self.console}",
            "-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48",
            "-kernel", self.kernel.image, "-initrd", self.kernel.initrd,
            "-append", f"{console} intel_iommu=on iommu=pt hugepages={HUGEPAGES} mitigations=off",
            "-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,"
                       "multidevs=remap",
            "-virtfs", f"local,path={self.folder},mount_tag=share,security_model=none",
            "-netdev", netdev, "-device", port,
            "-netdev", tap.format("uplink"), "-device",
            f"virtio-net-pci,netdev=uplink,mac={UPLINK_MAC},addr={UPLINK[8:]},bus=pcie.0" + PLAIN,
            "-object", "rng-random,id=rng,filename=/dev/urandom",
            "-device", "virtio-rng-pci,rng=rng",
        ]

    def _start(self):
        with open(f"{self.folder}/qemu", "w") as log:
            self.process = self.network.popen(*self._arguments(), stdout=log, stderr=log)

    def _wait(self, seconds):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise MachineFailed(f"the machine is not done after {seconds} s:\n{self._tail()}")
        if code != 0:
            raise MachineFailed(f"qemu ended with exit code {code}:\n{self._tail()}")

    def _tail(self):
        """What it said last, on whatever way."""
        text = ""
        for name in ("qemu", "console"):
            try:
                with open(f"{self.folder}/{name}", errors="replace") as file:
                    text += file.read()[-3000:]
            except FileNotFoundError:
                pass
        return text

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.network.delete()
