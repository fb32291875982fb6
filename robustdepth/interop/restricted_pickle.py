"""A pickle reader that runs nothing: it knows the few opcodes and names that weight files need, and refuses the rest.

`pickle.Unpickler` calls whatever a file asks for. Here the opcodes are interpreted one by one; a global is only a name
until the caller's table gives it a meaning, and only such names can be called.
"""

import collections
import mmap
import pickletools
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

from robustdepth.errors import UserError

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = (
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINSTRING",
    "SHORT_BINSTRING",
)
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = ("PROTO", "FRAME")


class Global(NamedTuple):
    """A name in the file together with the meaning that the caller gives it."""

    name: str
    meaning: Any


def load(
    file: BinaryIO | mmap.mmap, where: str, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Reads one pickle from `file`.

    Args:
      file: positioned at the pickle's start; left behind its end.
      where: what the file is called in error messages.
      names: "module.name" -> a function that may be called, or any other object that stands for the name.
      persistent: turns a persistent id into an object; None refuses them.

    Raises:
      UserError: for any other name or opcode, and for a damaged pickle.
    """
    try:
        return _run(file, where, names, persistent)
    except UserError:
        raise
    except Exception as error:  # every kind of nonsense on the stack ends here, as the file's fault
        raise UserError(f"{where} is damaged: its pickle cannot be read ({error}).") from error


def _run(
    file: BinaryIO | mmap.mmap, where: str, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None
) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any  # its type follows from the opcode
    for opcode, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]  # a map has read, readline and tell
        match opcode.name:
            case name if name in _IGNORED:
                pass
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _LITERALS:
                stack.append(argument)
            case name if name in _EMPTY:
                stack.append(_EMPTY[name]())
            case "MARK":
                stack.append(_MARK)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "TUPLE":
                stack.append(tuple(_pop_to_mark(stack)))
            case name if name in _TUPLES:
                count = _TUPLES[name]
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                item = stack.pop()
                _expect(stack[-1], list).append(item)
            case "APPENDS":
                items = _pop_to_mark(stack)
                _expect(stack[-1], list).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _expect(stack[-1], dict)[_expect(key, str | int)] = value
            case "SETITEMS":
                items = _pop_to_mark(stack)
                _expect(stack[-1], dict).update(_pairs(zip(items[::2], items[1::2], strict=True)))
            case "GLOBAL" | "STACK_GLOBAL":
                name = argument.replace(" ", ".", 1) if opcode.name == "GLOBAL" else f"{stack.pop(-2)}.{stack.pop()}"
                stack.append(_named(name, names, where))
            case "BINPERSID" if persistent is not None:
                stack.append(persistent(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_function(function, where)(*arguments))
            case "BUILD" if isinstance(stack[-2], collections.OrderedDict):
                stack.pop()  # the `_metadata` attribute of a state_dict: versions of modules, no tensors
            case "STOP":
                (result,) = stack
                return result
            case name:
                raise UserError(f"{where} is refused: its pickle uses the opcode {name}, which no weight file needs.")
    raise UserError(f"{where} is damaged: its pickle does not end.")


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    start = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _named(name: str, names: Mapping[str, Any], where: str) -> "Global":
    if name not in names:
        raise UserError(f"{where} is refused: it asks for {name!r}, which no weight file needs.")
    return Global(name, names[name])


def _function(found: Any, where: str) -> Callable[..., Any]:
    if not isinstance(found, Global) or not callable(found.meaning):
        raise UserError(f"{where} is refused: it calls {reprlib.repr(found)}, which is no function.")
    return found.meaning


def ordered_dict(items: Iterable[tuple[Any, Any]] = ()) -> collections.OrderedDict[str, Any]:
    """The meaning of `collections.OrderedDict`."""
    return collections.OrderedDict(_pairs(items))


def _pairs(items: Iterable[tuple[Any, Any]]) -> Iterable[tuple[Any, Any]]:
    """Keys must be strings, or numbers as in an optimizer's state: hashing nested tuples can take forever."""
    return ((_expect(key, str | int), value) for key, value in items)


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind} belongs")
    return value
