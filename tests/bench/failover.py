# SPDX-License-Identifier: BSD-3-Clause
"""What clients see when a server dies, and when the balancer itself does: the same load and the
same death for Weir and its peers, in the same lab.

A client opens 200 connections a second, each for one HTTP request, without waiting for the earlier
ones. Beside it 64 connections stay open and idle: each asks once before the death and once after
it."""

import asyncio
import contextlib
import os
import signal
import socket
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

import rigs                         # noqa: E402
from figures import Table           # noqa: E402
from lab import VIP, Lab            # noqa: E402

RATE = 200                          # new connections a second
SECONDS = 5                         # from the death on: 1,000 connections
PATIENCE = 5                        # seconds after which a client gives up
ESTABLISHED = 64
BEFORE = 100                        # answers before the death
SWITCH_SECONDS = 15                 # that a switch takes to reboot
RESTART_SECONDS = 0.1               # from the balancer's death to its start, as by a supervisor
# The added connect time to reach: connect_timeout_ms (by default), and 50 ms.
CONNECT_TIMEOUT_MS, SLACK_MS = 250, 50
REQUEST = b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n"


class HaproxyChecksRig(rigs.ProgramRig):
    name = "haproxy tcp"

    def command(self):
        return "haproxy", "-f", f"{rigs.PEERS}/haproxy-checks.cfg"


RIGS = (rigs.WeirRig, rigs.NginxProxyRig, rigs.NginxStreamRig, HaproxyChecksRig, rigs.NftablesRig)

DEATHS = {
    "killed": ("One of four servers is killed (kill -9): its host answers with RST",
               lambda lab: lab.backend("con2").kill()),
    "silent": ("One of four servers falls silent: its host drops all that comes",
               lambda lab: lab.backend("con2").cut()),
    "frozen": ("One of four servers freezes (SIGSTOP): it accepts connections and says nothing",
               lambda lab: lab.backend("con2").freeze()),
    "unplugged": ("The cable of a host with two of four servers is pulled",
                  lambda lab: lab.unplug_host(0)),
}


class Attempt:
    """One new connection: when it began and ended, and what went wrong (None = nothing)."""

    def __init__(self, start):
        self.start, self.end, self.error = start, None, None


class Load:
    """The client, in a thread within its namespace: asks from the first line of the block to the
    last; finished() waits for all answers."""

    def __init__(self, namespace):
        self.attempts, self.established = [], []
        self._namespace, self._ready = namespace, threading.Event()
        self._stop = self._finish = None
        self.lost = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        if not self._ready.wait(30) or self._failure:
            raise RuntimeError(f"the load does not start: {self._failure}")
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    _failure = None

    def _run(self):
        self._namespace.enter_thread()
        try:
            asyncio.run(self._main())
        except (OSError, TimeoutError) as failure:
            self._failure = failure
            self._ready.set()

    async def _main(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.established = [await self._connect() for _ in range(ESTABLISHED)]
        for connection in self.established:
            await self._ask(connection)
        asking = asyncio.create_task(self._open())
        async with asyncio.timeout(10):
            while sum(one.end is not None for one in self.attempts) < BEFORE:
                await asyncio.sleep(0.05)
        self._ready.set()
        await self._stop.wait()
        asking.cancel()
        late = [task for task in asyncio.all_tasks()
                if task not in (asking, asyncio.current_task())]
        answers = await asyncio.gather(*map(self._again, self.established))
        self.lost = answers.count(False)
        await asyncio.gather(*late)

    async def _connect(self):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._loop.sock_connect(connection, (VIP, 80))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _ask(self, connection):
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(connection, REQUEST)
            head = b""
            while b"\r\n\r\ncon" not in head or not head.endswith(b"\n"):
                more = await self._loop.sock_recv(connection, 4096)
                if not more:
                    raise ConnectionError("closed")
                head += more
                if not head.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(head.split(b"\r\n")[0].decode(errors="replace"))

    async def _again(self, connection):
        try:
            with connection:
                await self._ask(connection)
            return True
        except (OSError, TimeoutError):
            return False

    async def _open(self):
        """Open loop: a slow answer doesn't slow down the next connection."""
        started, tasks = self._loop.time(), set()
        for number in range(1 << 30):
            task = asyncio.create_task(self._attempt())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0, started + (number + 1) / RATE - self._loop.time()))

    async def _attempt(self):
        attempt = Attempt(time.monotonic())
        self.attempts.append(attempt)
        try:
            with await self._connect() as connection:
                await self._ask(connection)
        except TimeoutError:
            attempt.error = "no answer"
        except OSError as failure:
            attempt.error = str(failure)
        attempt.end = time.monotonic()


class Outcome:
    """Of one load, for the connections begun since the death, or `begin`."""

    def __init__(self, load, died, begin=None):
        before = [one for one in load.attempts if one.end and one.end < died]
        since = [one for one in load.attempts if one.start >= (begin or died)]
        wrong = [one.error for one in before if one.error]
        if wrong:
            raise RuntimeError(f"the load fails before the death: {wrong[0]}")
        answered = [one for one in since if one.error is None]
        times = sorted((one.end - one.start) * 1000 for one in answered)
        self.connections, self.failed = len(since), len(since) - len(answered)
        self.p99_ms = times[int(len(times) * 0.99)] if times else None
        # To what it usually takes.
        usual_ms = statistics.median((one.end - one.start) * 1000 for one in before)
        self.added_p99_ms = max(0.0, self.p99_ms - usual_ms) if times else None
        self.established, self.lost = ESTABLISHED, load.lost
        ends = sorted([begin or died, *(one.end for one in answered)])
        # The longest time without any answer to a connection begun after the death.
        self.stall_ms = max((b - a) * 1000 for a, b in zip(ends, ends[1:])) if answered else None


