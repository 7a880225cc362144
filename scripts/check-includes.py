# SPDX-License-Identifier: BSD-3-Clause
"""Hold the #include lines of lib/ and app/ against the table of levels in lib/README.md and the
modules' meson.build.

usage: check-includes.py [ROOT]

Prints a line for each of these, and exits with 1 if there is one:
  undeclared  a module includes one that its `uses` doesn't name
  unused      a module's `uses` names one that no file of it includes
  upward      a file includes a header of a module that isn't on a lower level
  table       the table's row isn't what the module's meson.build says
  needless    a header in include/ that no other module needs
  circle      units that include one another, and aren't in CIRCLES. A unit is x.c with x.h
              (module_x.h is x.h, too)
  gone        a circle of CIRCLES that isn't there as it is written: shorten it, or take it out
Nothing is built: it takes a tenth of a second."""

import collections
import glob
import os
import re
import sys

# Those that were there when this check was written. Each is to go, and none may be added.
CIRCLES = [
    "app: apply backends candidates control gather keep on_down passive plan ports resolver "
    "vicinity watch withdraw",
    "app: daemon endpoints",
    "app: notify upgrade",
    "conf: carry conf error grammar scan schema",
    "exception: exception interface namespace thread",
    "flow: index table",
    "health: health target verdict",
    "net: icmp packet",
    "route: neighbour route",
]


class Source:
    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)
        self.module = re.match(r"(?:lib/)?(\w+)/", path)[1]
        self.unit = self.name[:-2].removeprefix(self.module + "_")
        with open(path) as file:
            self.includes = re.findall(r'^#include "([^"]+)"', file.read(), re.MULTILINE)


def reach(edges, start):
    """All that can be reached from `start`, itself only by a circle."""
    seen, ahead = set(), [start]
    while ahead:
        new = edges[ahead.pop()] - seen
        seen |= new
        ahead.extend(new)
    return seen


def table_of_levels():
    """{module: (level, what it uses)}, as lib/README.md has it."""
    with open("lib/README.md") as file:
        rows = re.findall(r"^\| (\d+) \| ([\w, ]+) \|.*\| ([\w, ]+) \|$", file.read(), re.MULTILINE)
    return {name: (int(level), set() if uses == "nothing" else set(uses.split(", ")))
            for level, names, uses in rows for name in names.split(", ")}


def uses_declared(module):
    with open(f"lib/{module}/meson.build") as file:
        uses = re.search(r"^uses = \[([^]]*)\]", file.read(), re.MULTILINE)
    return set(re.findall(r"'(\w+)'", uses[1])) if uses else set()


def between_modules(sources, headers):
    table = table_of_levels()
    used = collections.defaultdict(set)
    for source in sources:
        for header in (headers[name] for name in source.includes if name in headers):
            if header.module != source.module:
                used[source.module].add(header.module)
                if table[header.module][0] >= table[source.module][0]:
                    yield f"upward: {source.path} includes {header.path}"
    for module in sorted({source.module for source in sources} - {"app"}):
        declared = uses_declared(module)
        if table.get(module, (0, None))[1] != declared:
            yield f"table: {module} uses {', '.join(sorted(declared)) or 'nothing'}"
        for other in used[module] - declared:
            yield f"undeclared: {module} includes of {other}"
        for other in declared - used[module]:
            yield f"unused: {module} declares {other}"


def needless(sources, headers):
    needs = collections.defaultdict(set)
    needed = set()
    for source in sources:
        for name in source.includes:
            needs[source.name].add(name)
            if name in headers and headers[name].module != source.module:
                needed.add(name)
    for name in list(needed):
        needed |= reach(needs, name)
    for header in headers.values():
        if "/include/" in header.path and header.name not in needed:
            yield f"needless: {header.path}"


def circles(sources, headers):
    """Within modules: one that spans several has an upward include."""
    edges = collections.defaultdict(set)
    for source in sources:
        for header in (headers[name] for name in source.includes if name in headers):
            if header.module == source.module and header.unit != source.unit:
                edges[source.module, source.unit].add((source.module, header.unit))
    reached = {start: reach(edges, start) for start in list(edges)}
    found = set()
    for start, others in reached.items():
        if start in others:
            units = sorted(other[1] for other in others if start in reached.get(other, ()))
            found.add(f"{start[0]}: {' '.join(units)}")
    for circle in found - set(CIRCLES):
        yield f"circle: {circle}"
    for circle in set(CIRCLES) - found:
        yield f"gone: {circle}"


os.chdir(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), ".."))
sources = [Source(path) for pattern in ("lib/*/*.[ch]", "lib/*/include/*.h", "app/*.[ch]")
           for path in glob.glob(pattern)]
headers = {source.name: source for source in sources if source.name.endswith(".h")}
findings = sorted([*between_modules(sources, headers), *needless(sources, headers),
                   *circles(sources, headers)])
print("\n".join(findings) or
      f"{len(sources)} files include as declared; {len(CIRCLES)} known circles")
sys.exit(bool(findings))
