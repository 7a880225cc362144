# SPDX-License-Identifier: BSD-3-Clause
"""A DNS server of the test's own, which does what real ones do, and what they shouldn't."""

import contextlib
import ipaddress
import socket
import struct
import threading
import time

A, AAAA, OPT = 1, 28, 41
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
TRUNCATED = 0x0200


class NameServer:
    """Answers each question for an A or AAAA record with those of `addresses` that are of the
    family, by UDP and TCP; how is the test's to change:

    addresses   None = an error, `error`
    edns        larger datagrams for who says that he takes them; False = whoever says so is refused
    limit       bytes of a datagram at most
    lower_only  knows no name with a capital letter
    silent      no answer
    delay       seconds before an answer
    rotates     each answer begins with another address
    """

    def __init__(self, namespace, addresses, ttl=1, endpoint=("127.0.0.1", 5353)):
        self.addresses, self.ttl, self.endpoint = addresses, ttl, endpoint
        self.error, self.edns, self.limit = SERVFAIL, True, 65535
        self.lower_only = self.silent = self.rotates = False
        self.delay = 0
        self.questions = self.by_tcp = 0
        self._namespace = namespace
        self.open()

    def open(self):
        with self._namespace.entered():
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._udp.bind(self.endpoint)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(self.endpoint)
        self._tcp.listen(16)
        self._threads = [threading.Thread(target=target, daemon=True)
                         for target in (self._serve_datagrams, self._serve_connections)]
        for thread in self._threads:
            thread.start()

    def _serve_datagrams(self):
        while True:
            question, client = self._udp.recvfrom(2000)
            if not question:            # close()
                return
            answer = self._answer(question, datagram=True)
            if answer:
                self._udp.sendto(answer, client)

    def _serve_connections(self):
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:             # close()
                return
            connection.settimeout(1)
            with connection, contextlib.suppress(OSError, struct.error):
                size, = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                self.by_tcp += 1
                answer = self._answer(connection.recv(size, socket.MSG_WAITALL), datagram=False)
                if answer:
                    connection.sendall(struct.pack("!H", len(answer)) + answer)
                    connection.recv(1)  # until the client has it all and closes

    def _records(self, kind, turn):
        version = 4 if kind == A else 6
        found = [one for one in map(ipaddress.ip_address, self.addresses)
                 if one.version == version]
        if self.rotates and found:
            found = found[turn % len(found):] + found[:turn % len(found)]
        return [b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, self.ttl, len(one.packed)) + one.packed
                for one in found]

    def _answer(self, question, datagram):
        self.questions += 1
        if self.silent:
            return None
        time.sleep(self.delay)
        end = question.index(b"\0", 12) + 5
        name, kind = question[12:end - 4], struct.unpack("!H", question[end - 4:end - 2])[0]
        extra, = struct.unpack("!H", question[10:12])
        error, records, room = NOERROR, [], 512
        if extra and not self.edns:
            error = FORMERR
        elif self.lower_only and name != name.lower():
            error = NXDOMAIN
        elif self.addresses is None:
            error = self.error
        else:
            records = self._records(kind, self.questions)
        if extra and self.edns:
            kind_of_extra, room = struct.unpack("!HH", question[end + 1:end + 5])
            assert kind_of_extra == OPT
        opt = b"\0" + struct.pack("!HHIH", OPT, 4096, 0, 0) if extra and self.edns else b""
        flags = 0x8180 | error
        size = end + sum(map(len, records)) + len(opt)
        if datagram and size > min(room, self.limit):
            flags, records = flags | TRUNCATED, []
        return (question[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, bool(opt))
                + question[12:end] + b"".join(records) + opt)

    def close(self):
        self._udp.sendto(b"", self.endpoint)
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()
