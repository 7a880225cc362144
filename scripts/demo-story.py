# SPDX-License-Identifier: BSD-3-Clause
"""The story that scripts/demo tells. It expects packages and build to be there."""

import hashlib
import os
import signal
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, f"{ROOT}/tests/e2e")

import traffic                          # noqa: E402
import weir as weir_module              # noqa: E402
from lab import BIG_BYTES, CLIENT, SERVERS, VIP, Lab    # noqa: E402
from weir import Weir, WeirFailed       # noqa: E402

NAME = "demo"
SERVER_NAMES = [name for name, _, _ in SERVERS]
SHOWN_FAILURES = 10
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


class StoryFailed(Exception):
    """The demo didn't show what it promised."""


def say(text=""):
    print(f"  {text}" if text else "", flush=True)


def chapter(text):
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def curl(lab, times):
    """Curl the address so often, each time anew, and show what comes back."""
    command = ["curl", "-s", f"http://{VIP}/"]
    names = [lab.client.run(*command).stdout.strip() for _ in range(times)]
    say(f"client$ {' '.join(command)}       ({times} times)")
    say("  ".join(names))


def count_names(results):
    return ", ".join(f"{name} {count} times"
                     for name, count in sorted(traffic.bodies(results).items()))


def expect(condition, text):
    if not condition:
        raise StoryFailed(text)


def expect_answers(results, servers, since, event):
    """Every request was answered, and each of the servers answered some; else what went wrong."""
    failed = [result for result in results if result.error is not None]
    if failed:
        say(f"Failed requests to {VIP}:80:")
    for one in failed[:SHOWN_FAILURES]:
        source = f"from {CLIENT}:{one.source}" if one.source else "without a connection"
        say(f"  begun {one.start - since:.4f} s after {event}, {source}, "
            f"failed {one.end - one.start:.4f} s later: {one.error}")
    if len(failed) > SHOWN_FAILURES:
        say(f"  and {len(failed) - SHOWN_FAILURES} more")
    expect(not failed, f"{len(failed)} of {len(results)} requests failed after {event}")
    answered = set(traffic.bodies(results))
    expect(answered == set(servers),
           f"after {event} {', '.join(sorted(answered)) or 'no server'} answered, "
           f"and not {', '.join(servers)}")


def reason(failure):
    """The line of weir's log that says why."""
    lines = [line for line in str(failure).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines)[-1].strip()


def start_weir(lab):
    """On AF_XDP if the machine can, else on AF_PACKET."""
    try:
        return Weir(lab, weir_module.config(lab, "af_xdp")).start(), "AF_XDP"
    except WeirFailed as failure:
        say("AF_XDP, the fast way to a network interface, does not work on this machine:")
        say(f"  {reason(failure)}")
        say("Weir uses AF_PACKET instead, which is slower and otherwise the same.")
    return Weir(lab, weir_module.config(lab, "af_packet")).start(), "AF_PACKET"


def table(rows):
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def show_backends(weir):
    rows = [("name", "address", "health", "since", "connections", "packets in", "packets out")]
    for name, backend in weir.backends().items():
        rows.append((name, backend["address"], backend["health"], f"{backend['since_s']} s ago",
                     backend["connections"], backend["packets_in"], backend["packets_out"]))
    table(rows)


def four_names(lab):
    chapter("1. Ask the one address again and again: four servers answer")
    curl(lab, 10)
    began = time.monotonic()
    results = traffic.requests(lab.client, 400)
    say(f"... and 400 times more: {count_names(results)}; "
        f"{len(traffic.errors(results))} requests failed.")
    expect_answers(results, SERVER_NAMES, began, "the first one")


