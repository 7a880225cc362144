# SPDX-License-Identifier: BSD-3-Clause
"""Count the results that scripts/test left in a folder: unit.json is meson's log, NAME.xml pytest's
of each NAME.status, which holds its exit code. Prints "N passed, N failed[, N skipped]"; exit code 1 if a test failed or none ran."""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree

folder = sys.argv[1]
passed = failed = skipped = 0

unit = os.path.join(folder, "unit.json")
if os.path.exists(unit):
    with open(unit) as file:
        for test in map(json.loads, file):
            # One meson test is one program; cmocka says how many tests it held.
            said = test.get("stdout", "") + test.get("stderr", "")
            good = sum(map(int, re.findall(r"\[  PASSED  \] (\d+) test", said)))
            bad = sum(map(int, re.findall(r"\[  FAILED  \] (\d+) test", said)))
            if test["result"] == "SKIP":
                skipped += 1
            elif test["result"] == "OK":
                passed += good or 1
            else:
                passed += good
                failed += bad or 1

for status in glob.glob(os.path.join(folder, "*.status")):
    broken = True                       # unless pytest wrote its results and agrees with them
    try:
        suite = xml.etree.ElementTree.parse(status.removesuffix("status") + "xml").getroot()
        for counts in suite.iter("testsuite"):
            wrong = int(counts.get("failures")) + int(counts.get("errors"))
            failed += wrong
            skipped += int(counts.get("skipped"))
            passed += int(counts.get("tests")) - wrong - int(counts.get("skipped"))
            with open(status) as file:
                code = int(file.read())
            broken = code not in (0, 5) and not wrong  # 5: -k matched nothing
    except (OSError, xml.etree.ElementTree.ParseError):
        pass
    failed += broken

print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(failed > 0 or passed == 0)
