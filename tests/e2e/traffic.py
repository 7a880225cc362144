# SPDX-License-Identifier: BSD-3-Clause
"""Clients: HTTP requests by threads inside a namespace, wrk, and hand-made packets."""

import collections
import contextlib
import re
import socket
import struct
import threading
import time

from lab import VIP
from netns import PATIENCE

# source: the client's port, None if there was no connection.
Request = collections.namedtuple("Request", "start end source body error")


def connect(address=VIP, port=80, timeout=5.0, source=None):
    """A connected socket, from the address `source` if there is one; the family is the
    address's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout * PATIENCE)
        if source:
            connection.bind((source, 0))
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def read_response(connection):
    """The body of one HTTP response with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("closed before the end of the header")
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head.split(b"\r\n")[0].decode())
    length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("closed before the end of the body")
        body += more
    return body


def ask(connection, path="/", close=False):
    """One request over an open connection; returns the body's text, stripped."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: weir\r\n"
                       f"{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n".encode())
    body = read_response(connection).decode().strip()
    if close and connection.recv(1):
        raise ConnectionError("data after the end of the response")
    return body


def get(path="/", address=VIP, port=80, timeout=5.0):
    """One request over a connection of its own."""
    with connect(address, port, timeout) as connection:
        return ask(connection, path, close=True)


def timed_get(path="/", address=VIP, port=80, timeout=5.0):
    start, source, body, error = time.monotonic(), None, None, None
    try:
        with connect(address, port, timeout) as connection:
            source = connection.getsockname()[1]
            body = ask(connection, path, close=True)
    except OSError as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Request(start, time.monotonic(), source, body, error)


class Stream:
    """Requests one after the other from a few threads until stop(); `rate` a second in all, or as
    many as go."""

    def __init__(self, namespace, threads=4, rate=None, count=None, **options):
        self.results = []
        self._options = options
        self._pause = threads / rate if rate else 0
        self._left = count
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._namespace = namespace
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _take(self):
        if self._left is None:
            return not self._stopping.is_set()
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _run(self):
        self._namespace.enter_thread()
        while self._take():
            result = timed_get(**self._options)
            self.results.append(result)
            rest = self._pause - (result.end - result.start)
            if rest > 0:
                self._stopping.wait(rest)

    def more(self, count, seconds=10):
        """Wait until so many requests have begun after this call and are answered."""
        since, deadline = time.monotonic(), time.monotonic() + seconds * PATIENCE
        while sum(one.start > since and one.error is None for one in list(self.results)) < count:
            assert time.monotonic() < deadline, f"no {count} more requests within {seconds} s"
            time.sleep(0.05)

    def join(self):
        for thread in self._threads:
            thread.join()
        return self.results

    def stop(self):
        self._stopping.set()
        return self.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def requests(namespace, count, threads=8, **options):
    """`count` requests, each over a connection of its own; the list of results."""
    return Stream(namespace, threads, count=count, **options).join()


def bodies(results):
    return collections.Counter(result.body for result in results if result.error is None)


def errors(results):
    return [result.error for result in results if result.error is not None]


def wrk(namespace, connections=64, seconds=4, close=False, address=VIP):
    """Run wrk; returns (requests, errors), where errors is its own text, empty when there were
    none."""
    header = ["-H", "Connection: close"] if close else []
    host = f"[{address}]" if ":" in address else address
    said = namespace.run("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s",
                         *header, f"http://{host}/", timeout=seconds + 30).stdout
    failures = re.findall(r"(?:Socket errors|Non-2xx)[^\n]*", said)
    return int(re.search(r"(\d+) requests in", said).group(1)), "; ".join(failures)


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def tcp_packet(source, destination, sport, dport, flags, seq=1000, ack=0, payload=b""):
    """An IP packet with right checksums, for a SOCK_RAW/IPPROTO_RAW socket of its family."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    header = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0)
    # IPv6's pseudo header has more zeros in it; the sum is the same.
    pseudo = addresses + struct.pack("!BBH", 0, 6, len(header) + len(payload))
    header = header[:16] + struct.pack("!H", checksum(pseudo + header + payload)) + header[18:]
    if family == socket.AF_INET6:
        start = struct.pack("!IHBB", 6 << 28, len(header) + len(payload), 6, 64)
    else:
        size = 20 + len(header) + len(payload)
        start = struct.pack("!BBHHHBBH", 0x45, 0, size, 1, 0x4000, 64, 6, 0)
        start = start[:10] + struct.pack("!H", checksum(start + addresses))
    return start + addresses + header + payload


def icmp_error(source, destination, kind, code, rest, quote):
    """An IPv4 packet: an ICMP error that quotes the bytes of another one."""
    message = struct.pack("!BBHI", kind, code, 0, rest) + quote
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    start = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 1, 0, 64, socket.IPPROTO_ICMP, 0)
    start = start[:10] + struct.pack("!H", checksum(start + addresses)) + addresses
    return start + message


def send_raw(namespace, packets, destination=VIP):
    """Send whole IPv4 packets; the kernel adds the Ethernet header."""
    with namespace.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for packet in packets:
            raw.sendto(packet, (destination, 0))


def ping_flood(namespace, rate, seconds, destination=VIP):
    """Echo requests at `rate` a second without waiting for replies; returns how many were sent."""
    body = b"weir" * 14
    with namespace.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sent, start = 0, time.monotonic()
    with raw:
        while (elapsed := time.monotonic() - start) < seconds:
            while sent < rate * elapsed:
                head = struct.pack("!BBHHH", 8, 0, 0, 77, sent & 0xffff)
                head = head[:2] + struct.pack("!H", checksum(head + body)) + head[4:]
                with contextlib.suppress(BlockingIOError, OSError):
                    raw.sendto(head + body, (destination, 0))
                sent += 1
            time.sleep(0.001)
    return sent


class Paced:
    """What send() sends by the socket, `rate` a second or as many as go while the block runs; then
    `sent` and `seconds`."""

    def __init__(self, raw, rate):
        self.sent, self.seconds = 0, 0.0
        self.raw, self._rate = raw, rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def send(self):
        raise NotImplementedError

    def _run(self):
        start = time.monotonic()
        most = max(self._rate // 100, 1)        # in bursts of 10 ms
        while not self._stopping.wait(0.001):
            self.seconds = time.monotonic() - start
            for _ in range(min(int(self._rate * self.seconds) - self.sent, most)):
                with contextlib.suppress(BlockingIOError):
                    self.send()
                self.sent += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()
        self.raw.close()


class Flood(Paced):
    """Frames, one after the other and from the first again."""

    def __init__(self, namespace, frames, rate, interface="eth0"):
        with namespace.entered():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.bind((interface, 0))
        super().__init__(raw, rate)
        self._frames = frames

    def send(self):
        self.raw.send(self._frames[self.sent % len(self._frames)])
