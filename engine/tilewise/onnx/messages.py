"""The messages of an ONNX file (onnx.proto), as far as they are read: names and attributes are those of `onnx`."""

from __future__ import annotations

from typing import ClassVar

from tilewise.onnx.protobuf import Message, link


class StringStringEntryProto(Message):
    FIELDS: ClassVar = {1: ("key", "string"), 2: ("value", "string")}


class OperatorSetIdProto(Message):
    FIELDS: ClassVar = {1: ("domain", "string"), 2: ("version", "int64")}


class Segment(Message):
    FIELDS: ClassVar = {1: ("begin", "int64"), 2: ("end", "int64")}


class TensorProto(Message):
    FIELDS: ClassVar = {
        1: ("dims", "repeated int64"),
        2: ("data_type", "int32"),
        3: ("segment", "Segment"),
        4: ("float_data", "numbers float32"),
        5: ("int32_data", "numbers int32"),
        6: ("string_data", "repeated bytes"),
        7: ("int64_data", "numbers int64"),
        8: ("name", "string"),
        9: ("raw_data", "view"),
        10: ("double_data", "numbers float64"),
        11: ("uint64_data", "numbers uint64"),
        13: ("external_data", "repeated StringStringEntryProto"),
        14: ("data_location", "enum 2"),
    }


class SparseTensorProto(Message):
    FIELDS: ClassVar = {
        1: ("values", "TensorProto"),
        2: ("indices", "TensorProto"),
        3: ("dims", "repeated int64"),
    }


class Dimension(Message):
    FIELDS: ClassVar = {1: ("dim_value", "int64"), 2: ("dim_param", "string")}
    ONEOF = frozenset({"dim_value", "dim_param"})


class TensorShapeProto(Message):
    FIELDS: ClassVar = {1: ("dim", "repeated Dimension")}


class TensorType(Message):
    FIELDS: ClassVar = {1: ("elem_type", "int32"), 2: ("shape", "TensorShapeProto")}


class ElementType(Message):
    """What a sequence or an optional holds."""

    FIELDS: ClassVar = {1: ("elem_type", "TypeProto")}


class MapType(Message):
    FIELDS: ClassVar = {1: ("key_type", "int32"), 2: ("value_type", "TypeProto")}


class OpaqueType(Message):
    FIELDS: ClassVar = {1: ("domain", "string"), 2: ("name", "string")}


class TypeProto(Message):
    FIELDS: ClassVar = {
        1: ("tensor_type", "TensorType"),
        4: ("sequence_type", "ElementType"),
        5: ("map_type", "MapType"),
        7: ("opaque_type", "OpaqueType"),
        8: ("sparse_tensor_type", "TensorType"),
        9: ("optional_type", "ElementType"),
    }
    ONEOF = frozenset(name for name, _ in FIELDS.values())


class ValueInfoProto(Message):
    FIELDS: ClassVar = {1: ("name", "string"), 2: ("type", "TypeProto")}


class AttributeProto(Message):
    FIELDS: ClassVar = {
        1: ("name", "string"),
        2: ("f", "float"),
        3: ("i", "int64"),
        4: ("s", "bytes"),
        5: ("t", "TensorProto"),
        6: ("g", "GraphProto"),
        7: ("floats", "repeated float"),
        8: ("ints", "repeated int64"),
        9: ("strings", "repeated bytes"),
        10: ("tensors", "repeated TensorProto"),
        11: ("graphs", "repeated GraphProto"),
        14: ("tp", "TypeProto"),
        15: ("type_protos", "repeated TypeProto"),
        20: ("type", "enum 15"),
        21: ("ref_attr_name", "string"),
        22: ("sparse_tensor", "SparseTensorProto"),
        23: ("sparse_tensors", "repeated SparseTensorProto"),
    }


class NodeProto(Message):
    FIELDS: ClassVar = {
        1: ("input", "repeated string"),
        2: ("output", "repeated string"),
        3: ("name", "string"),
        4: ("op_type", "string"),
        5: ("attribute", "repeated AttributeProto"),
        7: ("domain", "string"),
        8: ("overload", "string"),
    }


class GraphProto(Message):
    FIELDS: ClassVar = {
        1: ("node", "repeated NodeProto"),
        2: ("name", "string"),
        5: ("initializer", "repeated TensorProto"),
        10: ("doc_string", "string"),
        11: ("input", "repeated ValueInfoProto"),
        12: ("output", "repeated ValueInfoProto"),
        13: ("value_info", "repeated ValueInfoProto"),
        15: ("sparse_initializer", "repeated SparseTensorProto"),
    }


class FunctionProto(Message):
    FIELDS: ClassVar = {
        1: ("name", "string"),
        4: ("input", "repeated string"),
        5: ("output", "repeated string"),
        6: ("attribute", "repeated string"),
        7: ("node", "repeated NodeProto"),
        9: ("opset_import", "repeated OperatorSetIdProto"),
        10: ("domain", "string"),
        11: ("attribute_proto", "repeated AttributeProto"),
        13: ("overload", "string"),
    }


class ModelProto(Message):
    FIELDS: ClassVar = {
        1: ("ir_version", "int64"),
        2: ("producer_name", "string"),
        3: ("producer_version", "string"),
        4: ("domain", "string"),
        5: ("model_version", "int64"),
        6: ("doc_string", "string"),
        7: ("graph", "GraphProto"),
        8: ("opset_import", "repeated OperatorSetIdProto"),
        14: ("metadata_props", "repeated StringStringEntryProto"),
        25: ("functions", "repeated FunctionProto"),
    }


link({cls.__name__: cls for cls in Message.__subclasses__()})
