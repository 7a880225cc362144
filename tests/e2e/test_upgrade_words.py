# SPDX-License-Identifier: BSD-3-Clause
"""An upgrade whose program can't be started."""

import os
import shutil

import pytest

import weir as weir_module


@pytest.mark.parametrize("what, reason", [
    ("gone", "No such file or directory"),
    pytest.param("not executable", "Permission denied", marks=pytest.mark.ci),
    pytest.param("no program", "Exec format error", marks=pytest.mark.ci)])
def test_e25_a_program_that_cannot_be_started(lab, tmp_path, what, reason):
    """E25: the answer and the log name it and the reason, and the process goes on."""
    binary = tmp_path / "weir"
    shutil.copy2(weir_module.BINARY, binary)
    weir = weir_module.Weir(lab, weir_module.config(lab), binary=str(binary)).start()
    try:
        os.unlink(binary)
        if what != "gone":
            binary.write_text("no program\n")
            binary.chmod(0o755 if what == "no program" else 0o644)
        for _ in range(2):
            with pytest.raises(weir_module.WeirFailed) as failure:
                weir.upgrade()
            assert f"{binary}: {reason}" in str(failure.value)
        assert f"upgrade: {binary}: {reason}" in weir.log()
        assert weir.info()["pid"] == weir.process.pid
    finally:
        assert weir.stop() == 0
