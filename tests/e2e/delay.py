# SPDX-License-Identifier: BSD-3-Clause
"""A long line between the switch and a host: frames are held back in user space, as this kernel
may have no netem."""

import heapq
import select
import socket
import threading
import time

from lab import offloads_off

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33                     # a long line holds a lot


class DelayLine:
    """Within the block, what goes to host `index` of the lab arrives `seconds` later."""

    def __init__(self, lab, index, seconds):
        self.lab, self.seconds = lab, seconds
        self.cable, self.near, self.far = (f"host{index + 1}", f"near{index + 1}",
                                           f"far{index + 1}")
        self._stopping = threading.Event()

    def _socket(self, interface):
        with self.lab.switch.entered():
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        made.bind((interface, 0))
        return made

    def __enter__(self):
        switch = self.lab.switch
        switch.ip(f"link set {self.cable} nomaster",
                  f"link add {self.near} type veth peer name {self.far}",
                  f"link set {self.near} master br0 up", f"link set {self.far} up")
        for interface in (self.near, self.far):
            offloads_off(switch, interface)
        self._sockets = [self._socket(self.far), self._socket(self.cable)]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()
        for one in self._sockets:
            one.close()
        self.lab.switch.ip(f"link delete {self.near}", f"link set {self.cable} master br0")

    def _run(self):
        to_host, to_switch = self._sockets
        held, number = [], 0            # a heap of (due, number, socket, frame)
        while not self._stopping.is_set():
            pause = min(0.05, max(0, held[0][0] - time.monotonic())) if held else 0.05
            for one in select.select(self._sockets, [], [], pause)[0]:
                frame, (_, _, kind, *_) = one.recvfrom(65535)
                if kind == socket.PACKET_OUTGOING:
                    continue            # what this end sent itself
                other = to_switch if one is to_host else to_host
                delay = self.seconds if one is to_host else 0
                heapq.heappush(held, (time.monotonic() + delay, number, other, frame))
                number += 1
            while held and held[0][0] <= time.monotonic():
                _, _, other, frame = heapq.heappop(held)
                other.send(frame)
