"""The layout of the street: blocks of houses, furniture and parked cars, built on demand from the seed."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from rtseg.scenes import bodies
from rtseg.scenes.cars import CARS, PAINTS, CarKind, draw_car
from rtseg.scenes.painter import Painter, Sprite
from rtseg.scenes.style import FENCE, PAVEMENT, ROAD, Colour, Style, vary
from rtseg.scenes.textures import Facade, make_facades, make_fence, make_sprites
from rtseg.scenes.world import BLOCK, CARRIAGEWAY, KERBSIDE, LOTS, Block, Item, Mark, car_shadow, shadow


@dataclass(frozen=True)
class Stock:
    """The textures that a drive's blocks choose from."""

    facades: list[Facade]
    trees: list[Sprite]
    bushes: list[Sprite]
    fences: list[tuple[np.ndarray, ...]]


def make_stock(rng: np.random.Generator, style: Style, focal: float) -> Stock:
    """All facades, trees and fences of one drive."""
    kinds = ["bare" if rng.random() < style.bare_trees else "leafy" for _ in range(3)] + ["conifer"]
    return Stock(
        make_facades(rng, style, focal),
        [sprite for kind in kinds for sprite in make_sprites(rng, style, focal, kind)],
        [sprite for _ in range(2) for sprite in make_sprites(rng, style, focal, "bush")],
        [make_fence(rng, style, FENCE) for _ in range(3)],
    )