def a_server_dies(lab, weir):
    chapter("2. A server dies: kill -9 con1, while the client asks 200 times a second")
    with traffic.Stream(lab.client, threads=8, rate=200) as stream:
        time.sleep(1)
        lab.backend("con1").kill()
        died = time.monotonic()
        found = weir.wait_health("con1", "down")
        cause = weir.backends()["con1"]["reason"]
        say(f"{found - died:.1f} s later weir takes it for down ({cause}):")
        say("clients' connections told it, sooner than its own probes did."
            if cause.startswith("passive") else "its own probes told it.")
        time.sleep(2)
        moved = weir.backends()["con1"]["moved_away"]
    # What it had taken already was lost with it; new connections are given to the next one.
    later = [result for result in stream.results if result.start > died]
    say(f"{moved} connections that it refused until then went to the next server at once.")
    say(f"Since its death {len(traffic.errors(later))} of {len(later)} requests failed: "
        f"{count_names(later)}.")
    expect_answers(later, SERVER_NAMES[1:], died, "the death")
    curl(lab, 10)


def it_comes_back(lab, weir):
    chapter("3. The server is started again: it rejoins by itself")
    started = time.monotonic()
    lab.backend("con1").start()
    back = weir.wait_health("con1", "up")
    say(f"{back - started:.1f} s later it is in use again.")
    results = traffic.requests(lab.client, 400)
    say(f"400 requests: {count_names(results)}; {len(traffic.errors(results))} failed.")
    expect_answers(results, SERVER_NAMES, back, "its return")


def counters(weir):
    chapter("4. What weir counted")
    show_backends(weir)
    drops = weir.drops()
    say()
    say(f"Packets: {drops['received']} received = {drops['forwarded']} forwarded + "
        f"{drops['answered']} answered + {drops['punted']} for the kernel (ARP, probes) + "
        f"{drops['dropped']} dropped.")
    weir.identity()
    say(f"These are read from the telemetry socket: dpdk-telemetry.py -f {weir.prefix}, "
        "then /weir/backends,web")


