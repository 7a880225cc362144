# SPDX-License-Identifier: BSD-3-Clause
"""Count the results that scripts/test left in a folder, kind by kind: KIND.status holds the exit
code and the seconds that it took, KIND.json meson's log or KIND.xml pytest's, if it has one, and
KIND.running the name of the test that ran last. A kind with neither log is one test by itself.
Prints a line a kind, the names of the tests that failed, and at last "N passed, N failed[, N
skipped]"; the exit code is 1 if a test failed or none ran."""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree

NOTHING_MATCHED = 5                     # exit code of pytest
LIMIT_MET = 124                         # of scripts/bounded.py


class Kind:
    """The results of one kind of tests."""

    def __init__(self, path):
        self.name = os.path.basename(path)
        self.passed = self.skipped = 0
        self.failed = []                # names
        with open(path + ".status") as file:
            self.code, self.seconds = map(int, file.read().split())
        if os.path.exists(path + ".json"):
            self._read_meson(path + ".json")
        elif os.path.exists(path + ".xml"):
            self._read_pytest(path + ".xml")
        elif self.code == 0:
            self.passed = 1
        if self.code not in (0, NOTHING_MATCHED) and not self.failed:
            self.failed.append(self._last_test(path + ".running"))

    def _read_meson(self, path):
        with open(path) as file:
            for test in map(json.loads, file):
                # One meson test is one program; cmocka says which tests it held.
                said = test.get("stdout", "") + test.get("stderr", "")
                good = sum(map(int, re.findall(r"\[  PASSED  \] (\d+) test", said)))
                bad = re.findall(r"^\[  FAILED  \] (\w+)$", said, re.MULTILINE)
                if test["result"] == "SKIP":
                    self.skipped += 1
                elif test["result"] == "OK":
                    self.passed += good or 1
                else:
                    self.passed += good
                    self.failed += [f"{test['name']}: {name}" for name in dict.fromkeys(bad)] or \
                        [f"{test['name']} ({test['result']})"]

    def _read_pytest(self, path):
        try:
            cases = list(xml.etree.ElementTree.parse(path).getroot().iter("testcase"))
        except xml.etree.ElementTree.ParseError:
            cases = []
        for case in cases:
            if case.find("failure") is not None or case.find("error") is not None:
                file = case.get("classname", "").replace(".", "/")
                self.failed.append(f"{file}.py::{case.get('name')}")
            elif case.find("skipped") is not None:
                self.skipped += 1
            else:
                self.passed += 1

    def _last_test(self, path):
        try:
            with open(path) as file:
                return file.read().strip()
        except FileNotFoundError:
            return f"exit code {self.code}"

    def line(self):
        counts = f"{self.passed:5} passed"
        counts += f", {len(self.failed)} failed" if self.failed else ""
        counts += f", {self.skipped} skipped" if self.skipped else ""
        ended = "  (ended by the time limit)" if self.code == LIMIT_MET else ""
        return f"  {self.name:<12}{self.seconds:5} s {counts}{ended}"


def main(folder):
    paths = sorted(glob.glob(os.path.join(folder, "*.status")), key=os.path.getmtime)
    kinds = [Kind(path.removesuffix(".status")) for path in paths]
    print()
    for kind in kinds:
        print(kind.line())
    for kind in kinds:
        for name in kind.failed:
            print(f"FAILED {kind.name}: {name}")
    passed = sum(kind.passed for kind in kinds)
    failed = sum(len(kind.failed) for kind in kinds)
    skipped = sum(kind.skipped for kind in kinds)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(failed > 0 or passed == 0)


main(sys.argv[1])
