"""The GPU's label kernel: its source run on the CPU, and compiled by NVRTC for every GPU; neither needs a driver."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")

from rtseg.core.errors import EngineError
from rtseg.engines.cuda import upsampling as upsample_cuda
from rtseg.engines.cuda.upsampling import SOURCE, compile_kernel, grid, places
from rtseg.pictures.upsample import upsample_labels

SHAPES = [
    ((11, 24, 40), (96, 160)),  # ICNet: a quarter
    ((11, 48, 80), (48, 80)),  # ENet: its own size
    ((19, 9, 13), (71, 103)),  # rows not divisible by four
    ((2, 7, 5), (3, 4)),  # smaller
    ((1, 3, 3), (6, 6)),
    ((5, 1, 1), (4, 9)),
]
HOST = r"""
#include <cmath>
#include <cstdint>
#include <cstring>
#define __device__
#define __global__
struct place { int x, y; };
static place blockIdx, blockDim, threadIdx;
static float half_to_float(unsigned short h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, bits = h & 1023;
    float value = exponent == 0 ? std::ldexp((float)bits, -24) : std::ldexp((float)(bits | 1024), (int)exponent - 25);
    return sign ? -value : value;
}
"""
LOOP = r"""
extern "C" void run(int across, int down, int bx, int by, const void *logits, int classes, int h, int w,
    const int *cy, const float *py, const int *cx, const float *px, unsigned char *labels, int height, int width)
{
    blockDim.x = bx; blockDim.y = by;
    for (blockIdx.y = 0; blockIdx.y < down; blockIdx.y++) for (blockIdx.x = 0; blockIdx.x < across; blockIdx.x++)
        for (threadIdx.y = 0; threadIdx.y < by; threadIdx.y++) for (threadIdx.x = 0; threadIdx.x < bx; threadIdx.x++)
            upsample_labels((const logit *)logits, classes, h, w, cy, py, cx, px, labels, height, width);
}
"""


@pytest.fixture(scope="module", params=["float", "half"])
def twin(request, tmp_path_factory):
    """The kernel's own source as a CPU program; returns (logits, size) -> labels."""
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    half = request.param == "half"
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "twin.cpp").write_text(HOST + SOURCE + LOOP)
    command = [compiler, "-O1", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-o", "twin.so", "twin.cpp"]
    subprocess.run([*command, *(["-DRTSEG_HALF"] if half else [])], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "twin.so"))

    def run(logits, size):
        held = logits.astype(np.float16) if half else logits
        axes = [array for side, full in zip(logits.shape[1:], size, strict=True) for array in places(side, full)]
        out = np.full(size, 255, np.uint8)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (held, *axes, out)]
        library.run(*grid(size), *upsample_cuda.BLOCK, pointers[0], *logits.shape, *pointers[1:], *size)
        return out, held.astype(np.float32)

    return run


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_labels_are_those_of_the_cpu_outside_near_ties(twin, shape, size):
    for seed in range(3):
        logits = np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)
        labels, held = twin(logits, size)
        expected = upsample_labels(held, size)
        differ = labels != expected
        if differ.any():  # the CPU kernel subtracts two classes before it interpolates: differs in the last bits only
            assert margins(held, size)[differ].max() < 1e-5
        assert differ.mean() < 1e-3


def margins(logits, size):
    """The margin of the best class over the second, in float64."""
    (cell_y, place_y), (cell_x, place_x) = (places(*pair) for pair in zip(logits.shape[1:], size, strict=True))
    far_y, far_x = np.minimum(cell_y + 1, logits.shape[1] - 1), np.minimum(cell_x + 1, logits.shape[2] - 1)
    rows = logits[:, cell_y].astype(np.float64) * (1 - place_y)[:, None] + logits[:, far_y] * place_y[:, None]
    full = np.sort(rows[:, :, cell_x] * (1 - place_x) + rows[:, :, far_x] * place_x, axis=0)
    return full[-1] - full[-2]


def test_ties_go_to_the_lowest_class(twin):
    labels, _ = twin(np.zeros((6, 4, 4), np.float32), (8, 8))
    assert not labels.any()


@pytest.fixture(scope="module")
def nvrtc():
    """NVRTC's library in any package folder of this interpreter: NVRTC's own search looks only beside the
    interpreter."""
    for folder in map(Path, sys.path):
        for library in sorted(folder.glob("nvidia/c*/lib/libnvrtc.so.1?")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            return
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except RuntimeError:
        pytest.skip("NVRTC's library is not installed (pip install nvidia-cuda-nvrtc)")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0)])
def test_it_compiles_for_every_gpu(nvrtc, capability, half):
    image = compile_kernel(capability, half)
    assert image.startswith(b"\x7fELF")  # machine code for this GPU
    assert b"upsample_labels" in image


def test_a_newer_gpu_gets_ptx_and_an_older_one_is_told(nvrtc):
    ptx = compile_kernel((19, 9), half=True)
    assert b".version" in ptx
    assert b"cvt.f32.f16" in ptx
    with pytest.raises(EngineError, match=r"compute capability 7\.5 and above, this one has 6\.1"):
        compile_kernel((6, 1), half=False)
