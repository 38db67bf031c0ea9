"""Whether an NVIDIA GPU can be used, as told by the driver itself; imports no package."""

import ctypes
import sys
from functools import cache

# The most frequent errors of cuInit, and what helps (CUDA driver API, CUresult).
_REASONS = {
    3: "the NVIDIA driver is not initialised: restart the machine",
    34: "the driver's library is a stub of the CUDA toolkit: install the NVIDIA driver",
    100: "the NVIDIA driver finds no GPU: check CUDA_VISIBLE_DEVICES and, in a container, --gpus all",
    101: "CUDA_VISIBLE_DEVICES names a GPU that is not there",
    802: "the GPU's fabric is not ready: is nvidia-fabricmanager running?",
    803: "the NVIDIA driver's library and its kernel module have different versions: restart the machine",
    804: "the CUDA compatibility library does not fit this GPU: use the driver's own libcuda",
    999: "the NVIDIA driver failed: restart the machine, or look at its log (dmesg)",
}


@cache
def gpu_problem() -> str | None:
    """Why no NVIDIA GPU can be used on this machine, in one line; None if one can."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed (libcuda is not found)"
    code = driver.cuInit(0)
    if code != 0:
        return _REASONS.get(code, f"the NVIDIA driver refuses to start (cuInit: error {code})")
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return _REASONS[100]
    return None


@cache
def driver_version() -> str:
    """The driver's own version, '580.95.05', from its management library; '' if there is none (Jetson)."""
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return ""
    text = ctypes.create_string_buffer(80)
    if library.nvmlInit_v2() != 0 or library.nvmlSystemGetDriverVersion(text, len(text)) != 0:
        return ""
    return text.value.decode()
