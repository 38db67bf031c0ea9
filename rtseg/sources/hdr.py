"""Converts HDR to SDR, which networks have learned and screens show.

Transfer functions: ITU-R BT.2100-2 (2018), PQ (SMPTE ST 2084) and HLG for a display of 1000 cd/m². SDR white is 203
cd/m², as in ITU-R BT.2408. Brighter light is clipped, as cameras do, so that everything else keeps its tone.
"""

from functools import cache

import cv2
import numpy as np

_PQ, _HLG = 16, 18  # codes of transfer characteristics in ITU-T H.273
_BT2020 = 9  # code of BT.2020's primaries in ITU-T H.273
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
_SYSTEM_GAMMA = 1.2  # of HLG, for a display with that peak
_LUMA = np.array([[0.0593, 0.6780, 0.2627]], np.float32)  # weights of BT.2020, blue first
_TO_BT709 = np.array(
    [[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]], np.float32
)  # ITU-R BT.2087, for linear light, blue first
_STEPS = 65535


def hdr_name(transfer: int) -> str | None:
    """'PQ' or 'HLG' if pictures with these transfer characteristics are HDR, else None."""
    return {_PQ: "PQ", _HLG: "HLG"}.get(transfer)


def hdr_note(transfer: int) -> str | None:
    """What a user should know about a picture with these transfer characteristics."""
    name = hdr_name(transfer)
    return name and f"HDR ({name}): it is mapped to SDR, since the network was trained on SDR"


def to_sdr(image: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """From HDR to the transfer function of BT.709 displays (BT.1886).

    Args:
        image: uint8 BGR (H, W, 3); returned unchanged if it is not HDR.
        transfer: code of its transfer characteristics in ITU-T H.273.
        primaries: code of its primaries in ITU-T H.273.
    """
    if transfer == _PQ:
        light = np.asarray(cv2.LUT(image, _tables()[0]), np.float32)
    elif transfer == _HLG:
        light = np.asarray(cv2.LUT(image, _tables()[1]), np.float32)
        luma = np.asarray(cv2.transform(light, _LUMA), np.float32)
        light *= cv2.pow(luma, _SYSTEM_GAMMA - 1)[:, :, None] * (_PEAK_NITS / _WHITE_NITS)
    else:
        return image
    if primaries == _BT2020:
        light = np.asarray(cv2.transform(light, _TO_BT709), np.float32)
    # 16 bits saturate, which clips below 0 and above 1
    steps = np.asarray(cv2.multiply(light, (float(_STEPS),) * 4, dtype=cv2.CV_16U))  # type: ignore[call-overload]
    return np.take(_tables()[2], steps)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 (256,) for PQ and for HLG: light of each code; uint8 (65536,): code of each step of light."""
    codes = np.linspace(0, 1, 256)
    gamma = np.round(255 * np.linspace(0, 1, _STEPS + 1) ** (1 / 2.4)).astype(np.uint8)
    return (_pq_nits(codes) / _WHITE_NITS).astype(np.float32), _hlg_scene(codes).astype(np.float32), gamma


def _pq_nits(codes: np.ndarray) -> np.ndarray:
    """PQ's electro-optical transfer function, 0..1 -> cd/m²."""
    m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
    root = codes ** (1 / m2)
    light: np.ndarray = 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return light


def _hlg_scene(codes: np.ndarray) -> np.ndarray:
    """HLG's inverse opto-electronic transfer function, 0..1 -> scene light, 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
