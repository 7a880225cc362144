# SPDX-License-Identifier: BSD-3-Clause
"""Reads the documentation: sections of a Markdown file, the names that its definition lists
explain, and the commands in its code blocks."""

import re

from weir import ROOT

PAGES = ("conf/weir.conf.5.md", "app/weir.8.md", "scripts/weirctl.8.md")


def read(path):
    with open(f"{ROOT}/{path}") as file:
        return file.read()


def headings(text):
    """(level, title) of each; a # in a code block is none."""
    return [(len(level), title) for level, title in re.findall(r"^(#+) ([^\n]+)$", text, re.M)]


def section(text, title):
    """From a heading to the next one of its level or above."""
    for level, name in headings(text):
        if name == title:
            start = text.index(f"{'#' * level} {title}\n")
            rest = text[start:].split("\n", 1)[1]
            return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.M)[0]
    raise AssertionError(f"there is no section {title}")


def terms(text):
    """The lines that are explained by the next one, which begins with a colon."""
    return re.findall(r"^(\S[^\n]*)\n: ", text, re.M)


def names(text):
    """What stands in bold in these lines."""
    return [name for term in terms(text) for name in re.findall(r"\*\*(.+?)\*\*", term)]


def commands(text):
    """The lines of its code blocks, without the comments at their ends."""
    lines = re.findall(r"^ {4,}(\S[^\n]*)$", text, re.M)
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line) for line in lines) if line]
