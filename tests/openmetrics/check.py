#!/usr/bin/env python3
"""Checks the operator's /metrics with a parser of OpenMetrics that shares no code with ours.

    check.py FILE…

The parser rejects what the specification forbids: wrong suffixes and units, interleaved families, duplicate series,
inconsistent histograms. `make openmetrics` runs it with its dependencies.
"""

import pathlib
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def check(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    families = list(text_string_to_metric_families(text))
    for family in families:
        if not family.documentation or family.type == "unknown":
            sys.exit(f"{family.name} has no type or no help text")
        if not family.samples:
            sys.exit(f"{family.name} has no series")
    samples = sum(len(family.samples) for family in families)
    print(f"{pathlib.Path(path).name}: {len(families)} metrics with {samples} samples are OpenMetrics")


for argument in sys.argv[1:]:
    check(argument)
