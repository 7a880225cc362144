# SPDX-License-Identifier: BSD-3-Clause
"""Hold the ids of cases that code and tests name against the catalogue in tests/README.md.

usage: check-cases.py [--write] [ROOT]

Prints a line for each id that is named and not in the catalogue, and for each file that the
catalogue's last column lists and that doesn't name the id; exits with 1 if there is one. --write
fills in that column: the files under tests/ that name the id. Nothing is built."""

import argparse
import collections
import os
import re
import sys

CATALOGUE = "tests/README.md"
FOLDERS = ("lib", "app", "tests", "scripts")
ID = re.compile(r"\b([A-FIMSW])([1-9][0-9]?)(?:-\1([1-9][0-9]?))?\b")      # A13, B1-B6
TEST_NAME = re.compile(r"\btest_([a-fimsw])([1-9][0-9]?)_")        # test_a13_...
SPAN = re.compile(r"\b[A-FIMSW][0-9]+ to [A-FIMSW][0-9]+\b")   # of the catalogue, not of cases
ROW = re.compile(r"^(\| ([A-FIMSW][0-9]+) \|.*\| )(.*)( ?\|)$", re.MULTILINE)
C_WORDS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.DOTALL)     # comments, strings


def ids(text):
    for letter, number in TEST_NAME.findall(text):
        yield f"{letter.upper()}{number}"
    for letter, first, last in ID.findall(SPAN.sub("", text)):
        for number in range(int(first), int(last or first) + 1):
            yield f"{letter}{number}"


def named(path):
    """The ids in a file: of C in its comments and strings, of anything else in the whole text."""
    try:
        with open(path) as file:
            text = file.read()
    except UnicodeDecodeError:
        return set()
    if re.search(r"\.[ch]$", path):
        text = "\n".join(C_WORDS.findall(text))
    return set(ids(text))


parser = argparse.ArgumentParser()
parser.add_argument("--write", action="store_true")
parser.add_argument("root", nargs="?", default=os.path.join(os.path.dirname(__file__), ".."))
options = parser.parse_args()
os.chdir(options.root)

files = collections.defaultdict(list)      # that name an id
for folder in FOLDERS:
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__")))
        for name in sorted(names):
            path = os.path.join(directory, name)
            if re.search(r"\.(c|h|py|sh)$|^[^.]+$", name) and name != os.path.basename(__file__):
                for case in named(path):
                    files[case].append(path)

with open(CATALOGUE) as file:
    catalogue = file.read()
listed = {case: re.findall(r"[\w./-]+", tests) for _, case, tests, _ in ROW.findall(catalogue)}
findings = [f"{path}: {case} is not in {CATALOGUE}"
            for case in files if case not in listed for path in files[case]]

if options.write:
    def fill(row):
        tests = [path.removeprefix("tests/") for path in files.get(row[2], ())
                 if path.startswith("tests/")]
        return row[1] + (", ".join(tests) + " |" if tests else "|")

    with open(CATALOGUE, "w") as file:
        file.write(ROW.sub(fill, catalogue))
else:
    findings += [f"{CATALOGUE}: tests/{test} doesn't name {case}" for case, tests in listed.items()
                 for test in tests if f"tests/{test}" not in files.get(case, ())]

print("\n".join(sorted(findings))
      or f"{len(files)} cases are named, of {len(listed)} in the catalogue")
sys.exit(bool(findings))
