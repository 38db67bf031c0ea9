"""The seed's choices for a whole drive: light, palette, street layout, camera, season."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]  # BGR, 0..255

# Ids of rtseg.core.labels.CAMVID11, in its order.
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, CYCLIST = range(11)


@dataclass(frozen=True)
class Light:
    """Time of day. `gain_bgr` multiplies every colour of the world; with distance, colours fade to `haze_bgr`."""

    name: str
    sky_top: Colour
    sky_low: Colour
    cloud: float
    gain_bgr: Colour
    shadow: float
    sun: bool
    haze_bgr: Colour


LIGHTS = (
    Light("clear", (235, 185, 120), (250, 238, 222), 0.5, (0.98, 1.0, 1.03), 0.50, True, (225, 215, 205)),
    Light("bright", (252, 246, 236), (255, 254, 250), 0.2, (0.92, 0.95, 0.98), 0.48, True, (232, 228, 222)),
    Light("overcast", (212, 206, 198), (238, 236, 232), 0.7, (0.92, 0.90, 0.88), 0.78, False, (215, 213, 210)),
    Light("white", (250, 250, 248), (255, 255, 255), 0.1, (0.74, 0.74, 0.74), 0.70, False, (225, 225, 225)),
    Light("low_sun", (215, 180, 145), (185, 222, 250), 0.6, (0.80, 0.90, 1.04), 0.45, True, (180, 200, 222)),
    Light("dusk", (125, 100, 80), (160, 150, 150), 0.9, (0.40, 0.36, 0.33), 0.75, False, (120, 112, 108)),
)
_LIGHT_WEIGHTS = (0.24, 0.18, 0.22, 0.14, 0.12, 0.10)


@dataclass(frozen=True)
class Style:
    """One seed's choices; lengths in metres, speeds in m/s, `horizon` and `focal` as shares of height and width."""

    light: Light
    sun_side: int
    mirrored: bool
    camera_height: float
    horizon: float
    focal: float
    camera_u: float
    speed: float
    sway: float
    curvature: float
    road_left: float
    road_right: float
    pavement: float
    setback: float
    verge: bool
    parking: float
    density: float
    building_share: float
    storeys: float
    trees: float
    bare_trees: float
    fences: float
    crowd: int
    cyclists: int
    oncoming: int
    asphalt: Colour
    paving: Colour
    grass: Colour
    leaf: Colour
    kerb_lines: bool
    noise: float
    contrast: float
    haze: float

    def lit(self, colour: Colour, shade: float = 1.0) -> Colour:
        """`colour` under this light, darkened by `shade`."""
        blue, green, red = self.light.gain_bgr
        return (colour[0] * blue * shade, colour[1] * green * shade, colour[2] * red * shade)


def vary(rng: np.random.Generator, colour: Colour, spread: float = 12.0) -> Colour:
    """`colour` with slightly varied brightness (mostly) and hue."""
    common = rng.normal(0.0, spread)
    blue, green, red = (float(np.clip(c + common + rng.normal(0.0, spread * 0.3), 4, 250)) for c in colour)
    return (blue, green, red)


def make_style(seed: int) -> Style:
    """All per-drive choices for `seed`."""
    rng = np.random.default_rng((seed, 1))
    light = LIGHTS[int(rng.choice(len(LIGHTS), p=_LIGHT_WEIGHTS))]
    asphalt = float(rng.uniform(78, 122))
    lane = float(rng.uniform(2.9, 3.5))
    parking = float(rng.choice([0.0, 0.45, 0.8]))
    extra = 2.1 if parking else float(rng.uniform(0.2, 0.9))
    leaf_colours = ((38, 92, 62), (45, 105, 90), (40, 78, 50), (50, 110, 120))
    return Style(
        light=light,
        sun_side=int(rng.choice([-1, 1])),
        mirrored=bool(rng.random() < 0.35),
        camera_height=float(rng.uniform(1.25, 1.8)),
        horizon=float(rng.uniform(0.43, 0.53)),
        focal=float(rng.uniform(0.82, 1.15)),
        camera_u=float(rng.uniform(-0.25, 0.25)),
        speed=float(rng.uniform(4.5, 10.0)),
        sway=float(rng.uniform(0.5, 1.3)),
        curvature=float(rng.choice([0.0, 1.0]) * rng.uniform(0.002, 0.008)),
        road_left=lane / 2 + extra,
        road_right=lane * 1.5 + extra,
        pavement=float(rng.uniform(1.9, 3.6)),
        setback=float(rng.choice([0.0, 0.4, 2.5, 4.5])),
        verge=bool(rng.random() < 0.45),
        parking=parking,
        density=float(rng.uniform(0.75, 1.3)),
        building_share=float(rng.choice([0.25, 0.5, 0.7, 0.88], p=[0.15, 0.2, 0.35, 0.3])),
        storeys=float(rng.uniform(2.0, 4.2)),
        trees=float(rng.uniform(0.25, 1.0)),
        bare_trees=float(rng.choice([0.0, 0.25, 0.9])),
        fences=float(rng.uniform(0.55, 0.95)),
        crowd=int(rng.integers(6, 15)),
        cyclists=int(rng.integers(4, 7)),
        oncoming=int(rng.integers(3, 6)),
        asphalt=vary(rng, (asphalt * 1.02, asphalt, asphalt * 0.97), 3),
        paving=vary(rng, (128, 136, 142), 14),
        grass=vary(rng, (52, 112, 92), 12),
        leaf=leaf_colours[int(rng.integers(len(leaf_colours)))],
        kerb_lines=bool(rng.random() < 0.5),
        noise=float(rng.uniform(1.5, 4.5)),
        contrast=float(rng.uniform(0.88, 1.12)),
        haze=float(rng.uniform(140, 420)),
    )
