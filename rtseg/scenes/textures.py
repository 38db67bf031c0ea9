"""Pictures drawn once per seed: facades, tree sprites, sky, skyline, asphalt and sensor noise."""

from dataclasses import dataclass

import cv2
import numpy as np

from rtseg.scenes.painter import Sprite, label_image, texels
from rtseg.scenes.style import BUILDING, TREE, Colour, Style, vary

_WALLS: tuple[Colour, ...] = (
    (70, 92, 138), (62, 78, 118), (96, 128, 158), (150, 172, 186), (196, 204, 208), (120, 126, 132),
    (88, 108, 128), (136, 160, 182), (66, 88, 104), (160, 150, 140),
)  # fmt: skip
_SHOPS: tuple[Colour, ...] = (
    (40, 40, 150), (130, 60, 25), (50, 95, 35), (35, 32, 32), (30, 110, 180), (90, 50, 90), (185, 185, 185),
)  # fmt: skip

FACADE_SCALE = 40  # pixels per metre in the largest size of a facade


@dataclass(frozen=True)
class Facade:
    """One house front. `levels[side][distance level]` is uint32 (h, w); `side` 1 faces the sun."""

    width: float
    height: float
    levels: tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]
    wall: Colour
    roof: Colour
    roof_height: float
    shop: Colour | None


