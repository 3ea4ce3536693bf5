# SPDX-License-Identifier: MIT
"""Prometheus' text format, version 0.0.4, as strictly as its own checker takes it, and a little more.

    problems = exposition.check(text)      a list of texts; empty if none
    exposition.check("")                   -> ["no metric"]

Beyond the grammar: one HELP and one TYPE a metric, before its samples, which follow each other; no sample
twice; the same labels in each sample of a metric; counters end in _total, and nothing else does; base units
only, at the end of a name; a HELP that says something; a line's end at the end.
"""

import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?Inf|NaN")
HELP = re.compile(r"(?:[^\\\n]|\\[\\n])*")
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
# What promtool would have in other units, and what is no unit at the end of a name.
OTHER_UNITS = re.compile(r"_(?:kib|mib|gib|kb|mb|gb|kilobytes|megabytes|ms|milliseconds|us|ns|nanoseconds|"
                         r"minutes|hours|percent|percentage|bits)(?:_|$)")
RESERVED = ("_count", "_sum", "_bucket")


class Metric:
    def __init__(self, name):
        self.name, self.help, self.type = name, None, None
        self.samples = {}
        self.labels = None


def labels_of(text):
    """({name: value}, rest) of what stands behind a `{`, or a text that says what is wrong."""
    found, position = {}, 0
    while text[position:position + 1] != "}":
        if found:
            if text[position:position + 1] != ",":
                return f"no comma between labels at {text[position:position + 20]!r}"
            position += 1
            if text[position:position + 1] == "}":
                return "a comma behind the last label"
        match = LABEL.match(text, position)
        if not match:
            return f"no label at {text[position:position + 20]!r}"
        if match[1] in found:
            return f"label {match[1]} twice"
        if match[1].startswith("__"):
            return f"label {match[1]} is reserved"
        found[match[1]], position = match[2], match.end()
    return found, text[position + 1:]


class Checker:
    def __init__(self):
        self.metrics, self.current, self.problems = {}, None, []

    def note(self, line, what):
        self.problems.append(f"{line[:70]!r}: {what}")

    def metric(self, line, name):
        """The metric a line is of; its lines stand together."""
        if self.current is None or self.current.name != name:
            if name in self.metrics:
                self.note(line, f"{name} began further above")
            self.current = self.metrics.setdefault(name, Metric(name))
        return self.current

    def comment(self, line):
        words = line.split(" ", 3)
        if len(words) < 4 or words[1] not in ("HELP", "TYPE"):
            return self.note(line, "neither HELP nor TYPE with a name and a text")
        _, kind, name, text = words
        if not NAME.fullmatch(name):
            return self.note(line, f"{name!r} is no name")
        metric = self.metric(line, name)
        if metric.samples:
            self.note(line, "behind samples")
        if kind == "HELP":
            if metric.help is not None or metric.type is not None:
                self.note(line, "HELP comes once, and first")
            if not HELP.fullmatch(text) or not text.strip():
                self.note(line, "a text that is empty or not escaped")
            metric.help = text
        else:
            if metric.type is not None:
                self.note(line, "TYPE twice")
            if text not in TYPES:
                self.note(line, f"there is no type {text!r}")
            metric.type = text

    def sample(self, line):
        match = NAME.match(line)
        if not match:
            return self.note(line, "no name")
        metric, rest, labels = self.metric(line, match[0]), line[match.end():], {}
        if rest.startswith("{"):
            found = labels_of(rest[1:])
            if isinstance(found, str):
                return self.note(line, found)
            labels, rest = found
        if not rest.startswith(" ") or not NUMBER.fullmatch(rest[1:]):
            return self.note(line, f"{rest!r} is no value")
        if metric.help is None or metric.type is None:
            self.note(line, "without HELP and TYPE")
        key = tuple(sorted(labels.items()))
        if key in metric.samples:
            self.note(line, "the same sample twice")
        if metric.labels is not None and metric.labels != set(labels):
            self.note(line, f"other labels than {sorted(metric.labels)}")
        metric.labels = set(labels)
        metric.samples[key] = rest[1:]
        if metric.type == "counter" and not (rest[1:2].isdigit()):
            self.note(line, "a counter below zero, or no number")

    def end(self):
        for metric in self.metrics.values():
            if not metric.samples:
                self.note(metric.name, "no sample")
            if (metric.type == "counter") != metric.name.endswith("_total"):
                self.note(metric.name, f"a {metric.type} of this name")
            if metric.name.endswith(RESERVED) or ":" in metric.name or metric.name != metric.name.lower():
                self.note(metric.name, "a name that is for histograms, rules, or not in snake case")
            if OTHER_UNITS.search(metric.name):
                self.note(metric.name, "no base unit")
            if metric.type is not None and metric.type in metric.name.split("_"):
                self.note(metric.name, "the type in the name")


def check(text):
    checker = Checker()
    if text and not text.endswith("\n"):
        checker.note(text[-70:], "no line's end at the end")
    for line in text.split("\n")[:-1]:
        if line != line.strip() or not line:
            checker.note(line, "empty, or blanks at its ends")
        elif line.startswith("#"):
            checker.comment(line)
        else:
            checker.sample(line)
    checker.end()
    return checker.problems or ([] if checker.metrics else ["no metric"])
