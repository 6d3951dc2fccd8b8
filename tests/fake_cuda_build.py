"""Compiling the fake CUDA device."""

import importlib.util
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_cuda_device.cpp")


def compile_device(library: Path, compiler: str = "c++") -> None:
    """Write the device as a shared library, which torch must find when it is imported."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    [torchs] = spec.submodule_search_locations or []
    includes = [f"-I{torchs}/include", f"-I{torchs}/include/torch/csrc/api/include"]
    links = [f"-L{torchs}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torchs}/lib"]
    flags = ["-shared", "-fPIC", "-std=c++20", *includes, "-o", str(library)]
    subprocess.run([compiler, *flags, str(SOURCE), *links], check=True)
