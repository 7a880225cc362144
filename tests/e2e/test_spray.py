# SPDX-License-Identifier: BSD-3-Clause
"""Any packet on any worker: the flow table is shared, so correctness needs no steering."""

import pytest

import traffic
import weir as weir_module


@pytest.fixture
def weir(lab):
    """Two workers, and each packet of a flow goes to another one than the flow's last."""
    running = weir_module.Weir(lab, weir_module.config(lab, workers=2),
                               environment={"WEIR_TEST_SPRAY": "1"}).start()
    yield running
    assert running.stop() == 0


def test_each_packet_on_another_worker(lab, weir):
    before = weir.workers()
    results = traffic.requests(lab.client, 1000)
    assert traffic.errors(results) == []
    created = sum(table["created"] for table in weir.flows())
    assert created == 1000                  # one flow each
    shares = [after["forwarded"] - start["forwarded"]
              for after, start in zip(weir.workers(), before)]
    assert min(shares) > 0.4 * sum(shares), shares
