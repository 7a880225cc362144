# SPDX-License-Identifier: BSD-3-Clause
"""Count the results that scripts/test left in a folder: NAME.json is meson's log, NAME.xml pytest's of
each NAME.status, which holds its exit code, and NAME.code the exit code of one test by itself. Prints
"N passed, N failed[, N skipped]"; exit code 1 if a test failed or none ran."""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree

folder = sys.argv[1]
passed = failed = skipped = 0

for log in glob.glob(os.path.join(folder, "*.json")):
    with open(log) as file:
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

for one in glob.glob(os.path.join(folder, "*.code")):
    with open(one) as file:
        good = file.read().strip() == "0"
    passed += good
    failed += not good

print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(failed > 0 or passed == 0)
