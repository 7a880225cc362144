# SPDX-License-Identifier: BSD-3-Clause
"""Frames of any kind from the client's interface."""

import socket
import struct

from lab import PORT_MAC


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


class Wire:
    """Sends frames out of the client's interface."""

    def __init__(self, lab):
        with lab.client.entered():
            self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.raw.bind(("eth0", 0))
        self.own = self.raw.getsockname()[4]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def send(self, rest, to=PORT_MAC):
        self.raw.send(mac_bytes(to) + self.own + rest)

    def arp(self, operation, sender, sender_mac, target, to="ff:ff:ff:ff:ff:ff",
            lengths=b"\x06\x04"):
        self.send(b"\x08\x06" + b"\0\x01\x08\0" + lengths + struct.pack("!H", operation)
                  + sender_mac + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target), to)
