# SPDX-License-Identifier: MIT
"""As much of JSON Schema (2020-12) as docs/reports.schema.json is written in.

    problems = schema.check(value, "memory")     against $defs/memory; a list of texts, empty if none
"""

import json
import re
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "docs" / "reports.schema.json"
KNOWN = {"$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items",
         "anyOf", "minimum", "maximum", "pattern", "description", "title"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def load():
    return json.loads(PATH.read_text())


def is_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def problems_at(value, rule, defs, place):
    unknown = set(rule) - KNOWN
    if unknown:
        raise ValueError(f"the schema uses {', '.join(sorted(unknown))}, which is not checked")
    if "$ref" in rule:
        yield from problems_at(value, defs[rule["$ref"].removeprefix("#/$defs/")], defs, place)
        return
    names = rule.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(is_type(value, name) for name in names):
        yield f"{place}: {json.dumps(value)[:60]} is no {' or '.join(names)}"
        return
    if "enum" in rule and value not in rule["enum"]:
        yield f"{place}: {value!r} is none of {rule['enum']}"
    if "const" in rule and value != rule["const"]:
        yield f"{place}: {value!r} is not {rule['const']!r}"
    if "minimum" in rule and is_type(value, "number") and value < rule["minimum"]:
        yield f"{place}: {value} is below {rule['minimum']}"
    if "pattern" in rule and isinstance(value, str) and not re.search(rule["pattern"], value):
        yield f"{place}: {value!r} is not like {rule['pattern']}"
    if "anyOf" in rule:
        all_found = [list(problems_at(value, each, defs, place)) for each in rule["anyOf"]]
        if all(all_found):
            yield min(all_found, key=len)[0]
    if isinstance(value, dict):
        properties = rule.get("properties", {})
        for key in rule.get("required", []):
            if key not in value:
                yield f"{place}: {key} is missing"
        for key, each in value.items():
            if key in properties:
                yield from problems_at(each, properties[key], defs, f"{place}.{key}")
            elif rule.get("additionalProperties", True) is False:
                yield f"{place}: {key} is not documented"
    if isinstance(value, list) and "items" in rule:
        for index, each in enumerate(value):
            yield from problems_at(each, rule["items"], defs, f"{place}[{index}]")


def check(value, name):
    defs = load()["$defs"]
    return list(problems_at(value, defs[name], defs, name))