class Download(threading.Thread):
    """A client fetches the big file in 4 s or so. `pause`: the longest time in which nothing came,
    from the first byte to the last."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.path = f"{lab.directory}/download"
        self.pause = 0.0
        open(self.path, "w").close()
        self.curl = lab.client.popen("curl", "-sS", "--limit-rate", "50M", "-o", self.path,
                                     f"http://{VIP}/big")
        self.start()

    def size(self):
        return os.path.getsize(self.path)

    def run(self):
        size, since = 0, time.monotonic()
        while self.curl.poll() is None:
            if (grown := self.size()) != size:
                now = time.monotonic()
                if size != 0:
                    self.pause = max(self.pause, now - since)
                size, since = grown, now
            time.sleep(0.005)

    def digest(self):
        with open(self.path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()


def the_balancer_dies(lab, weir):
    chapter("5. And the balancer itself? kill -9 weir, while a download of 200 MB runs through it")
    with open(lab.big_file(), "rb") as file:
        wanted = hashlib.sha256(file.read()).hexdigest()
    say(f"client$ curl http://{VIP}/big | sha256sum")
    download = Download(lab)
    weir.wait(lambda: download.size() > BIG_BYTES / 4, 30, "a quarter of the download")
    weir.kill()
    died = time.monotonic()
    say(f"weir is dead; {download.size() / 1e6:.0f} MB are there.")
    time.sleep(0.5)
    weir.start(wait_up=False)
    say(f"Started again, {time.monotonic() - died:.1f} s after its death: "
        f"it knows {weir.info()['adopted']} connections of its predecessor.")
    download.join(60)
    expect(download.curl.poll() == 0, "the download broke off")
    got = download.digest()
    say(f"The download has ended: {download.size() / 1e6:.0f} MB, "
        f"{'each byte as it should be' if got == wanted else 'DAMAGED'} (sha256 {got[:16]}...).")
    say(f"Its longest pause, which is all that the client noticed: {download.pause:.1f} s "
        "(TCP repeats what was lost, at growing intervals).")
    expect(got == wanted, "the download is damaged")


def here(path):
    """As it is to be typed where the user is."""
    return os.path.relpath(path) if os.getcwd() == ROOT else os.path.realpath(path)


def play(lab, weir):
    """What to type. tests/e2e/test_demo.py runs all that stands four columns in."""
    def group(text):
        say()
        say(text)

    def offer(command, text):
        say(f"  {command}")
        say(f"      {text}")

    con1 = lab.backend("con1")
    weirctl = f"{here(ROOT + '/scripts/weirctl')} -i {NAME}"
    chapter("It keeps running. Play with it, as root:")
    group("Ask, as the client does")
    offer(f"ip netns exec {lab.client.name} curl http://{VIP}/", "once")
    offer(f"while sleep 0.2; do ip netns exec {lab.client.name} curl -sSm 5 http://{VIP}/; done",
          "again and again, while you do the rest in another window")
    group("Watch")
    offer(f"tail -f {weir.log_path}", "weir's log")
    offer(f"dpdk-telemetry.py -f {weir.prefix}",
          "health and counters: type /weir/backends,web  /weir/info  /weir/drops  (quit ends it)")
    group("Trouble")
    offer(f"kill $(cat {con1.directory}/pid)", "con1 ends (con2, con3, con4 likewise)")
    offer(f"ip netns exec {con1.namespace.name} nginx -p {con1.directory} "
          f"-c {con1.directory}/nginx.conf", "and is started again")
    offer(f"kill -STOP -$(cat {con1.directory}/pid)",
          "con1 freezes: it takes connections and answers nothing")
    offer(f"kill -CONT -$(cat {con1.directory}/pid)", "and goes on")
    offer(f"ip -n {lab.switch.name} link set host2 down",
          "pull the cable of the host of con3 and con4")
    offer(f"ip -n {lab.switch.name} link set host2 up", "and plug it in again")
    group("Administer")
    offer(f"{weirctl} drain web con2", "no new connections to con2; those it has live on")
    offer(f"{weirctl} activate web con2", "new ones again")
    offer(f"sed -i '/name = \"con3\"/s/$/ weight = 5;/' {weir.path}",
          "change the configuration (or with an editor): five times as many connections for con3")
    offer(f"{weirctl} reload", "and have weir read it")
    offer(f"{weirctl} upgrade", "a new process takes over; connections live on")
    offer(f"{weirctl} stop", "end weir; connections wait")
    offer(f"nsenter --net={lab.lb.path} {here(weir_module.BINARY)} -c {weir.path} "
          f"2>>{weir.log_path} &", "start it again, and they go on")
    group("End it and clean up")
    offer(f"{here(ROOT + '/scripts/demo')} --stop",
          "weir, servers, network namespaces and files go")


def tell(lab, keep):
    chapter("The stage, all in network namespaces of this machine")
    say(f"client {CLIENT}  ->  weir {VIP}:80  ->  host1 {lab.host_address(0)}: "
        "con1 (port 8080), con2 (8081)")
    say(" " * 45 + f"host2 {lab.host_address(1)}: con3 (port 8080), con4 (8081)")
    weir, driver = start_weir(lab)
    say(f"Weir runs on the network interface by {driver}; all four servers answer its probes.")
    four_names(lab)
    a_server_dies(lab, weir)
    it_comes_back(lab, weir)
    counters(weir)
    the_balancer_dies(lab, weir)
    if keep:
        play(lab, weir)
        return
    expect(weir.stop() == 0, "weir did not end cleanly")
    chapter("That was it. Everything is stopped and removed.")
    say("scripts/demo --keep leaves it running, to play with.")


def main():
    keep = "--keep" in sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lab = Lab(NAME)
    try:
        lab.create()
        tell(lab, keep)
    except KeyboardInterrupt:
        print("\nInterrupted: cleaning up.", flush=True)
        sys.exit(130)
    except Exception as failure:  # whatever it is: say it, keep the log, clean up
        log = f"{lab.directory}/weir-{NAME}.log"
        print(f"\nThe demo failed: {failure or repr(failure)}", file=sys.stderr)
        if os.path.exists(log):
            with open(log) as file:
                kept = f"/tmp/weir-demo-{os.getpid()}.log"
                fd = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(fd, "w") as copy:
                    copy.write(file.read())
            print(f"Weir's log is in {kept}", file=sys.stderr)
        sys.exit(1)
    finally:
        if keep and sys.exc_info()[0] is None:
            lab.keep()
        else:
            lab.destroy()


if __name__ == "__main__":
    main()
