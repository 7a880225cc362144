# SPDX-License-Identifier: BSD-3-Clause
"""What is known outlives the process, and is told with it."""

import os
import re

from netns import PATIENCE
from test_reload import TIMEOUTS


def test_e29_by_hand_says_by_whom(lab, start_weir):
    """Each command that changes something."""
    weir = start_weir(timeouts=TIMEOUTS)
    earlier = len(weir.log())
    weir.command("drain", service="web", backend="con2")
    weir.command("reload")
    weir.upgrade()
    weir.command("stop")
    weir.process.wait(15 * PATIENCE)
    said = weir.log()[earlier:]
    whom = r"by (\S+ as )?root, pid \d+\n"
    assert re.search(r"by hand: service web: con2: active -> drain .*" + whom, said)
    assert f"pid {os.getpid()}\n" in said
    for words in ("by hand: reload, ", "by hand: upgrade, ", "ending, by hand, "):
        assert re.search(words + whom, said), words
    weir.kill()
    weir.start()
