"""Object code of kernels made callable by llvmlite alone, which is there in a tenth of Numba's time."""

from __future__ import annotations

import llvmlite.binding as ll

from tilewise_kernels.jit import NAMES, cache
from tilewise_kernels.registry import VECTOR_FLOATS

PREFIX = "tilewise_"
"""What a kernel's symbol is called: this and its name."""

_engines: list[ll.ExecutionEngine] = []  # addresses are good as long as these live


def host() -> str:
    """What object code depends on: LLVM's release, the CPU and its features."""
    version = ".".join(map(str, ll.llvm_version_info))
    features = ll.get_host_cpu_features().flatten()
    return f"LLVM {version}, {ll.get_process_triple()}, {ll.get_host_cpu_name()}, {features}"


def key() -> bytes:
    """What object code for this process is kept under."""
    return cache.key(host(), f"vectors of {VECTOR_FLOATS}")


def target_machine() -> ll.TargetMachine:
    """Makes code for this CPU, to be loaded anywhere in memory."""
    ll.initialize_native_target()
    ll.initialize_native_asmprinter()
    return ll.Target.from_default_triple().create_target_machine(
        cpu=ll.get_host_cpu_name(),
        features=ll.get_host_cpu_features().flatten(),
        opt=3,
        reloc="static",
        codemodel="jitdefault",
        jit=True,
    )


def load(code: bytes) -> dict[str, int]:
    """Addresses of all kernels of an object file; they stay valid until the process ends."""
    engine = ll.create_mcjit_compiler(ll.parse_assembly(""), target_machine())
    engine.add_object_file(ll.ObjectFileRef.from_data(code))
    engine.finalize_object()
    table = {name: engine.get_function_address(PREFIX + name) for name in NAMES}
    missing = [name for name, address in table.items() if not address]
    if missing:
        raise ImportError(f"object code lacks the kernel(s) {', '.join(missing)}")
    _engines.append(engine)
    return table