def text_ms(value):
    return "-" if value is None else f"{value:,.0f} ms"


def failover(cpus, result, only=()):
    """Servers die."""
    rows, tables = result.setdefault("failover", []), []
    with rigs.on_cpus(cpus[0]), Lab() as lab:
        for death, (title, act) in DEATHS.items():
            table = Table(f"{title}; new connections that failed")
            for kind in RIGS:
                if only and kind.name not in only:
                    continue
                try:
                    with kind(lab, cpus), Load(lab.client) as load:
                        died = time.monotonic()
                        act(lab)
                        time.sleep(SECONDS)
                    outcome = Outcome(load, died)
                finally:
                    lab.restore()
                rows.append({"name": kind.name, "death": death, "connections": outcome.connections,
                             "failed": outcome.failed, "p99_ms": outcome.p99_ms,
                             "added_p99_ms": outcome.added_p99_ms,
                             "established": outcome.established, "lost": outcome.lost})
                table.add(kind.name, f"{outcome.failed} of {outcome.connections:,}",
                          f"the others: p99 {text_ms(outcome.p99_ms)}; "
                          f"{outcome.lost} of {outcome.established} idle ones lost")
                if kind is rigs.WeirRig:
                    limit_ms, added_ms = CONNECT_TIMEOUT_MS + SLACK_MS, outcome.added_p99_ms
                    is_reached = added_ms is not None and added_ms <= limit_ms
                    table.add("  added p99", text_ms(added_ms), f"to reach: at most {limit_ms} ms",
                              is_reached)
            tables.append(table)
    return tables


# ---- the balancer itself ----

def kill(rig):
    """kill -9 of all its processes. The kernel's rules can only be taken away."""
    if isinstance(rig, rigs.WeirRig):
        rig.weir.kill()
    elif isinstance(rig, rigs.NftablesRig):
        rig.lab.lb.run("nft", "delete", "table", "ip", "balance")
    else:
        rig.end()


def stop(rig):
    """As `systemctl stop` does it."""
    if isinstance(rig, rigs.ProgramRig):
        with contextlib.suppress(ProcessLookupError):
            os.kill(rig.process.pid, signal.SIGTERM)
        rig.process.wait(15)
    elif isinstance(rig, rigs.WeirRig):
        rig.weir.stop(keep=True)
    else:
        kill(rig)


def start(rig):
    with rigs.on_cpus(*rig.cpus[1:]):
        if isinstance(rig, rigs.WeirRig):
            rig.weir.start(wait_up=False)
        else:
            rig.serve()


def again(end):
    """Ended that way, and started as by a supervisor."""
    def act(rig):
        end(rig)
        time.sleep(RESTART_SECONDS)
        start(rig)
    return act


def upgrade(rig):
    rig.weir.upgrade()


def reboot_switch(rig):
    rig.lab.switch.ip("link set lbport down")
    time.sleep(SWITCH_SECONDS)
    rig.lab.switch.ip("link set lbport up")


# Of the peers only what is done to Weir, too: their own way to upgrade leaves the old process
# running as long as its connections.
EVENTS = {
    "kill": (f"killed (kill -9) and started {RESTART_SECONDS} s later", again(kill), RIGS),
    "restart": (f"stopped in good order (SIGTERM) and started {RESTART_SECONDS} s later",
                again(stop),
                RIGS),
    "upgrade": ("upgraded in place (weirctl upgrade)", upgrade, (rigs.WeirRig,)),
    "switch": (f"without its switch, which reboots, for {SWITCH_SECONDS} s; what is counted begins "
               "when it is back", reboot_switch, RIGS),
}


def own_death(cpus, result, only=()):
    """The balancer dies and is started again at once."""
    rows, tables = result.setdefault("own_death", []), []
    with rigs.on_cpus(cpus[0]), Lab() as lab:
        for event, (title, act, kinds) in EVENTS.items():
            table = Table(f"The balancer is {title}; idle connections lost")
            for kind in kinds:
                if only and kind.name not in only:
                    continue
                with kind(lab, cpus) as rig, Load(lab.client) as load:
                    died = time.monotonic()
                    act(rig)
                    # Without the switch no connection can be made, whoever the balancer is.
                    begin = time.monotonic() if act is reboot_switch else died
                    time.sleep(max(0.0, begin + SECONDS - time.monotonic()))
                outcome = Outcome(load, died, begin)
                rows.append({"name": kind.name, "event": event, "established": outcome.established,
                             "lost": outcome.lost, "stall_ms": outcome.stall_ms,
                             "connections": outcome.connections, "failed": outcome.failed})
                table.add(kind.name, f"{outcome.lost} of {outcome.established}",
                          f"no new connection for {text_ms(outcome.stall_ms)}; {outcome.failed} of "
                          f"{outcome.connections:,} failed")
            if table.rows:
                tables.append(table)
    return tables
