"""Extension modules, packages and package_dir; all metadata is in pyproject.toml."""

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

SOURCES = Path("kernels/tilewise_kernels/src")
MACHINE = platform.machine().lower()
FLAGS = [
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-tree-loop-distribute-patterns",
    "-Wno-unused-function",
]
MARCH = {"v2": ["-march=x86-64-v2"], "v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4"], "base": []}
WIDE = ["-mprefer-vector-width=512"]
V4_FLAGS = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
V3_FLAGS = {"avx2", "bmi2", "fma", "f16c"}


def host_level() -> str:
    """The instruction-set level of the machine that builds."""
    if MACHINE not in ("x86_64", "amd64"):
        return "base"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "v2"
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    if flags >= V4_FLAGS | V3_FLAGS:
        return "v4"
    return "v3" if flags >= V3_FLAGS else "v2"


def levels() -> list[str]:
    """`TILEWISE_BUILD_ISA` ("v2,v3,v4" for a wheel), or the host's level alone."""
    chosen = os.environ.get("TILEWISE_BUILD_ISA", host_level()).split(",")
    unknown = [level for level in chosen if level not in MARCH]
    if unknown:
        sys.exit(f"TILEWISE_BUILD_ISA: unknown level(s) {unknown}; known: {sorted(MARCH)}")
    return chosen


def extension(name: str, source: Path, flags: list[str]) -> Extension:
    depends = [str(p) for p in sorted(SOURCES.glob("*.h")) + sorted(SOURCES.glob("*.pxd"))]
    return Extension(
        name,
        [str(source)],
        include_dirs=[str(SOURCES)],
        extra_compile_args=FLAGS + flags,
        extra_link_args=["-pthread"],
        depends=depends,
    )


def extensions() -> list[Extension]:
    """The executor once, and every kernel module once for each level, as `tilewise_kernels._LEVEL.NAME`."""
    from Cython.Build import cythonize

    only = os.environ.get("TILEWISE_ONLY")  # "gemm,conv" while working on these
    modules = sorted(
        p for p in SOURCES.glob("*.pyx") if p.stem != "executor" and (not only or p.stem in only.split(","))
    )
    built = cythonize(
        [extension("tilewise_kernels._executor", SOURCES / "executor.pyx", [])], build_dir="build/cython/base"
    )
    for level in levels():
        (SOURCES.parent / f"_{level}").mkdir(exist_ok=True)  # an in-place build does not make it
        flags = MARCH[level] + (WIDE if level == "v4" else [])
        built += cythonize(
            [extension(f"tilewise_kernels._{level}.{p.stem}", p, flags) for p in modules],
            build_dir=f"build/cython/{level}",
        )
    for module in built:
        module.optional = True  # a host without a compiler gets the pure build
    return built


setup(
    package_dir={"tilewise": "engine/tilewise", "tilewise_kernels": "kernels/tilewise_kernels"},
    packages=find_packages("engine") + find_packages("kernels"),
    package_data={
        "tilewise": ["demo/*.npz", "demo/*.onnx", "demo/*.md", "onnx/schemas.txt"],
        "tilewise_kernels": ["src/*.pyx", "src/*.pxd", "src/*.h"],
    },
    ext_modules=[] if os.environ.get("TILEWISE_PURE") == "1" else extensions(),
)
