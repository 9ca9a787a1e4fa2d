"""The fast validator against the reference, over every request and response of every version.

Payloads are generated from the schemas, always the same ones: valid ones (smallest, fullest and random, with values at
their limits) and single mutations of them that break exactly one keyword.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.schemas import Validator, load_schema, reference_validator, schema_set
from ocppgw.ocpp.versions import V16, V21, V201, ErrorCodes, OcppVersion

RANDOM_PAYLOADS = 2  # per schema, beside the smallest and the fullest
PER_KEYWORD = 4  # mutations per schema and keyword, of all that are possible

DATE_TIMES = (
    *("2026-11-23T23:07:07Z", "2026-11-23T23:07:07.123Z", "2024-02-29T00:00:00+01:00", "1970-01-01T00:00:00-00:00"),
    *("9999-12-31T23:59:59.999999999Z", "2026-11-23t23:07:07z"),
)
NO_DATE_TIMES = (
    *("yesterday", "", "2026-11-23", "2026-11-23 23:07:07Z", "2026-11-23T23:07:07", "2026-02-29T00:00:00Z"),
    *("2026-13-01T00:00:00Z", "2026-11-23T24:00:00Z", "2026-11-23T23:07:07+0100", "2026-11-23T23:07:07.Z"),
)
TEXT = 'aZ09 _-:é漢😀"\\\n'
COMMON = {"type", "required", "additionalProperties", "enum", "maxLength", "format"}
LIMITS = {"minItems", "maxItems", "minimum", "maximum"}
BY_TYPE: dict[str, Any] = {"string": "x", "integer": 7, "number": 7.5, "boolean": True, "array": [], "object": {}}


class Mutation(NamedTuple):
    """How to break one keyword at one place of a payload."""

    keyword: str
    path: tuple[Any, ...]
    change: Callable[[Any], Any]

    def applied(self, payload: dict[str, Any]) -> Any:
        if not self.path:
            return self.change(payload)
        mutated = deepcopy(payload)
        parent = _at(mutated, self.path[:-1])
        parent[self.path[-1]] = self.change(parent[self.path[-1]])
        return mutated


class Generator:
    """Payloads of one schema."""

    def __init__(self, schema: dict[str, Any], seed: str) -> None:
        self.schema = schema
        self.integer_floats = "draft-04" not in schema["$schema"]
        self.random = random.Random(seed)

    def payload(self, share: float) -> dict[str, Any]:
        """A valid payload with this share of its optional fields."""
        payload: dict[str, Any] = self._value(self.schema, share)
        return payload

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        reference = node.get("$ref")
        return self.schema["definitions"][reference.rpartition("/")[2]] if reference else node

    def _value(self, node: dict[str, Any], share: float) -> Any:
        node = self._resolved(node)
        if "enum" in node:
            return self.random.choice(node["enum"])
        kind = node.get("type")
        if kind is None:  # DataTransfer.data of 2.x: anything goes
            return self.random.choice([None, {"deep": [1, {"er": None}]}, "text", [], 1.5, False])
        makers: dict[str, Callable[[dict[str, Any], float], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _node, _share: self.random.random() < 0.5,
        }
        return makers[kind](node, share)

    def _object(self, node: dict[str, Any], share: float) -> dict[str, Any]:
        required = set(node.get("required", ()))
        made = {
            name: self._value(child, share)
            for name, child in node.get("properties", {}).items()
            if name in required or self.random.random() < share
        }
        if node.get("additionalProperties", True) is not False:  # customData is open at every level
            made["vendorsOwn"] = {"a": [1, None, {"b": 0.1}]}
        return made

    def _array(self, node: dict[str, Any], share: float) -> list[Any]:
        least = node.get("minItems", 0)
        most = min(node.get("maxItems", least + 2), least + 2)
        return [self._value(node["items"], share) for _ in range(self.random.randint(least, most))]

    def _string(self, node: dict[str, Any], _share: float) -> str:
        if node.get("format") == "date-time":
            return self.random.choice(DATE_TIMES)
        if node.get("format") == "uri":
            return self.random.choice(("ftp://user@example.org/firmware.bin", "https://example.org:8443/a?b=c"))
        most = node.get("maxLength", 40)
        length = self.random.choice((node.get("minLength", 0), most, self.random.randint(0, most)))
        return "".join(self.random.choices(TEXT, k=length))

    def _integer(self, node: dict[str, Any], _share: float) -> int | float:
        least, most = node.get("minimum", -(2**31)), node.get("maximum", 2**31 - 1)
        value = self.random.choice((least, most, self.random.randint(int(least), int(most))))
        # The limits of integers are written 0.0 in the files; draft 6 takes such a float for an integer.
        return float(value) if self.integer_floats and self.random.random() < 0.2 else int(value)

    def _number(self, node: dict[str, Any], _share: float) -> int | float:
        if "multipleOf" in node:
            return self.random.randint(0, 100_000) / 10
        least, most = node.get("minimum", -1e6), node.get("maximum", 1e6)
        return self.random.choice((least, most, int(most), self.random.uniform(least, most)))

    def mutations(self, payload: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Keyword and payload: a few of the ways known here to break each keyword somewhere in the payload."""
        places = self._places(self.schema, payload, ())
        known = [
            Mutation(keyword, path, change)
            for path, node in places
            for keyword, change in self._breaks(node, _at(payload, path))
        ]
        self.random.shuffle(known)
        tried: Counter[str] = Counter()
        for mutation in known:
            tried[mutation.keyword] += 1
            if tried[mutation.keyword] <= PER_KEYWORD:
                yield mutation.keyword, mutation.applied(payload)

    def _places(self, node: dict[str, Any], value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        node = self._resolved(node)
        yield path, node
        if isinstance(value, dict):
            for name, child in node.get("properties", {}).items():
                if name in value:
                    yield from self._places(child, value[name], (*path, name))
        elif isinstance(value, list):
            for index, item in enumerate(value[:1]):
                yield from self._places(node.get("items", {}), item, (*path, index))

    def _breaks(self, node: dict[str, Any], value: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        kind = node.get("type")
        if value is not None and kind and node is not self.schema:
            yield "type", lambda _: None
            for other, example in BY_TYPE.items():
                if other != kind and not (kind == "number" and other == "integer"):
                    yield "type", lambda _, example=example: deepcopy(example)
        for name in node.get("required", ()):
            yield "required", lambda old, name=name: {key: kept for key, kept in old.items() if key != name}
        if node.get("additionalProperties") is False and isinstance(value, dict):
            yield "additionalProperties", lambda old: {**old, "unheardOf": 1}
        if "enum" in node:
            yield "enum", lambda old: old + "?"
            yield "enum", lambda old: old.swapcase()
        yield from self._breaks_of_limits(node)

    def _breaks_of_limits(self, node: dict[str, Any]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        if "maxLength" in node and "format" not in node:
            yield "maxLength", lambda _: "😀" * (node["maxLength"] + 1)
        if node.get("format") == "date-time":
            yield from (("format", lambda _, text=text: text) for text in NO_DATE_TIMES)
        if "minItems" in node:
            yield "minItems", lambda old: old[: node["minItems"] - 1]
        if "maxItems" in node:
            yield "maxItems", lambda old: (old * (node["maxItems"] + 1))[: node["maxItems"] + 1]
        if "minimum" in node:
            yield "minimum", lambda _: int(node["minimum"]) - 1
        if "maximum" in node:
            yield "maximum", lambda _: int(node["maximum"]) + 1
        if "multipleOf" in node:
            yield "multipleOf", lambda _: self.random.randint(0, 1000) / 10 + 0.05


def _at(payload: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        payload = payload[part]
    return payload


def expected_code(codes: ErrorCodes, keyword: str) -> str:
    if keyword in ("required", "minItems", "maxItems"):
        return codes.occurrence
    return {"type": codes.type_constraint, "additionalProperties": codes.formation}.get(
        keyword, codes.property_constraint
    )


class Differential(SynchronousTestCase):
    def compare(self, version: OcppVersion, action: str, validator: Validator, *, response: bool) -> set[str]:
        """Compare both validators on one schema; the keywords that were broken."""
        where = f"{version.name} {action} {'response' if response else 'request'}"
        reference = reference_validator(version, action, response=response)
        generator = Generator(load_schema(version, action, response=response), where)
        payloads = [generator.payload(share) for share in (0.0, 1.0, *([0.5] * RANDOM_PAYLOADS))]
        for payload in payloads:
            self.assertTrue(reference.is_valid(payload), f"{where}: the generator is wrong: {payload}")
            self.assertTrue(validator.is_valid(payload), f"{where}: {payload}")
        broken = set()
        for keyword, payload in generator.mutations(payloads[1]):
            self.assertFalse(reference.is_valid(payload), f"{where}: {keyword} not broken: {payload}")
            self.assertFalse(validator.is_valid(payload), f"{where}: {keyword}: {payload}")
            self.assert_explained(version, validator, keyword, payload)
            broken.add(keyword)
        return broken

    def assert_explained(self, version: OcppVersion, validator: Validator, keyword: str, payload: Any) -> None:
        violation = validator.explain(payload)
        self.assertEqual(violation.code, expected_code(version.codes, keyword), f"{keyword}: {violation}: {payload}")
        self.assertEqual(violation, validator.explain(_reordered(payload)))
        self.assertLessEqual(len(violation.description), 255)

    def check(self, version: OcppVersion) -> set[str]:
        schemas = schema_set(version)
        broken = set()
        for action, validator in schemas.requests.items():
            broken |= self.compare(version, action, validator, response=False)
        for action, validator in schemas.responses.items():
            broken |= self.compare(version, action, validator, response=True)
        return broken

    def test_1_6(self) -> None:
        self.assertEqual(self.check(V16), COMMON | {"minItems", "multipleOf"})

    def test_2_0_1(self) -> None:
        self.assertEqual(self.check(V201), COMMON | LIMITS)

    def test_2_1(self) -> None:
        self.assertEqual(self.check(V21), COMMON | LIMITS)


def _reordered(value: Any) -> Any:
    """The same JSON value with the members of every object in another order."""
    if isinstance(value, dict):
        return {name: _reordered(value[name]) for name in reversed(value)}
    return [_reordered(item) for item in value] if isinstance(value, list) else value
