"""Values: classes whose fields are frozen, slotted and given by name, as a dataclass's are, without its cost.

A dataclass is compiled when its module is imported: 0.5 ms each, and `inspect` before the first. A sandbox
starts in 6 ms and has twenty kinds of values, so that their compilation took longer than what they describe.
Here one set of methods serves all classes. The module `dataclasses` is loaded when somebody asks for what it
knows of a class (`fields`, `asdict`), and finds it as of any dataclass.
"""

from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar, dataclass_transform

_Kind = TypeVar("_Kind", bound=type)
_Value = TypeVar("_Value")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(kind: _Kind) -> _Kind:
    """Make a class with annotated fields one of values; a default must be immutable."""
    fields = tuple(kind.__annotations__)
    space: dict[str, Any] = dict(kind.__dict__)
    for name in ("__dict__", "__weakref__"):
        space.pop(name, None)
    defaults = {name: space.pop(name) for name in fields if name in space}
    space |= _METHODS
    space |= {"__slots__": fields, "__defaults__": defaults, "__dataclass_fields__": _Fields()}
    made: _Kind = type(kind)(kind.__name__, kind.__bases__, space)
    return made


def fields_of(self: object) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a value: name and value."""
    return ((name, getattr(self, name)) for name in type(self).__slots__)  # type: ignore[attr-defined] # a value


def replace(item: _Value, /, **changes: Any) -> _Value:
    """Return a value that differs in these fields: `dataclasses.replace`, without loading that."""
    return type(item)(**{**dict(fields_of(item)), **changes})


def _init(self: Any, /, **given: Any) -> None:
    kind = type(self)
    values = {**kind.__defaults__, **given}
    if len(values) != len(kind.__slots__) or values.keys() != set(kind.__slots__):
        wrong = sorted(values.keys() ^ set(kind.__slots__))
        raise TypeError(f"{kind.__name__}: missing or unknown: {', '.join(wrong)}")
    put = object.__setattr__
    for name, item in values.items():
        put(self, name, item)


def _equal(self: object, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return tuple(fields_of(self)) == tuple(fields_of(other))


def _hash(self: object) -> int:
    return hash(tuple(fields_of(self)))


def _repr(self: object) -> str:
    words = ", ".join(f"{name}={item!r}" for name, item in fields_of(self))
    return f"{type(self).__qualname__}({words})"


def _frozen(self: object, name: str, *_: object) -> NoReturn:
    raise AttributeError(f"{type(self).__name__}.{name}: a value does not change")


def _reduce(self: object) -> tuple[object, ...]:
    return _again, (type(self), dict(fields_of(self)))


def _again(kind: Any, given: dict[str, Any]) -> object:
    return kind(**given)


_METHODS = {
    "__init__": _init,
    "__eq__": _equal,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _frozen,
    "__delattr__": _frozen,
    "__reduce__": _reduce,
}


class _Fields:
    """What `dataclasses` knows of a class, made when it is asked for."""

    def __get__(self, _: object, kind: Any) -> dict[str, Any]:
        from dataclasses import field, make_dataclass

        defaults: dict[str, Any] = {
            name: field(default_factory=lambda item=item: item)  # type: ignore[misc] # bound now
            for name, item in kind.__defaults__.items()
        }
        words = [(name, kind.__annotations__[name], defaults.get(name, field())) for name in kind.__slots__]
        made: Any = make_dataclass(kind.__name__, words, kw_only=True)
        found: dict[str, Any] = made.__dataclass_fields__
        kind.__dataclass_fields__ = found
        return found