class BlockMaker:
    """Builds the block of one side from the seed alone, so that frames can be drawn in any order."""

    def __init__(self, style: Style, stock: Stock, seed: int) -> None:
        self.style = style
        self.stock = stock
        self.seed = seed

    def make(self, index: int, side: int) -> Block:
        """Block `index` on `side` (-1 left, 1 right) of the road."""
        rng = np.random.default_rng((self.seed, 3, index, side + 1))
        block = Block()
        edge = self.style.road_right if side > 0 else self.style.road_left
        self._lots(rng, block, side, edge, index * BLOCK)
        self._furniture(rng, block, side, edge, index * BLOCK)
        self._parked(rng, block, side, edge, index * BLOCK)
        self._wear(rng, block, side, edge, index * BLOCK)
        return block

    def _lots(self, rng: np.random.Generator, block: Block, side: int, edge: float, start: float) -> None:
        """Houses, gardens, parks and side streets, one after the other."""
        style = self.style
        inner = edge + style.pavement
        s, end = start, start + BLOCK
        garden = style.setback > 1.5
        while s < end - 2.0:
            roll = rng.random()
            facade = self.stock.facades[int(rng.integers(len(self.stock.facades)))]
            width = min(facade.width, end - s)
            if end - s - width < 4.0:
                width = end - s
            if roll < style.building_share and width > 4.5:
                line = inner + style.setback + float(rng.uniform(0, 0.5))
                block.items.append(
                    Item(
                        s + width,
                        LOTS,
                        170.0,
                        partial(bodies.draw_building, facade=facade, side=side, line=line, s=(s, s + width)),
                    )
                )
                if style.light.sun and side == style.sun_side:
                    self._house_shadow(block, side, line, facade.height, s, width)
                if facade.shop is not None and rng.random() < 0.7:
                    at = s + float(rng.uniform(1, width - 1))
                    block.items.append(
                        Item(
                            at,
                            LOTS,
                            60.0,
                            partial(bodies.draw_board, side=side, line=line, s=at, y=3.0, colour=facade.shop),
                        )
                    )
                if garden:
                    self._front(rng, block, side, inner, s, width)
            elif roll > 0.93 and width > 6.0:
                width = 7.0
                block.marks.append(Mark((side * edge, side * (edge + 30)), (s, s + width), style.asphalt, ROAD))
                if rng.random() < 0.6:
                    self._waiting_car(rng, block, side, edge + 0.6, s)
            else:
                width = min(float(rng.uniform(5, 11)), end - s)
                self._front(rng, block, side, inner, s, width)
                for _ in range(int(rng.integers(1, 4))):
                    at = s + float(rng.uniform(0, width))
                    self._tree(
                        rng, block, side * (inner + float(rng.uniform(2, 9))), at, LOTS, float(rng.uniform(6, 12))
                    )
            s += width

    def _front(self, rng: np.random.Generator, block: Block, side: int, inner: float, s: float, width: float) -> None:
        """A fence or a hedge along the back of the pavement."""
        u = side * (inner + 0.05)
        if rng.random() < self.style.fences:
            self._fence(rng, block, u, (s, s + width), LOTS)
        else:
            for at in np.arange(s + 0.6, s + width, 1.3):
                self._bush(rng, block, side * (inner + 0.7), float(at))

    def _fence(self, rng: np.random.Generator, block: Block, u: float, s: tuple[float, float], layer: int) -> None:
        levels = self.stock.fences[int(rng.integers(len(self.stock.fences)))]
        height = float(rng.uniform(1.0, 1.7 if layer == LOTS else 1.15))
        pieces = max(1, round((s[1] - s[0]) / 4.0))
        ends = np.linspace(s[0], s[1], pieces + 1)
        for low, high in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            draw = partial(bodies.draw_textured_wall, levels=levels, u=u, s=(low, high), y1=height)
            block.items.append(Item(high - 0.02, layer, 90.0, draw))

    def _bush(self, rng: np.random.Generator, block: Block, u: float, s: float) -> None:
        sprite = self.stock.bushes[int(rng.integers(len(self.stock.bushes)))]
        height = float(rng.uniform(1.0, 1.9))
        block.items.append(Item(s, LOTS, 50.0, partial(Painter.sprite, sprite=sprite, foot=(u, 0.0, s), height=height)))

    def _tree(self, rng: np.random.Generator, block: Block, u: float, s: float, layer: int, height: float) -> None:
        sprite = self.stock.trees[int(rng.integers(len(self.stock.trees)))]
        block.items.append(
            Item(s, layer, 120.0, partial(Painter.sprite, sprite=sprite, foot=(u, 0.0, s), height=height))
        )
        lean = -self.style.sun_side if self.style.light.sun else 0.0
        for _ in range(6 if self.style.light.sun else 1):
            centre = (u + lean * height * rng.uniform(0.2, 0.7), s + rng.uniform(-1.3, 1.3))
            self._disc(block, centre, height * rng.uniform(0.07, 0.16))

    def _disc(self, block: Block, centre: tuple[float, float], radius: float) -> None:
        ring = bodies.CIRCLE * radius
        block.shadows.append(shadow([(centre[0] + x, centre[1] + y) for x, y in ring]))

    def _house_shadow(self, block: Block, side: int, line: float, height: float, s: float, width: float) -> None:
        u0, u1 = side * line, side * (line - height * 0.75)
        block.shadows.append(shadow([(u0, s), (u0, s + width), (u1, s + width + 1.5), (u1, s + 1.5)]))

    def _furniture(self, rng: np.random.Generator, block: Block, side: int, edge: float, start: float) -> None:
        """Lamps, signs, signals, bollards and street trees between kerb and pavement."""
        style = self.style
        kerb = side * (edge + 0.45)
        tone = float(rng.uniform(45, 120))
        grey = (tone, tone, tone * 0.97)
        lamp_rng = np.random.default_rng((self.seed, 4, side + 1))
        height, arm, radius = (
            lamp_rng.uniform(5, 8.5),
            -side * lamp_rng.choice([0.0, 1.1, 1.6]),
            lamp_rng.uniform(0.08, 0.12),
        )
        for at in (start + 5 + side * 3, start + 29 + side * 3):
            self._add_pole(block, (kerb, at), float(height), float(radius), grey, float(arm))
        for _ in range(int(rng.integers(2, 5))):
            at = start + float(rng.uniform(0, BLOCK))
            kind = bodies.SIGNS[int(rng.integers(len(bodies.SIGNS)))]
            draw = partial(bodies.draw_sign, at=(kerb + side * 0.2, at), kind=kind, height=float(rng.uniform(2.1, 2.9)))
            block.items.append(Item(at, KERBSIDE, 90.0, draw))
        if rng.random() < 0.35:
            at = start + float(rng.uniform(10, 40))
            draw = partial(bodies.draw_traffic_light, at=(kerb, at), phase=float(rng.random()))
            block.items.append(Item(at, KERBSIDE, 90.0, draw))
            if rng.random() < 0.7:  # the stop line, or a zebra crossing
                self._crossing(rng, block, side, edge, at)
        if rng.random() < 0.35:  # a guard rail at the kerb
            first = start + float(rng.uniform(0, 30))
            self._fence(rng, block, side * (edge + 0.3), (first, first + float(rng.uniform(8, 16))), KERBSIDE)
        elif rng.random() < 0.4:
            first, colour = start + float(rng.uniform(0, 30)), grey
            for k in range(int(rng.integers(3, 8))):
                self._add_pole(block, (kerb, first + 1.8 * k), 1.0, 0.09, colour, 0.0)
        for _ in range(int(rng.poisson(2.2 * style.trees * style.density))):
            at = start + float(rng.uniform(0, BLOCK))
            self._tree(
                rng, block, side * (edge + min(1.0, style.pavement * 0.4)), at, KERBSIDE, float(rng.uniform(4.5, 8.5))
            )

    def _add_pole(
        self, block: Block, at: tuple[float, float], height: float, radius: float, colour: Colour, arm: float
    ) -> None:
        draw = partial(bodies.draw_pole, at=at, height=height, radius=radius, colour=colour, arm=arm)
        block.items.append(Item(at[1], KERBSIDE, 110.0, draw))
        if self.style.light.sun:
            tip = at[0] - self.style.sun_side * height * 0.75
            ends = ((at[0], at[1]), (tip, at[1] + 1.0), (tip, at[1] + 1.15), (at[0], at[1] + 0.15))
            block.shadows.append(shadow(ends))

    def _crossing(self, rng: np.random.Generator, block: Block, side: int, edge: float, at: float) -> None:
        white: Colour = (205, 208, 210)
        if rng.random() < 0.5:
            inner = edge - 0.2
            low = inner - (self.style.road_right - self.style.road_left)
            block.marks.append(Mark((side * low, side * inner), (at - 0.3, at), white, ROAD))
            return
        for u in np.arange(-self.style.road_left + 0.4, self.style.road_right - 0.4, 1.1):
            block.marks.append(Mark((float(u), float(u) + 0.55), (at, at + 2.8), white, ROAD))

    def _parked(self, rng: np.random.Generator, block: Block, side: int, edge: float, start: float) -> None:
        """Cars at the kerb."""
        s = start + float(rng.uniform(0, 6))
        while self.style.parking and s < start + BLOCK - 6:
            if rng.random() < self.style.parking:
                kind = CARS[int(rng.choice(5, p=(0.35, 0.25, 0.2, 0.1, 0.1)))]
                u = side * (edge - 0.12 - kind.width / 2)
                self._car(rng, block, kind, (u, s), shows_rear=side < 0 or rng.random() < 0.2)
                s += kind.length
            else:
                s += 5.0
            s += float(rng.uniform(0.6, 1.6))

    def _car(
        self, rng: np.random.Generator, block: Block, kind: CarKind, at: tuple[float, float], shows_rear: bool
    ) -> None:
        paint = vary(rng, PAINTS[int(rng.integers(len(PAINTS)))], 8)
        draw = partial(draw_car, kind=kind, paint=paint, at=at, shows_rear=shows_rear)
        block.items.append(Item(at[1], CARRIAGEWAY, 90.0, draw))
        block.shadows.append(car_shadow(self.style, kind, at))

    def _waiting_car(self, rng: np.random.Generator, block: Block, side: int, u: float, s: float) -> None:
        kind = CARS[int(rng.integers(5))]
        paint = vary(rng, PAINTS[int(rng.integers(len(PAINTS)))], 8)
        at = (side * (u + float(rng.uniform(0, 2))), s + 1.0)
        draw = partial(draw_car, kind=kind, paint=paint, at=at, shows_rear=bool(rng.random() < 0.3), across=side)
        block.items.append(Item(at[1], LOTS, 90.0, draw))

    def _wear(self, rng: np.random.Generator, block: Block, side: int, edge: float, start: float) -> None:
        """Repairs, manholes and paving of another tone."""
        style = self.style
        for _ in range(int(rng.integers(2, 6))):
            s, u = start + float(rng.uniform(0, BLOCK)), float(rng.uniform(0, edge - 0.6))
            tone = float(rng.uniform(0.78, 1.16))
            size = (float(rng.uniform(0.4, 1.2)), float(rng.uniform(0.5, 7)))
            colour = (style.asphalt[0] * tone, style.asphalt[1] * tone, style.asphalt[2] * tone)
            span = (side * u, side * min(u + size[0], edge))
            block.marks.insert(0, Mark(span, (s, s + size[1]), colour, ROAD, 60.0))
        for s in np.arange(start, start + BLOCK, 3.0):
            tone = float(rng.uniform(0.9, 1.08))
            colour = (style.paving[0] * tone, style.paving[1] * tone, style.paving[2] * tone)
            near = edge + 0.15
            span = (side * near, side * (edge + style.pavement))
            block.marks.insert(0, Mark(span, (float(s), float(s) + 1.5), colour, PAVEMENT, 35.0))
