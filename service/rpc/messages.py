"""Messages of BuildKit and containerd, made at run time from tables of fields; no generated code, no build step.

Only what is used stands here: unknown fields are skipped both ways, so one table serves every version (BuildKit from 0.11
on). Names are ours; on the wire there are only numbers. Source: control.proto of moby/buildkit; content.proto,
images.proto and events.proto of containerd/api.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
}
Table = Mapping[str, Mapping[str, tuple[int, str]]]
"""Fields of each message: number and type. A type is a scalar, a message of the table, `repeated X` or `map X Y`."""


def define(package: str, table: Table) -> dict[str, Any]:
    """Message classes by name. The package only keeps the names of two tables apart."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, package, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in table}


def _add_field(message: Any, package: str, name: str, number: int, kind: str) -> None:
    shape, _, rest = kind.partition(" ")
    if shape == "map":
        # A map is a repeated message of key and value, marked as such.
        key, value = rest.split(" ")
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "key", 1, key)
        _add_field(entry, package, "value", 2, value)
        field = message.field.add(name=name, number=number, label=_FIELD.LABEL_REPEATED, type=_FIELD.TYPE_MESSAGE)
        field.type_name = f".{package}.{message.name}.{entry.name}"
        return
    single = rest if shape == "repeated" else kind
    field = message.field.add(name=name, number=number)
    field.label = _FIELD.LABEL_REPEATED if shape == "repeated" else _FIELD.LABEL_OPTIONAL
    if single in _SCALARS:
        field.type = _SCALARS[single]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{single}"


_TIME = {"seconds": (1, "int64"), "nanos": (2, "int32")}
_DESCRIPTOR = {
    "media_type": (1, "string"),
    "digest": (2, "string"),
    "size": (3, "int64"),
    "annotations": (5, "map string string"),
}

BUILDKIT = define(
    "enoent.buildkit",
    {
        "Time": _TIME,
        "Descriptor": _DESCRIPTOR,
        "HistoryRequest": {"active_only": (1, "bool"), "ref": (2, "string"), "early_exit": (3, "bool")},
        "HistoryEvent": {"type": (1, "int32"), "record": (2, "Record")},
        "Record": {
            "ref": (1, "string"),
            "frontend": (2, "string"),
            "frontend_attrs": (3, "map string string"),
            "exporters": (4, "repeated Exporter"),
            "error": (5, "Status"),
            "created_at": (6, "Time"),
            "completed_at": (7, "Time"),
            "result": (10, "Result"),
            "generation": (12, "int32"),
            "pinned": (14, "bool"),
        },
        "Exporter": {"type": (1, "string"), "attrs": (2, "map string string")},
        "Status": {"code": (1, "int32"), "message": (2, "string")},
        "Result": {"first": (1, "Descriptor"), "results": (3, "map int64 Descriptor")},
    },
)
CONTENT = define(
    "enoent.content",
    {"ReadRequest": {"digest": (1, "string"), "offset": (2, "int64"), "size": (3, "int64")}, "Piece": {"data": (2, "bytes")}},
)
CONTAINERD = define(
    "enoent.containerd",
    {
        "Descriptor": _DESCRIPTOR,
        "SubscribeRequest": {"filters": (1, "repeated string")},
        "Envelope": {"namespace": (2, "string"), "topic": (3, "string")},
        "ListRequest": {"filters": (1, "repeated string")},
        "ListAnswer": {"images": (1, "repeated Image")},
        "Image": {"name": (1, "string"), "target": (3, "Descriptor")},
    },
)
