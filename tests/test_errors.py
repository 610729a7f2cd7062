"""One test tells a lack of memory from other errors, whichever library raises it."""

from __future__ import annotations

import pytest
import torch

from tintype.errors import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend failed to allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a primitive descriptor for a matmul primitive"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("can't start new thread"),
        MemoryError(),
    ],
)
def test_errors_that_mean_memory_ran_out(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("std::bad_alloc"), OSError(12, "x")])
def test_other_errors_do_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_real_allocations_that_fail() -> None:
    with pytest.raises(RuntimeError) as on_cpu:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(on_cpu.value)
    with pytest.raises(MemoryError) as in_python:
        bytearray(2**60)
    assert is_out_of_memory(in_python.value)
