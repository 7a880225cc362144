# SPDX-License-Identifier: BSD-3-Clause
"""Count the results that scripts/test left in a folder: unit.json is meson's log, NAME.xml pytest's
of each NAME.status, which holds its exit code. What failed was run once more by itself: the results
of that are in unit-again.json and NAME-again.xml, and count instead. Prints the names of those that
failed only the first time, then "N passed, N failed[, N skipped]"; exit code 1 if a test failed or
none ran. `count-tests.py --failed unit.json` prints the names of the programs that failed."""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree

def meson_results(path):
    """By name: (result, passed tests, failed tests). One meson test is one program; cmocka says how
    many tests it held."""
    results = {}
    if os.path.exists(path):
        with open(path) as file:
            for test in map(json.loads, file):
                said = test.get("stdout", "") + test.get("stderr", "")
                good = sum(map(int, re.findall(r"\[  PASSED  \] (\d+) test", said)))
                bad = sum(map(int, re.findall(r"\[  FAILED  \] (\d+) test", said)))
                name = test["name"].split(" / ")[-1]
                results[name] = (test["result"], good, bad)
    return results


def failed_programs(path):
    return [name for name, (result, _, _) in meson_results(path).items()
            if result not in ("OK", "SKIP")]


def cases_that_failed(path):
    cases = set()
    if os.path.exists(path):
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                cases.add((case.get("classname"), case.get("name")))
    return cases


if sys.argv[1] == "--failed":
    print("\n".join(failed_programs(sys.argv[2])))
    sys.exit(0)

folder = sys.argv[1]
passed = failed = skipped = 0
unsteady = []

unit = meson_results(os.path.join(folder, "unit.json"))
again = meson_results(os.path.join(folder, "unit-again.json"))
unsteady += [name for name in again if again[name][0] == "OK"]
for result, good, bad in {**unit, **again}.values():
    if result == "SKIP":
        skipped += 1
    elif result == "OK":
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
            first = cases_that_failed(status.removesuffix(".status") + ".xml")
            second = status.removesuffix(".status") + "-again.xml"
            recovered = first - cases_that_failed(second) if os.path.exists(second) else set()
            unsteady += [f"{module}.{name}" for module, name in recovered]
            failed += wrong - min(wrong, len(recovered))
            passed += min(wrong, len(recovered))
            skipped += int(counts.get("skipped"))
            passed += int(counts.get("tests")) - wrong - int(counts.get("skipped"))
            with open(status) as file:
                code = int(file.read())
            broken = code not in (0, 5) and not wrong  # 5: -k matched nothing
    except (OSError, xml.etree.ElementTree.ParseError):
        pass
    failed += broken

for name in unsteady:
    print(f"failed once, and passed when it was run again by itself: {name}")
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(failed > 0 or passed == 0)
