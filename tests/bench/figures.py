# SPDX-License-Identifier: BSD-3-Clause
"""Medians with their spread, and the table that shows them."""

import statistics


class Figure:
    """The values of several rounds."""

    def __init__(self, values=()):
        self.values = list(values)

    def add(self, value):
        self.values.append(value)

    @property
    def median(self):
        return statistics.median(self.values)

    def text(self, form):
        """Median and range, as "24.1 (23.8-25.0)"; `form` is a number's format, say ".1f"."""
        return (f"{self.median:{form}} ({min(self.values):{form}}-{max(self.values):{form}})"
                if len(self.values) > 1 else f"{self.median:{form}}")


class Table:
    """Rows of one part: what, figure with spread, and beside it what it means or its limit."""

    def __init__(self, title):
        self.title, self.rows = title, []

    def add(self, what, figure, note="", good=None):
        """`good`: whether a limit is kept; None = there is none."""
        self.rows.append((what, figure, note + ("  <- not reached" if good is False else "")))

    def text(self):
        widths = [max(len(row[column]) for row in self.rows) for column in (0, 1)]
        lines = [f"  {what:<{widths[0]}}  {figure:>{widths[1]}}  {note}".rstrip()
                 for what, figure, note in self.rows]
        return "\n".join([self.title, *lines, ""])