def _window(image: np.ndarray, box: tuple[int, int, int, int], frame: Colour, rng: np.random.Generator) -> None:
    """Paints a framed, subdivided window into `box` = (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    line = max(1, (x1 - x0) // 12)
    cv2.rectangle(image, (x0, y0), (x1, y1), frame, -1)
    dark = rng.uniform(25, 75)
    glass = (dark * 1.15, dark * 1.05, dark)
    cv2.rectangle(image, (x0 + line, y0 + line), (x1 - line, y1 - line), glass, -1)
    if rng.random() < 0.5:  # the sky in the upper pane
        bright = rng.uniform(90, 170)
        top = y0 + line + int((y1 - y0) * rng.uniform(0.2, 0.5))
        cv2.rectangle(image, (x0 + line, y0 + line), (x1 - line, top), (bright * 1.08, bright, bright * 0.93), -1)
    elif rng.random() < 0.4:  # a curtain
        bright = rng.uniform(120, 190)
        cv2.rectangle(image, (x0 + line, y0 + line), ((x0 + x1) // 2 - line, y1 - line), (bright,) * 3, -1)
    cv2.line(image, ((x0 + x1) // 2, y0), ((x0 + x1) // 2, y1), frame, line)
    cv2.line(image, (x0, (y0 + y1) // 2), (x1, (y0 + y1) // 2), frame, line)
    cv2.rectangle(image, (x0 - line, y1), (x1 + line, y1 + 2 * line), tuple(c * 0.8 for c in frame), -1)


def _wall(rng: np.random.Generator, shape: tuple[int, int], colour: Colour, brick: bool) -> np.ndarray:
    """A plain or brick wall with stains, float32 (h, w, 3)."""
    height, width = shape
    image = np.full((height, width, 3), colour, np.float32)
    image += cv2.resize(rng.normal(0, 5, (9, 9)).astype(np.float32), (width, height))[..., None]
    if brick:
        rows = rng.normal(0, 9, (height // 4 + 1, width // 10 + 1)).astype(np.float32)
        image += cv2.resize(rows, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
        image[::4] *= 1.07
    return image + rng.normal(0, 3, (height, width, 1)).astype(np.float32)


def _paint_facade(
    rng: np.random.Generator, width: float, storeys: int, colour: Colour, shop: Colour | None
) -> np.ndarray:
    """The unlit front of a house, uint8 (h, w, 3), 40 pixels per metre."""
    tall, wide = 120 * storeys, int(width * FACADE_SCALE)
    modern = rng.random() < 0.25
    image: np.ndarray = np.clip(_wall(rng, (tall, wide), colour, not modern and rng.random() < 0.7), 0, 255).astype(
        np.uint8
    )
    frame: Colour = (225, 228, 230) if rng.random() < 0.75 else (50, 48, 46)
    bays = max(2, round(width / rng.uniform(2.0, 3.2)))
    pitch = wide / bays
    half = pitch * (0.42 if modern else rng.uniform(0.2, 0.3))
    door = int(rng.integers(bays))
    for storey in range(storeys):
        base = tall - 120 * storey
        if storey == 0 and shop is not None:
            cv2.rectangle(image, (6, base - 96), (wide - 6, base), shop, -1)
            for bay in range(bays):
                x0, x1 = int(bay * pitch + pitch * 0.08), int((bay + 1) * pitch - pitch * 0.08)
                _window(image, (x0, base - 86, x1, base - (0 if bay == door else 18)), shop, rng)
            continue
        for bay in range(bays):
            middle = (bay + 0.5) * pitch
            if storey == 0 and bay == door:
                leaf = _SHOPS[int(rng.integers(len(_SHOPS)))]
                cv2.rectangle(image, (int(middle - 22), base - 92), (int(middle + 22), base), frame, -1)
                cv2.rectangle(image, (int(middle - 18), base - 88), (int(middle + 18), base), leaf, -1)
            else:
                _window(image, (int(middle - half), base - 92, int(middle + half), base - 36), frame, rng)
        if storey and rng.random() < 0.4:
            cv2.rectangle(image, (0, base - 3), (wide, base + 3), tuple(c * 0.75 for c in colour), -1)
    cv2.rectangle(image, (0, 0), (wide, 7), tuple(c * 0.55 for c in colour), -1)
    return image


def _mapped(image: np.ndarray, gain: np.ndarray | float, offset: np.ndarray) -> np.ndarray:
    """`image * gain + offset` for uint8 (h, w, 3), by table lookup."""
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])


def _levels(image: np.ndarray, style: Style, shade: float, focal: float) -> tuple[np.ndarray, ...]:
    """`image` lit and repeatedly halved, each size with the haze of the distance at which it is used."""
    out = []
    for level in range(5):
        haze = 1.0 - float(np.exp(-min(focal * 2**level / FACADE_SCALE, 150.0) / style.haze))
        gain = np.array(style.light.gain_bgr) * shade * (1 - haze)
        lit = _mapped(image, gain, np.array(style.light.haze_bgr) * haze)
        out.append(texels(label_image(lit, BUILDING)))
        image = cv2.resize(
            image, (max(image.shape[1] // 2, 2), max(image.shape[0] // 2, 2)), interpolation=cv2.INTER_AREA
        )
    return tuple(out)


def make_facades(rng: np.random.Generator, style: Style, focal: float, count: int = 9) -> list[Facade]:
    """The house fronts of one drive."""
    shady, sunny = (0.62, 1.0) if style.light.sun else (0.78, 0.84)
    out = []
    for _ in range(count):
        width = float(rng.uniform(6, 14))
        storeys = int(np.clip(round(rng.normal(style.storeys, 0.8)), 1, 6))
        colour = vary(rng, _WALLS[int(rng.integers(len(_WALLS)))], 14)
        shop = _SHOPS[int(rng.integers(len(_SHOPS)))] if rng.random() < 0.45 else None
        image = _paint_facade(rng, width, storeys, colour, shop)
        levels = (_levels(image, style, shady, focal), _levels(image, style, sunny, focal))
        roof = vary(rng, ((62, 62, 70), (52, 66, 104), (80, 78, 76))[int(rng.integers(3))], 8)
        roof_height = 0.0 if rng.random() < 0.3 else float(rng.uniform(1.5, 3.2))
        out.append(Facade(width, storeys * 3.0, levels, colour, roof, roof_height, shop))
    return out


def _crown(rng: np.random.Generator, style: Style, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One tree, uint8 (384, 288, 3), and its mask, uint8 (384, 288)."""
    tall, wide = 384, 288
    image, mask = np.zeros((tall, wide, 3), np.uint8), np.zeros((tall, wide), np.uint8)
    bark = style.lit(vary(rng, (50, 60, 70), 8), 0.8)
    trunk = 7 if kind != "conifer" else 5
    top = 150 if kind != "bush" else 330
    points = np.array([(144 - trunk, tall), (144 + trunk, tall), (144 + trunk // 2, top), (144 - trunk // 2, top)])
    for target, value in ((image, bark), (mask, (255,))):
        cv2.fillConvexPoly(target, points.astype(np.int32), value)
    leaf = style.lit(vary(rng, style.leaf if kind != "conifer" else (45, 70, 42), 12))
    if kind == "bare":
        leaf = style.lit(vary(rng, (82, 92, 100), 8))
    sun = -style.sun_side if style.mirrored else style.sun_side
    lobes = [(rng.uniform(75, 213), rng.uniform(80, 175), rng.uniform(42, 66)) for _ in range(9)]
    count = {"bush": 260, "conifer": 560}.get(kind, 900)
    for index in range(count):
        depth = index / count  # from the shaded back to the lit front
        if kind == "conifer":
            v = rng.uniform(0, 1)
            x, y = 144 + min(max(rng.normal(0, 0.42), -1), 1) * (8 + 100 * v), 22 + 315 * v
        elif kind == "bush":
            angle, r = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            x, y = 144 + 125 * r * np.cos(angle), 300 + 85 * r * np.sin(angle)
        else:
            angle, r = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            centre_x, centre_y, size = lobes[int(rng.integers(len(lobes)))]
            x, y = centre_x + size * r * np.cos(angle), centre_y + size * r * np.sin(angle)
        light = 0.5 + 0.5 * depth + 0.25 * sun * (x - 144) / 144 - 0.3 * (y - 150) / 200 + rng.normal(0, 0.08)
        blue, green, red = (min(c * max(light, 0.25), 250.0) for c in leaf)
        value = (blue, green, red)
        radius = int(rng.integers(3, 17 if depth < 0.5 else 7))
        if kind == "bare":
            end = (int(x + rng.normal(0, 14)), int(y - rng.uniform(10, 40)))
            cv2.line(image, (int(x), int(y)), end, value, int(rng.integers(3, 9)))
            cv2.line(mask, (int(x), int(y)), end, (255,), 9)
        else:
            for target, paint in ((image, value), (mask, (255,))):
                cv2.circle(target, (int(x), int(y)), radius, paint, -1)
    grain = rng.normal(0, 11 if kind != "bare" else 20, (tall, wide, 1))
    if kind == "bare":  # sky visible through the twigs
        grain = grain + 0.35 * np.mean(style.light.sky_low) * (rng.random((tall, wide, 1)) < 0.35)
    return np.clip(image + grain, 0, 255).astype(np.uint8), mask


def make_sprites(rng: np.random.Generator, style: Style, focal: float, kind: str) -> list[Sprite]:
    """A tree of `kind` leafy, bare, conifer or bush and its mirror image, with haze on the smaller sizes."""
    image, mask = _crown(rng, style, kind)
    aspect = image.shape[1] / image.shape[0]
    if kind == "bush":
        image, mask = image[192:], mask[192:]
        aspect *= 2
    levels = []
    for level in range(5):
        haze = 1.0 - float(np.exp(-min(focal * 7.0 * 2**level / 384, 120.0) / style.haze))
        hazed = _mapped(image, 1 - haze, np.array(style.light.haze_bgr) * haze)
        levels.append(texels(np.dstack([hazed, np.where(mask > 0, TREE, 0).astype(np.uint8)])))
        half = (image.shape[1] // 2, image.shape[0] // 2)
        weight = cv2.resize(mask, half, interpolation=cv2.INTER_AREA)
        premultiplied = cv2.resize(cv2.copyTo(image, mask), half, interpolation=cv2.INTER_AREA).astype(np.float32)
        image = np.clip(premultiplied * 255 / np.maximum(weight, 1)[..., None], 0, 255).astype(np.uint8)
        mask = np.where(weight > 127, 255, 0).astype(np.uint8)
    flipped = tuple(np.ascontiguousarray(level[:, ::-1]) for level in levels)
    return [Sprite(tuple(levels), aspect), Sprite(flipped, aspect)]


def make_sky(rng: np.random.Generator, style: Style, size_hw: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w, 4), repeats sideways: gradient and clouds, drawn small because they have no fine detail."""
    height, width = size_hw
    small = (96, 256)
    fall = np.linspace(0, 1, small[0], dtype=np.float32)[:, None, None] ** 0.8
    image = np.array(style.light.sky_top) * (1 - fall) + np.array(style.light.sky_low) * fall
    image = np.broadcast_to(image, (*small, 3)).astype(np.float32)
    clouds = np.zeros(small, np.float32)
    for octave, weight in ((2, 1.0), (4, 0.7), (8, 0.45), (16, 0.3), (32, 0.15)):
        grid = rng.normal(0, 1, (2 * octave, octave)).astype(np.float32)
        wide = cv2.resize(np.tile(grid, (1, 3)), (3 * small[1], small[0]), interpolation=cv2.INTER_CUBIC)
        clouds += weight * wide[:, small[1] : 2 * small[1]]  # the middle of three copies tiles seamlessly
    cover = (
        np.clip((clouds + rng.uniform(-0.6, 0.6)) * 0.7 * fall[..., 0] ** 0.3 + 0.1, 0, 1)[..., None]
        * style.light.cloud
    )
    shade = np.clip(1.02 - 0.07 * clouds, 0.8, 1.08)[..., None]
    white = np.array(style.light.haze_bgr) * 1.1 * shade
    image = image * (1 - cover) + white * cover
    enlarged = cv2.resize(np.clip(image, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return label_image(enlarged, 0)


def make_noise(rng: np.random.Generator, size_hw: tuple[int, int], sigma: float, margin: int) -> np.ndarray:
    """uint8 (h + margin, w + margin, 3): noise of mean 16 and spread `sigma`, partly shared by the channels."""
    height, width = size_hw[0] + margin, size_hw[1] + margin
    base = rng.normal(0, 1, (min(height, 512), min(width, 1024), 1)) * 0.7
    base = 16 + sigma * (base + 0.7 * rng.normal(0, 1, (*base.shape[:2], 3)))
    tile = np.clip(base, 0, 32).astype(np.uint8)
    repeats = (-(-height // tile.shape[0]), -(-width // tile.shape[1]), 1)
    return np.ascontiguousarray(np.tile(tile, repeats)[:height, :width])


def make_asphalt(rng: np.random.Generator, side: int) -> np.ndarray:
    """int16 (side, side): grain of mean 0 within -24..24 that repeats in both directions."""
    grain = rng.normal(0, 4.0, (side, side))
    for cells, weight in ((side // 4, 3.0), (side // 16, 3.0)):
        grid = np.pad(rng.normal(0, weight, (cells, cells)), 1, mode="wrap").astype(np.float32)
        margin = side // cells
        wide = cv2.resize(grid, (side + 2 * margin, side + 2 * margin))
        grain += wide[margin:-margin, margin:-margin]
    return np.clip(grain, -24, 24).astype(np.int16)


def make_fence(rng: np.random.Generator, style: Style, label: int) -> tuple[np.ndarray, ...]:
    """A 4 m piece of fence in three sizes: boards, or railings in front of something dark."""
    image: np.ndarray = np.zeros((96, 256, 3), np.float32)
    if rng.random() < 0.5:
        image[:] = vary(rng, (70, 96, 122), 18)
        for x in range(0, 256, 8):
            image[:, x : x + 8] *= rng.uniform(0.82, 1.08)
            image[:, x] *= 0.6
        image[:6] *= 1.15
        image[:, ::64] *= 0.5
    else:
        image[:] = vary(rng, (46, 62, 54), 10)
        image += rng.normal(0, 9, (96, 256, 1))
        bar = vary(rng, ((28, 28, 28), (150, 152, 152), (40, 60, 36))[int(rng.integers(3))], 6)
        for x in range(0, 256, 12):
            image[:, x : x + 4] = bar
        for y in (4, 84):
            image[y : y + 6] = bar
    image *= np.array(style.light.gain_bgr, np.float32) * 0.9
    out = []
    for _ in range(3):
        out.append(texels(label_image(np.clip(image, 0, 255).astype(np.uint8), label)))
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return tuple(out)


def make_skyline(rng: np.random.Generator, style: Style, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Distant trees and roofs that repeat sideways: uint8 (h, w, 4) and their mask (h, w)."""
    height, width = size_hw
    image, mask = np.zeros((height, width, 4), np.uint8), np.zeros((height, width), np.uint8)
    keep = float(np.exp(-130.0 / style.haze))
    haze = np.array(style.light.haze_bgr)
    x = 0
    while x < width:
        step = int(rng.uniform(0.2, 0.9) * height) + 2
        is_tree = rng.random() < 0.55
        colour = style.leaf if is_tree else _WALLS[int(rng.integers(len(_WALLS)))]
        value = (
            *(np.array(style.lit(vary(rng, colour, 8), 0.85)) * keep + haze * (1 - keep)),
            TREE if is_tree else BUILDING,
        )
        top = int(height * rng.uniform(0.05, 0.6))
        for target, paint in ((image, value), (mask, (255,))):
            if is_tree:
                cv2.ellipse(target, (x + step // 2, height), (step, height - top), 0, 180, 360, paint, -1)
                cv2.rectangle(target, (x, height - height // 4), (x + step, height), paint, -1)
            else:
                cv2.rectangle(target, (x, top), (x + step, height), paint, -1)
        x += step
    return image, mask
