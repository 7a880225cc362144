# SPDX-License-Identifier: BSD-3-Clause
"""The lab does what the other tests take for granted."""

import socket

import pytest


def test_a_killed_server_has_no_port(lab):
    """When kill() is back nobody takes a connection there: nginx's worker, which has the listening
    socket, too, dies a moment after the master."""
    backend = lab.backend("con1")
    for _ in range(20):
        backend.kill()
        for address in (backend.address, backend.address6):
            with backend.namespace.entered(), pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, backend.port), 5)
        backend.start()
