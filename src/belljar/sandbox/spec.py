"""A sandbox as text: JSON that can be read, handed to somebody else, changed, and entered.

The object is the sandbox, its `operations` a list of objects whose key `do` says of which kind they are. A
key `policy`, where there is one, is what a supervisor does besides: without it whoever enters the sandbox of
a failed build would find another clock and another machine than the build did.

What is read may be anybody's: every name and every plain type is checked, and said by name, before a value is
made of it. What makes no sense beyond that is for `faults` to say.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any

from belljar.sandbox.operations import KINDS, Operation, Sandbox
from belljar.sandbox.policy import Policy, Trace
from belljar.sandbox.values import fields_of, value

_PLAIN = {str, int, bool, NoneType}


@value
class Spec:
    """A sandbox, and what its supervisor does (None: there is no supervisor)."""

    sandbox: Sandbox
    policy: Policy | None = None

    def describe(self) -> str:
        """Say what it consists of, one line each."""
        more = [] if self.policy is None else [self.policy.describe()]
        return "\n".join([self.sandbox.describe(), *more])

    def to_json(self) -> str:
        """Return it as JSON, for `python -m belljar.sandbox`."""
        import json

        box = self.sandbox
        operations = [{"do": type(item).__name__.lower(), **dict(fields_of(item))} for item in box.operations]
        more = {} if self.policy is None else {"policy": dict(fields_of(self.policy))}
        whole = {**dict(fields_of(box)), "operations": operations, "env": dict(box.env), **more}
        return json.dumps(whole, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """Read what `to_json` wrote; raises ValueError, naming the key, where it did not."""
        words = _object(text)
        policy = _policy(words.pop("policy")) if "policy" in words else None
        return cls(sandbox=_sandbox(words), policy=policy)


def _object(text: str) -> dict[str, Any]:
    import json

    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("sandbox: nested too deeply") from None
    if type(found) is not dict or type(found.get("operations")) is not list:
        raise ValueError("sandbox: not an object with a list `operations`")
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("sandbox: holds half of a character (\\ud800 to \\udfff)") from None
    return found


def _sandbox(words: dict[str, Any]) -> Sandbox:
    env = words.get("env", {})
    if not isinstance(env, dict) or not all(isinstance(item, str) for item in env.values()):
        raise ValueError("env: not an object of strings")
    operations = tuple(_operation(n, item) for n, item in enumerate(words["operations"]))
    return Sandbox(**_checked(Sandbox, words, "sandbox") | {"operations": operations})


def _operation(number: int, item: object) -> Operation:
    where = f"operations[{number}]"
    if not isinstance(item, dict) or item.get("do") not in tuple(KINDS):
        raise ValueError(f"{where}: `do` is none of {', '.join(KINDS)}")
    kind = KINDS[item["do"]]
    return kind(**_checked(kind, {name: item[name] for name in item if name != "do"}, where))


def _policy(words: object) -> Policy:
    if type(words) is not dict:
        raise ValueError("policy: not an object")
    trace = words.get("trace", Trace.ASKED)
    if trace not in tuple(Trace):
        raise ValueError(f"policy.trace: none of {', '.join(Trace)}")
    fence = None if words.get("fence") is None else _strings(words, "fence")
    more = {"denied": _strings(words, "denied"), "fence": fence, "trace": Trace(trace)}
    return Policy(**_checked(Policy, words, "policy") | more)


def _strings(words: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = words.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"policy.{name}: not a list of strings")
    return tuple(found)


def _checked(kind: type, words: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the arguments of a constructor once their names and plain types are right."""
    from dataclasses import MISSING, fields

    known = {item.name: item for item in fields(kind)}
    for name, given in words.items():
        if name not in known:
            raise ValueError(f"{where}: unknown key {name!r}")
        wanted: Any = known[name].type
        kinds = wanted.__args__ if isinstance(wanted, UnionType) else (wanted,)
        if _PLAIN.issuperset(kinds) and type(given) not in kinds:
            raise ValueError(f"{where}.{name}: not of type {getattr(wanted, '__name__', wanted)}")
    for name, item in known.items():
        if name not in words and item.default_factory is MISSING:
            raise ValueError(f"{where}: no {name!r}")
    return dict(words)
