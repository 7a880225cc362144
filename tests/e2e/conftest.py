# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures. A lab is shared by a session or a module; a weir belongs to a module (fixture `weir`)
or to one test (factory `start_weir`), never both in one file. After every test the packet
accounting of each running weir is checked and the lab's servers are restored."""

import contextlib
import faulthandler
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import traffic                          # noqa: E402
import weir as weir_module              # noqa: E402
from lab import VIP, Lab                # noqa: E402
from netns import PATIENCE              # noqa: E402

MEASURED = pytest.StashKey[list]()
RUNNING = os.environ.get("WEIR_TEST_RUNNING")   # a file for the running test's name
TEST_SECONDS = 120                      # a test that takes longer hangs; `slow` ones may take 900


def pytest_addoption(parser):
    parser.addoption("--ci", action="store_true", help="floods and repetitions too")
    parser.addoption("--full", action="store_true", help="long runs too, and all of --ci")
    parser.addoption("--nic", metavar="PCI-ADDRESS", help="the port is this card (tests/nic)")
    parser.addoption("--nic-queues", metavar="N", type=int, default=1, help="and has N queues")


def pytest_configure(config):
    # A shell starts what runs in its background deaf to these, and whoever that starts inherits it.
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    config.addinivalue_line("markers", "ci: only with --ci or --full")
    config.addinivalue_line("markers", "full: only with --full")
    config.addinivalue_line("markers", "nic: only with --nic")
    config.addinivalue_line("markers", "sanitized: with --ci for a daemon with sanitizers, too")
    config.addinivalue_line("markers", "slow: may take 15 minutes")


def pytest_collection_modifyitems(config, items):
    config.option.ci |= config.option.full
    for option in ("ci", "full", "nic"):
        if not config.getoption(option):
            skip = pytest.mark.skip(reason=f"only with --{option}")
            for item in items:
                if item.get_closest_marker(option):
                    item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """No test may hang: an alarm fails it; if that is not heard, the run ends with a traceback, and
    scripts/test knows from the file RUNNING which test it was."""
    seconds = int(PATIENCE * (900 if item.get_closest_marker("slow") else TEST_SECONDS))

    def on_alarm(_number, _frame):
        # What this raises is no Exception, so that it passes the handlers in the test.
        pytest.fail(f"the test takes longer than {seconds} s")

    def on_end(_number, _frame):
        item.session.shouldstop = "the run is to end"
        pytest.fail("the run was ended while this test ran")

    if RUNNING:
        with open(RUNNING, "w") as file:
            file.write(item.nodeid)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_end)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 60, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def requirements():
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests make network namespaces: run them as root", 2)
    if not os.access(weir_module.BINARY, os.X_OK):
        pytest.exit(f"{weir_module.BINARY} is missing: build first, or run scripts/test", 2)


@pytest.fixture(scope="session")
def lab(requirements, request):
    with Lab(nic=request.config.getoption("nic")) as made:
        yield made


@pytest.fixture
def clean_lab(requirements):
    """One of its own: no SYN meets the TIME_WAIT of an earlier test's connection."""
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def weir(lab):
    """A weir with the lab's usual file, shared by the module."""
    running = weir_module.Weir(lab, weir_module.config(lab)).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def start_weir(lab):
    """Start a weir of one's own: start_weir(driver="tap", snat={...}) changes the usual file,
    start_weir(text=...) brings a whole one."""
    started = []

    def start(in_lab=lab, driver="af_xdp", workers=1, text=None, wait_up=True, environment=None,
              **changes):
        config = text or weir_module.config(in_lab, driver, workers, **changes)
        started.append(weir_module.Weir(in_lab, config, environment=environment))
        return started[-1].start(wait_up)

    yield start
    for running in started:
        if running.running():
            assert running.stop() == 0


@pytest.fixture
def measured(request):
    """Lines of figures, which the run shows at its end."""
    return request.config.stash.setdefault(MEASURED, [])


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(MEASURED, None):
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def accounting(request):
    """After each test: nothing lost from the books (I1), nothing broken left in the lab."""
    yield
    labs = [value for value in request.node.funcargs.values() if isinstance(value, Lab)]
    labs += [value.lab for value in request.node.funcargs.values()
             if isinstance(value, weir_module.Weir)]
    for used in {id(one): one for one in labs if one.exists()}.values():
        try:
            for running in used.weirs:
                assert running.running(), f"weir died:\n{running.log()[-3000:]}"
                running.identity()
        finally:
            used.restore()
            for running in list(used.weirs):
                if not running.running():   # so that the module's other tests mean something
                    running.kill()
                    running.start(wait_up=False)
                running.wait_all_up()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of the log of each weir it used."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for value in item.funcargs.values():
            for running in getattr(value, "weirs", None) or ():
                with contextlib.suppress(OSError):      # it may have died before it had one
                    report.sections.append((f"log of {running.prefix}", running.log()[-4000:]))


@pytest.fixture
def hold(lab):
    """hold() opens a connection and returns (name of its backend, connection)."""
    held = []

    def hold(address=VIP, source=None):
        with lab.client.entered():
            connection = traffic.connect(address, source=source)
        held.append(connection)
        return traffic.ask(connection), connection

    yield hold
    for connection in held:
        connection.close()
