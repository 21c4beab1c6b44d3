"""What Numba has no words for, emitted as LLVM IR: raw addresses, and register tiles of vectors.

Vectors are as wide as the host's registers; array code in Numba would not keep a tile's sums in them.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from tilewise_kernels.registry import VECTOR_FLOATS

VECTOR = VECTOR_FLOATS
TILE_ROWS = 14 if VECTOR == 16 else 6
"""Rows of a tile that leave registers for its operands."""

_FLOAT = ir.FloatType()
_LONG = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, VECTOR)
_INDEX = ir.IntType(32)


def _accessor(kind, llvm_type, store: bool):
    """An intrinsic that reads or writes one number at an address."""
    if store:

        def access(typingctx, address, value):
            def codegen(context, builder, signature, args):
                builder.store(args[1], builder.inttoptr(args[0], llvm_type.as_pointer()))
                return context.get_dummy_value()

            return types.void(types.int64, kind), codegen
    else:

        def access(typingctx, address):
            def codegen(context, builder, signature, args):
                return builder.load(builder.inttoptr(args[0], llvm_type.as_pointer()))

            return kind(types.int64), codegen

    return intrinsic(access)


load_float = _accessor(types.float32, _FLOAT, store=False)
load_double = _accessor(types.float64, ir.DoubleType(), store=False)
load_long = _accessor(types.int64, _LONG, store=False)
store_float = _accessor(types.float32, _FLOAT, store=True)


@intrinsic
def address_of(typingctx, pointer):
    """The address that a pointer holds."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], _LONG)

    return types.int64(pointer), codegen


def stack_floats(count: int):
    """An intrinsic that gives the address of `count` floats on the stack, alive until its caller returns."""

    def allocate(typingctx):
        def codegen(context, builder, signature, args):
            with builder.goto_entry_block():
                block = builder.alloca(ir.ArrayType(_FLOAT, count))
                block.align = 64
            return builder.ptrtoint(block, _LONG)

        return types.int64(), codegen

    return intrinsic(allocate)


