"""Matrix products: MatMul, Gemm, Einsum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Shape
from tilewise.ops import epilogue
from tilewise.ops.base import Inputs, Op
from tilewise.ops.lowering import Lowering, Ref, aligned
from tilewise.ops.tiles import (
    K_BLOCK,
    PANEL,
    VECTOR,
    Panels,
    Product,
    contiguous_panels,
    emit,
    pack_tiles,
    packs_in_tasks,
    tile_rows,
)

GEMV_ROWS = 4
"""Up to this many rows a product is a few dot products with every column: bound by reading the matrix."""
GEMV_COLUMNS = 8
"""The same for the columns of its right side."""
PAGE_FLOATS, PACKED_ROWS = 1024, 256
"""Rows of a right side some multiple of a page apart take each other's places in the caches: they are packed for so
many rows of the left one."""
GEVM_COLUMNS = 1024
"""Columns a task of a few rows times a matrix that lies row by row."""


def pack_rows(
    b: Lowering, src: Ref, images: int, rows: int, k: int, strides: tuple[int, int, int], scale: float = 1.0
) -> Ref:
    """The step that packs [images, rows, k] with these strides (image, row, k; in floats) as row tiles."""
    dst = b.temp(4 * images * rows * k)
    mr = tile_rows(rows)
    image, row, column = strides
    b.step("pack_rows", images * -(-rows // mr), dst, src, rows, k, mr, row, column, image, float(scale))
    return dst


def pack_columns(
    b: Lowering, src: Ref, images: int, columns: int, k: int, strides: tuple[int, int, int]
) -> Ref:
    """The step that packs [images, k, columns] with these strides (image, k, column) as panels."""
    panels = -(-columns // PANEL)
    dst = b.temp(4 * images * panels * PANEL * k)
    image, row, column = strides
    b.step("pack_columns", images * panels, dst, src, columns, k, PANEL, column, row, image)
    return dst


def column_panels(w: np.ndarray) -> np.ndarray:
    """[k, columns] as float32 panels [panel][k][PANEL], the last one filled up with zeros."""
    k, columns = w.shape
    panels = -(-columns // PANEL)
    out = np.zeros((k, panels * PANEL), np.float32)
    out[:, :columns] = w
    return aligned(out.reshape(k, panels, PANEL).transpose(1, 0, 2))


class Matrix:
    """y = A B + bias of `images` independent products, by kernels.

    a/b strides: floats (image, row, column) of A [m, k] and B [k, n]; an image stride of 0 shares one matrix.
    bias: a ref with strides (row, column) each 0 or a full step, or 0.
    activation: code, alpha and beta of what is applied to y (see `epilogue`).
    """

    def __init__(
        self,
        b: Lowering,
        m: int,
        k: int,
        n: int,
        images: int = 1,
        activation: tuple[int, float, float] = (0, 0.0, 0.0),
    ) -> None:
        self.b, self.m, self.k, self.n, self.images = b, m, k, n, images
        self.activation = activation

    def gemv(self, a: Ref, w: Ref, bias: Ref | int, strides: tuple[int, int], scale: float) -> None:
        """Few rows of A, contiguous, with w = B transposed [n, k]."""
        grain = max(16, min(1 << 16, self.n * self.k) // self.k // 4 * 4)
        sizes = (self.m, self.n, self.k, grain, float(scale))
        self.b.step(
            "gemv", -(-self.n // grain), a, w, self.b.output(), bias, *sizes, *strides, *self.activation
        )

    def few(
        self, trans: tuple[bool, bool], bias: Ref | int, strides: tuple[int, int], scale: float = 1.0
    ) -> bool:
        """The steps for input 0 with few rows, or input 1 with few columns, if one of them is so; one image."""
        trans_a, trans_b = trans
        if self.images != 1 or trans_a:
            return False
        b, m, n, k = self.b, self.m, self.n, self.k
        if m <= GEMV_ROWS and (w := _transposed(b, trans_b)) is not None:
            self.gemv(b.input(0), w, bias, strides, scale)
            return True
        if m <= GEMV_ROWS and b.has("gevm"):
            grain = min(n, GEVM_COLUMNS)
            sizes = (m, n, k, grain, float(scale))
            refs = (b.input(0), b.input(1), b.output(), bias)
            b.step("gevm", -(-n // grain), *refs, *sizes, *strides, *self.activation)
            return True
        if n > GEMV_COLUMNS or k < 4 * VECTOR or not b.has("gemv_turned"):
            return False
        grain = max(16, (1 << 16) // k // 4 * 4)
        sizes = (n, m, k, grain, float(scale))
        refs = (self._columns_as_rows(trans_b), b.input(0), b.output(), bias)
        b.step("gemv_turned", -(-m // grain), *refs, *sizes, *strides[::-1], *self.activation)
        return True

    def _columns_as_rows(self, is_transposed: bool) -> Ref:
        """Input 1, one matrix [k, n], as [n, k]."""
        if self.n == 1:
            return self.b.input(1)
        if (rows := _transposed(self.b, is_transposed)) is not None:
            return rows
        dst = self.b.temp(4 * self.n * self.k)
        self.b.step("pack_columns", 1, dst, self.b.input(1), self.k, self.n, self.k, self.n, 1, 0)
        return dst

    def product(
        self,
        a: Ref,
        rows: tuple[int, int, int, float] | None,
        columns: tuple[Ref, Panels, int, int],
        bias: Ref | int = 0,
        bias_strides: tuple[int, int] = (0, 0),
    ) -> None:
        """A times columns whose k-th row starts `k * pitch` floats into a panel (see `columns`).

        rows: floats of A as it lies (image, row, k) and what it is scaled by, or None for packed row tiles of one
        matrix.
        """
        x, panels, pitch, x_image = columns
        row, column = bias_strides
        p = Product(
            x=x,
            w=a,
            y=self.b.output(),
            offsets=np.arange(self.k, dtype=np.int64) * pitch,
            panels=panels,
            rows=self.m,
            images=self.images,
            groups=1,
            inputs=self.k,
            x_strides=(x_image, 0),
            w_strides=(0, 0),
            y_strides=(self.m * self.n, self.n, 1),
            residual=bias,
            residual_strides=(0, row, column),
            activation=self.activation,
        )
        emit(self.b, p if rows is None else self._with_rows(p, *rows))

    def _with_rows(self, p: Product, image: int, row: int, k_step: int, scale: float) -> Product:
        """`p` with A as it lies, or packed in a step before."""
        lying = replace(p, w_strides=(image, 0), w_lies=(row, k_step, scale), inputs=min(self.k, K_BLOCK))
        if self.b.has("tile_matmul") and packs_in_tasks(lying):
            return lying
        images = self.images if image else 1
        packed = pack_rows(self.b, p.w, images, self.m, self.k, (image, row, k_step), scale)
        return replace(p, w=packed, w_strides=(self.m * self.k if image else 0, 0))

    def columns(self, index: int, strides: tuple[int, int, int]) -> tuple[Ref, Panels, int, int]:
        """B as columns for `product`: (where, panels, pitch, image stride); packed where it cannot be read in place.

        index: the input of the node that holds B. strides: its (image, row, column).
        """
        image, row, column = strides
        padded = contiguous_panels(self.n, stride=self.k * PANEL)
        value = self.b.value(index)
        if value is not None and image == 0 and value.ndim == 2:
            w = value if column == 1 else value.T
            key = "columns" if column == 1 else "columns of transpose"
            return self.b.packed(index, key, lambda: column_panels(w)), padded, PANEL, 0
        ref = self.b.input(index)
        far = row % PAGE_FLOATS == 0 and self.m >= PACKED_ROWS
        if column == 1 and self.n >= VECTOR and not far:
            return ref, contiguous_panels(self.n), row, image
        images = self.images if image else 1
        packed = pack_columns(self.b, ref, images, self.n, self.k, strides)
        return packed, padded, PANEL, len(padded.table) * self.k * PANEL if image else 0


class MatMul(Op):
    """y = a @ b with NumPy's rules (ONNX MatMul, opset 1, 9, 13)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        a, b = ins[0], ins[1]
        dtype = a.dtype or b.dtype
        if a.dtype is not None and b.dtype is not None and a.dtype != b.dtype:
            raise self.fail(f"expected a and b of one dtype, got {a} and {b}")
        if a.shape is None or b.shape is None:
            return [Fact(dtype)]
        if not a.shape or not b.shape:
            raise self.fail(f"expected ranks of at least 1, got {a} and {b}")
        left = a.shape if len(a.shape) > 1 else (1, *a.shape)
        right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
        inner = (left[-1], right[-2])
        if all(isinstance(d, int) for d in inner) and inner[0] != inner[1]:
            raise self.fail(f"expected inner dims to agree, got {a} and {b}")
        batch = self.broadcast(left[:-2], right[:-2]) or ()
        tail = (left[-2],) * (len(a.shape) > 1) + (right[-1],) * (len(b.shape) > 1)
        return [Fact(dtype, (*batch, *tail))]

    def evaluate(self, a, b):
        return [matmul(a, b)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype("float32"):
            return False
        trans_a, trans_b = (bool(self.attr(name, 0)) for name in ("transA", "transB"))
        left, right = _swapped(b.ins[0].shape, trans_a), _swapped(b.ins[1].shape, trans_b)
        left = left if len(left) > 1 else (1, *left)
        right = right if len(right) > 1 else (*right, 1)
        shape = _batched(left, right, trans_a)
        if shape is None:
            return False
        images, m, k, n, a_image, b_image = shape
        bias, strides = b.optional(2), (0, 1)
        matrix = Matrix(b, m, k, n, images, epilogue.activation(self))
        if matrix.few((trans_a, trans_b), bias, strides):
            return True
        columns = matrix.columns(1, (b_image, 1, k) if trans_b else (b_image, n, 1))
        if b.value(0) is not None and a_image == 0:
            form, value = "tiles of transpose" if trans_a else "tiles", b.value(0)
            a = b.packed(0, form, lambda: pack_tiles((value.T if trans_a else value).reshape(1, m, k)))
            matrix.product(a, None, columns, bias, strides)
        else:
            rows = (a_image, 1, m, 1.0) if trans_a else (a_image, k, 1, 1.0)
            matrix.product(b.input(0), rows, columns, bias, strides)
        return True


def _swapped(shape: Shape, swap: bool) -> Shape:
    """The shape with its last two dims exchanged where `swap` says so."""
    return (*shape[:-2], shape[-1], shape[-2]) if swap else shape


def _transposed(b: Lowering, is_transposed: bool) -> Ref | None:
    """Input 1, one matrix [k, n] of any rank, as [n, k]: as it is, or packed once for a constant."""
    if is_transposed:
        return b.input(1)
    value = b.value(1)
    if value is None:
        return None
    rows = value.shape[-2] if value.ndim > 1 else value.size
    return b.packed(1, "transpose", lambda: np.ascontiguousarray(value.reshape(rows, -1).T, np.float32))


class FusedMatMul(MatMul):
    """y = activation(A' B' + bias), bias (n,) (see `epilogue`); A' is A with its last two axes exchanged for transA.

    A and B have at least two axes.
    """

    domain = "tilewise"
    attributes = epilogue.ATTRIBUTES | {"transA", "transB"}

    def infer(self, ins: Inputs) -> list[Fact]:
        pair = []
        for fact, name in zip(ins, ("transA", "transB"), strict=False):
            swap = bool(self.attr(name, 0)) and fact.shape is not None
            pair.append(Fact(fact.dtype, _swapped(fact.shape, True)) if swap else fact)
        (y,) = super().infer(pair)
        bias = ins[2] if len(ins) > 2 else None
        if bias is not None and bias.shape is not None and y.shape is not None:
            dims = (*bias.shape, y.shape[-1])
            if len(dims) != 2 or (all(isinstance(d, int) for d in dims) and dims[0] != dims[1]):
                raise self.fail(f"expected a bias of shape ({y.shape[-1]},), got {bias}")
        return [y]

    def evaluate(self, a, b, bias=None):
        left = np.swapaxes(a, -1, -2) if self.attr("transA", 0) else a
        y = matmul(left, np.swapaxes(b, -1, -2) if self.attr("transB", 0) else b)
        return [epilogue.apply(self, y if bias is None else y + bias)]


def _batched(left: Shape, right: Shape, is_transposed: bool) -> tuple[int, int, int, int, int, int] | None:
    """(images, m, k, n, a's and b's image stride) where one stride each describes the batch, else None.

    is_transposed: a lies as [..., k, m], so that its matrices are not rows of one.
    """
    (m, k), n = left[-2:], right[-1]
    a_count, b_count = int(np.prod(left[:-2])), int(np.prod(right[:-2]))
    if b_count == 1 and (a_count == 1 or not is_transposed):
        return 1, a_count * m, k, n, 0, 0
    if b_count == 1:
        return a_count, m, k, n, m * k, 0
    if left[:-2] == right[:-2]:
        return a_count, m, k, n, m * k, k * n
    if a_count == 1:
        return b_count, m, k, n, 0, k * n
    return None


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a @ b` in a's dtype; small floats are summed in float32."""
    if a.dtype.itemsize < 4 and a.dtype.kind not in "iub":
        return np.asarray(np.matmul(a.astype(np.float32), b.astype(np.float32))).astype(a.dtype)
    return np.asarray(np.matmul(a, b))


class Gemm(Op):
    """y = alpha * A' B' + beta * C, C broadcast to (M, N) (ONNX Gemm, opset 7, 9, 11, 13).

    A (M, K) or (K, M) with transA, B (K, N) or (N, K) with transB.
    """

    attributes = frozenset({"alpha", "beta", "transA", "transB", "broadcast"})

    def infer(self, ins: Inputs) -> list[Fact]:
        a, b = ins[0], ins[1]
        if a.shape is None or b.shape is None:
            return [Fact(a.dtype or b.dtype)]
        if a.rank != 2 or b.rank != 2:
            raise self.fail(f"expected A and B of rank 2, got {a} and {b}")
        m, k = a.shape[::-1] if self.attr("transA", 0) else a.shape
        j, n = b.shape[::-1] if self.attr("transB", 0) else b.shape
        if isinstance(k, int) and isinstance(j, int) and k != j:
            raise self.fail(f"expected A' (M, K) and B' (K, N), got ({m}, {k}) and ({j}, {n})")
        c = ins[2] if len(ins) > 2 else None
        if c is not None and c.shape is not None:
            self.broadcast(c.shape, (m, n))
            if len(c.shape) > 2:
                raise self.fail(f"expected C that broadcasts to ({m}, {n}), got {c}")
        return [Fact(a.dtype, (m, n))]

    def evaluate(self, a, b, c=None):
        left = a.T if self.attr("transA", 0) else a
        right = b.T if self.attr("transB", 0) else b
        y = matmul(left, right)
        if self.attr("alpha", 1.0) != 1.0:
            y = (y * self.attr("alpha", 1.0)).astype(a.dtype)
        if c is not None:
            beta = self.attr("beta", 1.0)
            y = y + (c if beta == 1.0 else (c * beta).astype(a.dtype))
        return [epilogue.apply(self, y)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype("float32"):
            return False
        has_c = len(b.ins) > 2 and b.ins[2] is not None
        if has_c and self.attr("beta", 1.0) != 1.0:
            return False
        m, n = b.outs[0].shape
        k = b.ins[0].shape[0 if self.attr("transA", 0) else 1]
        bias, strides = self._bias(b, m, n) if has_c else (0, (0, 0))
        matrix, alpha = Matrix(b, m, k, n, 1, epilogue.activation(self)), self.attr("alpha", 1.0)
        trans_a, trans_b = (bool(self.attr(name, 0)) for name in ("transA", "transB"))
        if matrix.few((trans_a, trans_b), bias, strides, alpha):
            return True
        columns = matrix.columns(1, (0, 1, k) if trans_b else (0, n, 1))
        rows = (0, 1, m, alpha) if trans_a else (0, k, 1, alpha)
        matrix.product(b.input(0), rows, columns, bias, strides)
        return True

    def _bias(self, b: Lowering, m: int, n: int) -> tuple[Ref, tuple[int, int]]:
        rows, columns = (1, 1, *b.ins[2].shape)[-2:]
        return b.input(2), (columns if rows > 1 else 0, 1 if columns > 1 else 0)


class FusedGemm(Gemm):
    """`Gemm`, then an activation (see `epilogue`)."""

    domain = "tilewise"
    attributes = Gemm.attributes | epilogue.ATTRIBUTES


class Einsum(Op):
    """Einstein summation over any number of operands (ONNX Einsum, opset 12)."""

    attributes = frozenset({"equation"})

    def infer(self, ins: Inputs) -> list[Fact]:
        dtype = next((f.dtype for f in ins if f is not None and f.dtype is not None), None)
        if any(f is None or f.shape is None for f in ins):
            return [Fact(dtype) if dtype is not None else UNKNOWN]
        return [Fact(dtype, self._shape([f.shape for f in ins]))]

    def _shape(self, shapes: list[Shape]) -> Shape:
        terms, arrow, out = self.attr("equation").replace(" ", "").partition("->")
        names = terms.split(",")
        if len(names) != len(shapes):
            raise self.fail(
                f"equation {self.attr('equation')!r} has {len(names)} terms for {len(shapes)} inputs"
            )
        dims: dict[str, object] = {}
        ellipsis: Shape | None = ()
        for term, shape in zip(names, shapes, strict=True):
            before, dots, after = term.partition("...")
            spare = len(shape) - len(before) - len(after)
            if spare < 0 or (spare and not dots):
                raise self.fail(f"term {term!r} does not fit shape {shape}")
            ellipsis = self.broadcast(ellipsis, shape[len(before) : len(before) + spare])
            letters = before + after
            sizes = (*shape[: len(before)], *shape[len(shape) - len(after) :])
            for letter, size in zip(letters, sizes, strict=True):
                known = dims.get(letter, size)
                if isinstance(known, int) and isinstance(size, int) and known != size:
                    raise self.fail(f"{letter!r} is {known} and {size} in {self.attr('equation')!r}")
                dims[letter] = known if isinstance(known, int) else size
        if not arrow:
            joined = "".join(names).replace("...", "")
            out = "..." * ("..." in terms) + "".join(sorted(c for c in dims if joined.count(c) == 1))
        before, dots, after = out.partition("...")
        shape = (*(dims[c] for c in before), *((ellipsis or ()) if dots else ()), *(dims[c] for c in after))
        return shape  # type: ignore[return-value]

    def evaluate(self, *operands):
        wide = [x.astype(np.float32) if _is_small(x) else x for x in operands]
        y = np.einsum(self.attr("equation").replace(" ", ""), *wide, optimize=len(operands) > 2)
        return [np.asarray(y).astype(operands[0].dtype, copy=False)]


def _is_small(x: np.ndarray) -> bool:
    return x.dtype.itemsize < 4 and x.dtype.kind not in "iub"
