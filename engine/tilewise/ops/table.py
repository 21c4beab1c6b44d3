"""The table of operators: one row an operator, the only place where classes are bound to names.

A row names module and class, so that a process imports the operators of the models that it loads, and no others.
"""

from __future__ import annotations

import importlib
from functools import cache

from tilewise.errors import Unsupported, UnsupportedError
from tilewise.graph import Node
from tilewise.ops.base import Op

TABLE: dict[tuple[str, str], str | type[Op]] = {
    # convolution
    ("", "Conv"): "conv.Conv",
    ("", "ConvTranspose"): "transposed.ConvTranspose",
    ("", "DeformConv"): "deform.DeformConv",
    ("tilewise", "FusedConv"): "conv.FusedConv",
    # matrix products
    ("", "Einsum"): "linalg.Einsum",
    ("", "Gemm"): "linalg.Gemm",
    ("", "MatMul"): "linalg.MatMul",
    ("tilewise", "FusedGemm"): "linalg.FusedGemm",
    ("tilewise", "FusedMatMul"): "linalg.FusedMatMul",
    # movement
    ("", "DepthToSpace"): "movement.DepthToSpace",
    ("", "Expand"): "movement.Expand",
    ("", "Identity"): "movement.Identity",
    ("", "Slice"): "movement.Slice",
    ("", "SpaceToDepth"): "movement.SpaceToDepth",
    ("", "Split"): "movement.Split",
    ("", "Tile"): "movement.Tile",
    ("", "Transpose"): "movement.Transpose",
    ("tilewise", "ChannelShuffle"): "movement.ChannelShuffle",
    # shape
    ("", "Flatten"): "shape.Flatten",
    ("", "Reshape"): "shape.Reshape",
    ("", "Shape"): "shape.Shape",
    ("", "Size"): "shape.Size",
    ("", "Squeeze"): "shape.Squeeze",
    ("", "Unsqueeze"): "shape.Unsqueeze",
    # join
    ("", "Concat"): "join.Concat",
    # pad
    ("", "CenterCropPad"): "pad.CenterCropPad",
    ("", "Pad"): "pad.Pad",
    # index
    ("", "Compress"): "index.Compress",
    ("", "Gather"): "index.Gather",
    ("", "GatherElements"): "index.GatherElements",
    ("", "GatherND"): "index.GatherND",
    ("", "NonZero"): "index.NonZero",
    ("", "OneHot"): "index.OneHot",
    ("", "ReverseSequence"): "index.ReverseSequence",
    ("", "Unique"): "index.Unique",
    # scatter
    ("", "Col2Im"): "scatter.Col2Im",
    ("", "Scatter"): "scatter.Scatter",
    ("", "ScatterElements"): "scatter.ScatterElements",
    ("", "ScatterND"): "scatter.ScatterND",
    ("", "TensorScatter"): "scatter.TensorScatter",
    # generate
    ("", "Bernoulli"): "generate.Bernoulli",
    ("", "Constant"): "generate.Constant",
    ("", "ConstantOfShape"): "generate.ConstantOfShape",
    ("", "EyeLike"): "generate.EyeLike",
    ("", "Multinomial"): "generate.Multinomial",
    ("", "RandomNormal"): "generate.RandomNormal",
    ("", "RandomNormalLike"): "generate.RandomNormalLike",
    ("", "RandomUniform"): "generate.RandomUniform",
    ("", "RandomUniformLike"): "generate.RandomUniformLike",
    ("", "Range"): "generate.Range",
    # matrix
    ("", "Det"): "matrix.Det",
    ("", "Trilu"): "matrix.Trilu",
    # text
    ("", "RegexFullMatch"): "text.RegexFullMatch",
    ("", "StringConcat"): "text.StringConcat",
    ("", "StringNormalizer"): "text.StringNormalizer",
    ("", "StringSplit"): "text.StringSplit",
    ("", "TfIdfVectorizer"): "tfidf.TfIdfVectorizer",
    # images
    ("", "ImageDecoder"): "image.ImageDecoder",
    # control
    ("", "If"): "control.If",
    ("", "Loop"): "control.Loop",
    ("", "Scan"): "control.Scan",
    ("", "SequenceMap"): "control.SequenceMap",
    # sequence
    ("", "ConcatFromSequence"): "sequence.ConcatFromSequence",
    ("", "Optional"): "sequence.Optional",
    ("", "OptionalGetElement"): "sequence.OptionalGetElement",
    ("", "OptionalHasElement"): "sequence.OptionalHasElement",
    ("", "SequenceAt"): "sequence.SequenceAt",
    ("", "SequenceConstruct"): "sequence.SequenceConstruct",
    ("", "SequenceEmpty"): "sequence.SequenceEmpty",
    ("", "SequenceErase"): "sequence.SequenceErase",
    ("", "SequenceInsert"): "sequence.SequenceInsert",
    ("", "SequenceLength"): "sequence.SequenceLength",
    ("", "SplitToSequence"): "sequence.SplitToSequence",
    # pool
    ("", "AveragePool"): "pool.AveragePool",
    ("", "GlobalAveragePool"): "pool.GlobalAveragePool",
    ("", "GlobalLpPool"): "pool.GlobalLpPool",
    ("", "GlobalMaxPool"): "pool.GlobalMaxPool",
    ("", "LpPool"): "pool.LpPool",
    ("", "MaxPool"): "pool.MaxPool",
    ("", "MaxUnpool"): "pool.MaxUnpool",
    # activations
    ("", "Celu"): "activation.Celu",
    ("", "Elu"): "activation.Elu",
    ("", "Gelu"): "activation.Gelu",
    ("", "HardSigmoid"): "activation.HardSigmoid",
    ("", "HardSwish"): "activation.HardSwish",
    ("", "LeakyRelu"): "activation.LeakyRelu",
    ("", "Mish"): "activation.Mish",
    ("", "PRelu"): "activation.PRelu",
    ("", "Relu"): "activation.Relu",
    ("", "Selu"): "activation.Selu",
    ("", "Shrink"): "activation.Shrink",
    ("", "Sigmoid"): "activation.Sigmoid",
    ("", "Softplus"): "activation.Softplus",
    ("", "Softsign"): "activation.Softsign",
    ("", "Swish"): "activation.Swish",
    ("", "Tanh"): "activation.Tanh",
    ("", "ThresholdedRelu"): "activation.ThresholdedRelu",
    # functions
    ("", "Abs"): "unary.Abs",
    ("", "Acos"): "unary.Acos",
    ("", "Acosh"): "unary.Acosh",
    ("", "Asin"): "unary.Asin",
    ("", "Asinh"): "unary.Asinh",
    ("", "Atan"): "unary.Atan",
    ("", "Atanh"): "unary.Atanh",
    ("", "BitwiseNot"): "unary.BitwiseNot",
    ("", "Ceil"): "unary.Ceil",
    ("", "Cos"): "unary.Cos",
    ("", "Cosh"): "unary.Cosh",
    ("", "Erf"): "unary.Erf",
    ("", "Exp"): "unary.Exp",
    ("", "Floor"): "unary.Floor",
    ("", "IsInf"): "unary.IsInf",
    ("", "IsNaN"): "unary.IsNaN",
    ("", "Log"): "unary.Log",
    ("", "Neg"): "unary.Neg",
    ("", "Not"): "unary.Not",
    ("", "Reciprocal"): "unary.Reciprocal",
    ("", "Round"): "unary.Round",
    ("", "Sign"): "unary.Sign",
    ("", "Sin"): "unary.Sin",
    ("", "Sinh"): "unary.Sinh",
    ("", "Sqrt"): "unary.Sqrt",
    ("", "Tan"): "unary.Tan",
    # arithmetic
    ("", "Add"): "arithmetic.Add",
    ("", "BitShift"): "arithmetic.BitShift",
    ("", "BitwiseAnd"): "arithmetic.BitwiseAnd",
    ("", "BitwiseOr"): "arithmetic.BitwiseOr",
    ("", "BitwiseXor"): "arithmetic.BitwiseXor",
    ("", "Div"): "arithmetic.Div",
    ("", "Max"): "arithmetic.Max",
    ("", "Mean"): "arithmetic.Mean",
    ("", "Min"): "arithmetic.Min",
    ("", "Mod"): "arithmetic.Mod",
    ("", "Mul"): "arithmetic.Mul",
    ("", "Pow"): "arithmetic.Pow",
    ("", "Sub"): "arithmetic.Sub",
    ("", "Sum"): "arithmetic.Sum",
    # comparison and logic
    ("", "And"): "logic.And",
    ("", "Equal"): "logic.Equal",
    ("", "Greater"): "logic.Greater",
    ("", "GreaterOrEqual"): "logic.GreaterOrEqual",
    ("", "Less"): "logic.Less",
    ("", "LessOrEqual"): "logic.LessOrEqual",
    ("", "Or"): "logic.Or",
    ("", "Xor"): "logic.Xor",
    # selection
    ("", "Clip"): "select.Clip",
    ("", "Where"): "select.Where",
    # recurrent
    ("", "GRU"): "recurrent.GRU",
    ("", "LSTM"): "recurrent.LSTM",
    ("", "RNN"): "recurrent.RNN",
    # quantization
    ("", "DequantizeLinear"): "quantize.DequantizeLinear",
    ("", "DynamicQuantizeLinear"): "quantize.DynamicQuantizeLinear",
    ("", "QuantizeLinear"): "quantize.QuantizeLinear",
    # integer
    ("", "ConvInteger"): "integer.ConvInteger",
    ("", "MatMulInteger"): "integer.MatMulInteger",
    ("", "QLinearConv"): "integer.QLinearConv",
    ("", "QLinearMatMul"): "integer.QLinearMatMul",
    # signal
    ("", "BlackmanWindow"): "signal.BlackmanWindow",
    ("", "DFT"): "signal.DFT",
    ("", "HammingWindow"): "signal.HammingWindow",
    ("", "HannWindow"): "signal.HannWindow",
    ("", "MelWeightMatrix"): "signal.MelWeightMatrix",
    ("", "STFT"): "signal.STFT",
    # attention
    ("", "Attention"): "attention.Attention",
    ("", "CausalConvWithState"): "causal_conv.CausalConvWithState",
    ("", "LinearAttention"): "linear_attention.LinearAttention",
    ("", "RotaryEmbedding"): "rotary.RotaryEmbedding",
    ("", "SwiGLU"): "gated.SwiGLU",
    ("ai.onnx.preview", "FlexAttention"): "flex_attention.FlexAttention",
    # conversion
    ("", "BitCast"): "cast.BitCast",
    ("", "Cast"): "cast.Cast",
    ("", "CastLike"): "cast.CastLike",
    # resize
    ("", "Resize"): "resize.Resize",
    ("", "Upsample"): "resize.Upsample",
    # reductions
    ("", "ArgMax"): "reduce.ArgMax",
    ("", "ArgMin"): "reduce.ArgMin",
    ("", "ReduceL1"): "reduce.ReduceL1",
    ("", "ReduceL2"): "reduce.ReduceL2",
    ("", "ReduceLogSum"): "reduce.ReduceLogSum",
    ("", "ReduceLogSumExp"): "reduce.ReduceLogSumExp",
    ("", "ReduceMax"): "reduce.ReduceMax",
    ("", "ReduceMean"): "reduce.ReduceMean",
    ("", "ReduceMin"): "reduce.ReduceMin",
    ("", "ReduceProd"): "reduce.ReduceProd",
    ("", "ReduceSum"): "reduce.ReduceSum",
    ("", "ReduceSumSquare"): "reduce.ReduceSumSquare",
    ("", "CumProd"): "scan.CumProd",
    ("", "CumSum"): "scan.CumSum",
    ("", "Hardmax"): "softmax.Hardmax",
    ("", "LogSoftmax"): "softmax.LogSoftmax",
    ("", "Softmax"): "softmax.Softmax",
    ("", "NegativeLogLikelihoodLoss"): "losses.NegativeLogLikelihoodLoss",
    ("", "SoftmaxCrossEntropyLoss"): "losses.SoftmaxCrossEntropyLoss",
    ("", "TopK"): "sort.TopK",
    # normalization
    ("", "BatchNormalization"): "batch_norm.BatchNormalization",
    ("", "Dropout"): "dropout.Dropout",
    ("", "GroupNormalization"): "norm.GroupNormalization",
    ("", "InstanceNormalization"): "norm.InstanceNormalization",
    ("", "LRN"): "norm.LRN",
    ("", "LayerNormalization"): "norm.LayerNormalization",
    ("", "LpNormalization"): "norm.LpNormalization",
    ("", "MeanVarianceNormalization"): "norm.MeanVarianceNormalization",
    ("", "RMSNormalization"): "norm.RMSNormalization",
    ("tilewise", "ChannelNormalization"): "norm.ChannelNormalization",
    ("tilewise", "FusedBatchNormalization"): "batch_norm.FusedBatchNormalization",
    # gradients
    ("tilewise", "SumTo"): "gradient.SumTo",
    # classical models
    ("ai.onnx.ml", "ArrayFeatureExtractor"): "ml.scaling.ArrayFeatureExtractor",
    ("ai.onnx.ml", "Binarizer"): "ml.scaling.Binarizer",
    ("ai.onnx.ml", "CastMap"): "ml.encoders.CastMap",
    ("ai.onnx.ml", "CategoryMapper"): "ml.encoders.CategoryMapper",
    ("ai.onnx.ml", "DictVectorizer"): "ml.encoders.DictVectorizer",
    ("ai.onnx.ml", "FeatureVectorizer"): "ml.scaling.FeatureVectorizer",
    ("ai.onnx.ml", "Imputer"): "ml.scaling.Imputer",
    ("ai.onnx.ml", "LabelEncoder"): "ml.encoders.LabelEncoder",
    ("ai.onnx.ml", "LinearClassifier"): "ml.linear.LinearClassifier",
    ("ai.onnx.ml", "LinearRegressor"): "ml.linear.LinearRegressor",
    ("ai.onnx.ml", "Normalizer"): "ml.scaling.Normalizer",
    ("ai.onnx.ml", "OneHotEncoder"): "ml.encoders.OneHotEncoder",
    ("ai.onnx.ml", "SVMClassifier"): "ml.svm.SVMClassifier",
    ("ai.onnx.ml", "SVMRegressor"): "ml.svm.SVMRegressor",
    ("ai.onnx.ml", "Scaler"): "ml.scaling.Scaler",
    ("ai.onnx.ml", "TreeEnsemble"): "ml.trees.TreeEnsemble",
    ("ai.onnx.ml", "TreeEnsembleClassifier"): "ml.trees.TreeEnsembleClassifier",
    ("ai.onnx.ml", "TreeEnsembleRegressor"): "ml.trees.TreeEnsembleRegressor",
    ("ai.onnx.ml", "ZipMap"): "ml.encoders.ZipMap",
    # training
    ("ai.onnx.preview.training", "Adagrad"): "optimizers.Adagrad",
    ("ai.onnx.preview.training", "Adam"): "optimizers.Adam",
    ("ai.onnx.preview.training", "Gradient"): "training.Gradient",
    ("ai.onnx.preview.training", "Momentum"): "optimizers.Momentum",
    # vision
    ("", "AffineGrid"): "vision.AffineGrid",
    ("", "GridSample"): "vision.GridSample",
    ("", "MaxRoiPool"): "regions.MaxRoiPool",
    ("", "NonMaxSuppression"): "regions.NonMaxSuppression",
    ("", "RoiAlign"): "regions.RoiAlign",
}


def lookup(node: Node) -> type[Op] | None:
    """The class that implements `node`, or None."""
    row = TABLE.get((node.domain, node.op_type))
    return _imported(row) if isinstance(row, str) else row


@cache
def _imported(row: str) -> type[Op]:
    module, _, name = row.rpartition(".")
    return getattr(importlib.import_module(f"tilewise.ops.{module}"), name)


def make(node: Node) -> Op:
    """The operator bound to `node`; `UnsupportedError` where the table has no row for it."""
    cls = lookup(node)
    if cls is None:
        where = f"domain {node.domain!r}, opset {node.version}" if node.domain else f"opset {node.version}"
        raise UnsupportedError([Unsupported(node.label, node.op_type, f"operator not supported ({where})")])
    return cls(node)