class _Tile:
    """One tile's code: mr rows by nv vectors, at the builder's position."""

    def __init__(self, builder: ir.IRBuilder, mr: int, nv: int, args) -> None:
        self.builder, self.mr, self.nv = builder, mr, nv
        self.k, a, b, off, c, self.ldc, bias, init, self.ldi, self.lo, self.hi = args
        self.addresses = {"a": a, "b": b, "off": off, "c": c, "bias": bias, "init": init}

    def _float_at(self, base: ir.Value, offset: ir.Value | int) -> ir.Value:
        builder = self.builder
        offset = _LONG(4 * offset) if isinstance(offset, int) else builder.mul(offset, _LONG(4))
        return builder.add(base, offset)

    def _pointer(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, kind.as_pointer())

    def _splat(self, value: ir.Value) -> ir.Value:
        one = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _INDEX(0))
        mask = ir.Constant(ir.VectorType(_INDEX, VECTOR), [0] * VECTOR)
        return self.builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)

    def _load_vector(self, address: ir.Value) -> ir.Value:
        return self.builder.load(self._pointer(address, _VECTOR), align=4)

    def emit(self) -> None:
        sums = self._sum(self._start())
        for (i, j), value in sums.items():
            row = self.builder.add(self.builder.mul(_LONG(i), self.ldc), _LONG(j * VECTOR))
            pointer = self._pointer(self._float_at(self.addresses["c"], row), _VECTOR)
            self.builder.store(self._clip(value), pointer, align=4)

    def _start(self) -> dict[tuple[int, int], ir.Value]:
        """Bias and initial sums, each only where its address is not 0."""
        builder, zero = self.builder, self._splat(_FLOAT(0.0))
        starts = {(i, j): builder.alloca(_VECTOR) for i in range(self.mr) for j in range(self.nv)}
        for slot in starts.values():
            builder.store(zero, slot)
        with builder.if_then(builder.icmp_signed("!=", self.addresses["bias"], _LONG(0))):
            for (i, _), slot in starts.items():
                bias = builder.load(self._pointer(self._float_at(self.addresses["bias"], i), _FLOAT))
                builder.store(self._splat(bias), slot)
        with builder.if_then(builder.icmp_signed("!=", self.addresses["init"], _LONG(0))):
            for (i, j), slot in starts.items():
                row = builder.add(builder.mul(_LONG(i), self.ldi), _LONG(j * VECTOR))
                value = self._load_vector(self._float_at(self.addresses["init"], row))
                builder.store(builder.fadd(builder.load(slot), value), slot)
        return {place: builder.load(slot) for place, slot in starts.items()}

    def _sum(self, starts: dict[tuple[int, int], ir.Value]) -> dict[tuple[int, int], ir.Value]:
        """The loop over k, its sums in phi nodes and so in registers."""
        builder = self.builder
        entry, head = builder.block, builder.append_basic_block("k")
        body, done = builder.append_basic_block("k.body"), builder.append_basic_block("k.done")
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_LONG)
        sums = {place: builder.phi(_VECTOR) for place in starts}
        builder.cbranch(builder.icmp_signed("<", k, self.k), body, done)
        builder.position_at_end(body)
        new = self._body(k, sums)
        step = builder.add(k, _LONG(1))
        k.add_incoming(_LONG(0), entry)
        k.add_incoming(step, builder.block)
        for place, phi in sums.items():
            phi.add_incoming(starts[place], entry)
            phi.add_incoming(new[place], builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        return dict(sums)

    def _body(self, k: ir.Value, sums: dict[tuple[int, int], ir.Value]) -> dict[tuple[int, int], ir.Value]:
        builder = self.builder
        fma = self._multiply_add()
        place = builder.add(self.addresses["off"], builder.mul(k, _LONG(8)))
        row = self._float_at(self.addresses["b"], builder.load(self._pointer(place, _LONG)))
        columns = [self._load_vector(self._float_at(row, j * VECTOR)) for j in range(self.nv)]
        a = self._float_at(self.addresses["a"], builder.mul(k, _LONG(self.mr)))
        new = {}
        for i in range(self.mr):
            value = self._splat(builder.load(self._pointer(self._float_at(a, i), _FLOAT)))
            for j in range(self.nv):
                new[i, j] = builder.call(fma, [value, columns[j], sums[i, j]])
        return new

    def _multiply_add(self) -> ir.Function:
        """a * b + c, in one instruction where the host has it."""
        name = f"llvm.fmuladd.v{VECTOR}f32"
        known = self.builder.module.globals.get(name)
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        return known or ir.Function(self.builder.module, kind, name)

    def _clip(self, value: ir.Value) -> ir.Value:
        """Comparisons are ordered, so that a NaN stays a NaN."""
        for bound, compare in ((self.lo, "<"), (self.hi, ">")):
            limit = self._splat(bound)
            value = self.builder.select(self.builder.fcmp_ordered(compare, value, limit), limit, value)
        return value


@intrinsic
def tile(typingctx, mr, nv, k, a, b, off, c, ldc, bias, init, ldi, lo, hi):
    """c[i][j] = clip(bias[i] + init[i][j] + sum_k a[k][i] * b[off[k] + j], lo, hi) for i < mr, j < nv vectors.

    a, b, off, c, bias and init are addresses, the last two may be 0; ldc and ldi count floats.
    """
    signature = types.void(*[types.int64] * 11, types.float32, types.float32)

    def codegen(context, builder, signature, args):
        mr, nv, rest = args[0], args[1], args[2:]
        done = builder.append_basic_block("tiles.done")
        case = builder.add(builder.mul(mr, _LONG(2)), nv)
        switch = builder.switch(case, done)
        for rows in range(1, TILE_ROWS + 1):
            for vectors in (1, 2):
                block = builder.append_basic_block(f"tile.{rows}.{vectors}")
                switch.add_case(_LONG(2 * rows + vectors), block)
                builder.position_at_end(block)
                _Tile(builder, rows, vectors, rest).emit()
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def taps(typingctx, count, w, x, off, out, n, bias):
    """out[q] = bias + sum_t w[t] * x[off[t] + q] for q < n, n a multiple of `VECTOR`; all but the bias are addresses
    or counts."""
    signature = types.void(*[types.int64] * 6, types.float32)

    def codegen(context, builder, signature, args):
        count, w, x, off, out, n, bias = args
        helper = _Tile(
            builder, 1, 1, [count, w, x, off, out, _LONG(0), _LONG(0), _LONG(0), _LONG(0), bias, bias]
        )
        head, body = builder.append_basic_block("q"), builder.append_basic_block("q.body")
        done, entry = builder.append_basic_block("q.done"), builder.block
        builder.branch(head)
        builder.position_at_end(head)
        q = builder.phi(_LONG)
        builder.cbranch(builder.icmp_signed("<", q, n), body, done)
        builder.position_at_end(body)
        helper.addresses["b"] = helper._float_at(x, q)
        total = helper._sum({(0, 0): helper._splat(bias)})[0, 0]
        builder.store(total, helper._pointer(helper._float_at(out, q), _VECTOR), align=4)
        q.add_incoming(_LONG(0), entry)
        q.add_incoming(builder.add(q, _LONG(VECTOR)), builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen
