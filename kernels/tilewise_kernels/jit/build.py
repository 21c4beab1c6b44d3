"""Compiles all kernels with Numba into one object file that needs nothing but the C library.

`python -m tilewise_kernels.jit.build` keeps it in the cache and writes the content of its file to standard output.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings

import llvmlite.binding as ll
import llvmlite.ir as ir
from numba.core.registry import cpu_target

from tilewise_kernels.jit import MODULES, cache, objects

C_LIBRARY = {name + kind for name in ("exp", "expm1", "log", "log1p", "tanh", "erf") for kind in ("", "f")}
"""All that kernels may call: functions that every process has."""


def make() -> bytes:
    """The object code, compiled now."""
    module = ll.parse_assembly("")
    module.triple = ll.get_process_triple()
    for family, names in MODULES.items():
        source = importlib.import_module(f"tilewise_kernels.jit.{family}")
        for name in names:
            callback = getattr(source, name)
            module.link_in(ll.parse_assembly(callback.inspect_llvm()))
            entry = _entry(
                objects.PREFIX + name, callback.native_name.removeprefix("cfunc."), source.SIGNATURE
            )
            module.link_in(ll.parse_assembly(str(entry)))
    machine = objects.target_machine()
    _strip(module, machine)
    return machine.emit_object(module)


def _entry(symbol: str, native: str, signature) -> ir.Module:
    """A kernel's entry: it calls what Numba compiled and leaves the status aside, as kernels do not raise.

    Numba's own entry would tell the interpreter of errors and so need it.
    """
    convention = cpu_target.target_context.call_conv
    kind = convention.get_function_type(signature.return_type, signature.args)
    module = ir.Module(symbol)
    callee = ir.Function(module, kind, native)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), kind.args[-len(signature.args) :]), symbol)
    builder = ir.IRBuilder(entry.append_basic_block())
    convention.call_function(builder, callee, signature.return_type, signature.args, entry.args)
    builder.ret_void()
    return module


def _strip(module: ll.ModuleRef, machine: ll.TargetMachine) -> None:
    """Drop what the entries do not reach; `ImportError` where they reach what a process without Numba lacks."""
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and not value.name.startswith(objects.PREFIX):
            value.linkage = ll.Linkage.internal
    builder = ll.create_pass_builder(machine, ll.create_pipeline_tuning_options(speed_level=1))
    builder.getModulePassManager().run(module, builder)
    values = (*module.functions, *module.global_variables)
    foreign = {v.name for v in values if v.is_declaration and not v.name.startswith("llvm.")}
    if foreign - C_LIBRARY:
        raise ImportError(f"compiled kernels need {', '.join(sorted(foreign - C_LIBRARY))}")


def _make_or_exit() -> bytes:
    try:
        return make()
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")  # one line for a warning


def main() -> None:
    output = os.dup(1)
    os.dup2(2, 1)  # whatever else is printed is not part of the code
    os.nice(5)
    name = objects.key()
    with cache.lock():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the process that asked has warned
            code = cache.read(name)
        if code is None:
            code = _make_or_exit()
            cache.store(code, name)
    with contextlib.suppress(BrokenPipeError), open(output, "wb") as stream:
        stream.write(cache.pack(code, name))


if __name__ == "__main__":
    main()
