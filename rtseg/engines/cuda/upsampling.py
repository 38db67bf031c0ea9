"""Label upsampling on the GPU: bilinear interpolation and argmax in one kernel, compiled by NVRTC when needed.

It does the same arithmetic in the same order as `rtseg.pictures._upsample_kernel`, with the same positions: a label may
differ only where two classes tie to the last bits. Each thread computes four pixels of a row. The corners that they
share come from the cache, and there is never a full-size array of floats.
"""

from typing import Any

import numpy as np
from cuda.bindings import nvrtc

from rtseg.core.errors import EngineError
from rtseg.core.sizes import Size

PIXELS = 4  # of a row, computed by one thread
BLOCK = (32, 8)

# Plain C++ except for CUDA's own words. The tests also compile it for the CPU, with these words defined away.
# `load` converts a half to a float: NVRTC has the instruction but, without the toolkit's headers, no type for it.
SOURCE = r"""
#ifdef RTSEG_HALF
typedef unsigned short logit;
#ifdef __CUDACC_RTC__
__device__ inline float load(const logit *p) { float v; asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(*p)); return v; }
#else
__device__ inline float load(const logit *p) { return half_to_float(*p); }
#endif
#else
typedef float logit;
__device__ inline float load(const logit *p) { return *p; }
#endif

extern "C" __global__ void upsample_labels(
    const logit *logits, int classes, int h, int w,
    const int *cells_y, const float *places_y, const int *cells_x, const float *places_x,
    unsigned char *labels, int height, int width)
{
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    const int left = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (y >= height || left >= width) return;
    const int y0 = cells_y[y], y1 = y0 + 1 < h ? y0 + 1 : y0;
    const float fy = places_y[y];
    int x0[4], x1[4];
    float fx[4], best[4];
    unsigned char label[4] = {0, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        const int x = left + i < width ? left + i : width - 1;
        x0[i] = cells_x[x];
        x1[i] = x0[i] + 1 < w ? x0[i] + 1 : x0[i];
        fx[i] = places_x[x];
    }
    for (int c = 0; c < classes; c++) {
        const logit *upper = logits + ((size_t)c * h + y0) * w, *lower = logits + ((size_t)c * h + y1) * w;
        for (int i = 0; i < 4; i++) {
            const float a = load(upper + x0[i]), b = load(upper + x1[i]);
            const float d = load(lower + x0[i]), e = load(lower + x1[i]);
            const float start = fmaf(fy, d - a, a);
            const float slope = fmaf(fy, e - b, b) - start;
            const float value = fmaf(fx[i], slope, start);
            if (c == 0 || value > best[i]) { best[i] = value; label[i] = (unsigned char)c; }
        }
    }
    unsigned char *row = labels + (size_t)y * width + left;
    for (int i = 0; i < 4; i++) if (left + i < width) row[i] = label[i];
}
"""
NAME = "upsample_labels"


def places(coarse: int, full: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's cell, int32 (full,), and its position within the cell, float32 (full,), along one axis."""
    place = np.maximum((np.arange(full) + 0.5) * coarse / full - 0.5, 0)
    cell = place.astype(np.int32)
    return cell, (place - cell).astype(np.float32)


def grid(size_hw: Size) -> tuple[int, int]:
    """The number of blocks in x and y for labels of a size."""
    across = -(-size_hw[1] // (BLOCK[0] * PIXELS))
    return across, -(-size_hw[0] // BLOCK[1])


def compile_kernel(compute_capability: tuple[int, int], half: bool) -> bytes:
    """The kernel for a GPU: machine code, or PTX if NVRTC is older than the GPU. Needs no driver.

    Args:
        compute_capability: for example (8, 6).
        half: whether logits are FP16 instead of FP32.

    Raises:
        EngineError: NVRTC is missing, or does not support a GPU this old.
    """
    wanted = 10 * compute_capability[0] + compute_capability[1]
    try:
        known = sorted(_checked(nvrtc.nvrtcGetSupportedArchs(), "asking for GPUs"))
    except RuntimeError as error:  # raised by the bindings if they do not find the library
        raise EngineError(
            f"CUDA's run-time compiler is missing: pip install nvidia-cuda-nvrtc ({_line(error)})"
        ) from error
    usable = [arch for arch in known if arch <= wanted]
    if not usable:
        raise EngineError(
            f"CUDA's run-time compiler serves GPUs of compute capability {known[0] // 10}.{known[0] % 10} and above, "
            f"this one has {wanted // 10}.{wanted % 10}"
        )
    native = usable[-1] == wanted
    options = [f"--gpu-architecture={'sm' if native else 'compute'}_{usable[-1]}".encode(), b"--std=c++17"]
    if half:
        options.append(b"-DRTSEG_HALF")
    program = _checked(
        nvrtc.nvrtcCreateProgram(SOURCE.encode(), b"upsample_labels.cu", 0, [], []), "reading the kernel"
    )
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(code) != 0:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program), "reading the log")
        nvrtc.nvrtcGetProgramLog(program, log)
        raise EngineError(f"the label kernel does not compile for {options[0].decode()}: {_line(log.decode())}")
    size, read = (
        (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN) if native else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    )
    image: bytes = b" " * _checked(size(program), "sizing the kernel")
    _checked(read(program, image), "fetching the kernel")
    nvrtc.nvrtcDestroyProgram(program)
    return image


def _checked(result: tuple[Any, ...], what: str) -> Any:
    code, *values = result
    if int(code) != 0:
        raise EngineError(f"CUDA's run-time compiler failed while {what}: {code}")
    return values[0] if values else None


def _line(text: object) -> str:
    return " ".join(str(text).replace("\0", " ").split())[:300]
