"""A record as a row and back: one mapping for all record classes, worked out once for each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from enum import Enum
from operator import attrgetter, itemgetter
from typing import Any, get_type_hints

import orjson
from pydantic import TypeAdapter
from sqlalchemy import Table

from headframe.store.schema import bare_type, is_json, key_of, tables


def kept_text(value: str) -> str:
    """The text as every database can hold it: U+0000 and lone surrogates become U+FFFD."""
    if type(value) is not str:
        value = str.__str__(value)  # a member of an enumeration: the plain text of it
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def to_json(value: Any) -> str:
    """JSON text. The slow way round is for what orjson refuses: integers beyond 64 bits and lone surrogates."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return kept_text(json.dumps(value, default=dataclasses.asdict, ensure_ascii=False, separators=(",", ":")))


def _optional(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else encode(value)


def _encoder(bare: Any, optional: bool) -> Callable[[Any], Any] | None:
    if is_json(bare):
        encode: Callable[[Any], Any] = to_json
    elif issubclass(bare, Enum) and issubclass(bare, str):
        encode = str.__str__  # the plain text of a member; ours, so that it can be kept
    elif issubclass(bare, str):
        encode = kept_text
    else:
        return None
    return _optional(encode) if optional else encode


def _decoder(bare: Any, optional: bool) -> Callable[[Any], Any] | None:
    if is_json(bare):
        decode: Callable[[Any], Any] = TypeAdapter(bare).validate_json
    elif issubclass(bare, Enum):
        decode = bare
    else:
        return None
    return _optional(decode) if optional else decode


_PLAIN = {str}


class Mapping:
    """How records of one class are kept. `names` are its columns in the order of the tuples of `encode`."""

    def __init__(self, kind: type[Any], table: Table) -> None:
        self.kind, self.table = kind, table
        hints = {name: bare_type(hint) for name, hint in get_type_hints(kind).items()}
        self.names = tuple(field.name for field in dataclasses.fields(kind))
        self.key = table.c[key_of(kind)]
        self.versioned = "version" in self.names
        self.json_names = frozenset(name for name in self.names if is_json(hints[name][0]))
        self._values: Callable[[Any], tuple[Any, ...]] = attrgetter(*self.names)
        encoders = [(place, _encoder(*hints[name])) for place, name in enumerate(self.names)]
        self._encoders = tuple((place, encode) for place, encode in encoders if encode not in (None, kept_text))
        places = [place for place, encode in encoders if encode is kept_text]
        self._texts: Callable[[Any], tuple[str, ...]] = itemgetter(*places, places[0])  # always a tuple: of two or more
        self._places = tuple(places)
        decoders = [_decoder(*hints[name]) for name in self.names]
        self._decoders = tuple((place, decode) for place, decode in enumerate(decoders) if decode is not None)

    def encode(self, record: Any) -> tuple[Any, ...]:
        """The values to bind, in the order of `names`."""
        row = list(self._values(record))
        for place, encode in self._encoders:
            row[place] = encode(row[place])
        texts = self._texts(row)
        whole = "".join(texts)  # nearly all texts can be kept as they are, which one look at them all together tells
        if not whole.isascii() or "\0" in whole or set(map(type, texts)) != _PLAIN:
            for place in self._places:
                row[place] = kept_text(row[place])
        return tuple(row)

    def decode(self, row: Sequence[Any]) -> Any:
        """The record that was written as this row."""
        values = list(row)
        for place, decode in self._decoders:
            values[place] = decode(values[place])
        return self.kind(*values)


_mappings: dict[type[Any], Mapping] = {}


def mapping_of(kind: type[Any]) -> Mapping:
    """The mapping of a record class; `KeyError` for a class that is not kept."""
    mapping = _mappings.get(kind)
    if mapping is None:
        mapping = _mappings[kind] = Mapping(kind, tables[kind])
    return mapping
