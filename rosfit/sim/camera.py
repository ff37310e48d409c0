"""The view of a simulated camera: a corridor in perspective, moving shapes, name and clock; a JPEG."""

from __future__ import annotations

import io
import math
import zlib
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from rosfit.sim.model import Robot
from rosfit.sim.payloads import clock_text

SIZE = (320, 240)
QUALITY = 80
CONTENT_TYPE = "image/jpeg"

_HORIZON = 104
_FLOOR, _CEILING, _LINE = (112, 106, 98), (196, 202, 208), (80, 88, 98)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def frame(robot: Robot, unix_s: float) -> bytes:
    """What the robot sees, 8 to 15 KB."""
    image = _background().copy()
    draw = ImageDraw.Draw(image)
    vanishing = SIZE[0] / 2 - 90 * math.sin(robot.theta)
    _floor(draw, vanishing, robot.odometer)
    _doors(draw, vanishing, robot.odometer)
    _people(draw, robot, unix_s)
    _caption(draw, robot, unix_s)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


@cache
def _background() -> Image.Image:
    """Ceiling and floor with the grain of a cheap sensor, drawn once."""
    width, height = SIZE
    noise = _grain(width, height)
    flat = Image.new("RGB", SIZE, _CEILING)
    ImageDraw.Draw(flat).rectangle((0, _HORIZON, width, height), fill=_FLOOR)
    return Image.blend(flat, noise.convert("RGB"), 0.10)


def _grain(width: int, height: int) -> Image.Image:
    # Not Image.effect_noise, which draws from a generator that cannot be seeded.
    seed = zlib.crc32(b"grain")
    data = bytearray()
    for _ in range(width * height):
        seed = (seed * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        data.append(96 + (seed >> 16) % 64)
    return Image.frombytes("L", (width, height), bytes(data))


def _floor(draw: ImageDraw.ImageDraw, vanishing: float, odometer: float) -> None:
    width, height = SIZE
    for column in range(-8, 9):
        draw.line((vanishing, _HORIZON, width / 2 + column * 75, height), fill=_LINE)
    for row in range(1, 9):
        depth = row - odometer % 1.0
        if depth > 0.3:
            y = _HORIZON + 130 / depth / 1.2
            draw.line((0, y, width, y), fill=_LINE)


def _doors(draw: ImageDraw.ImageDraw, vanishing: float, odometer: float) -> None:
    for number in range(1, 6):
        depth = number * 1.5 - odometer % 1.5
        side = 1 if (number + int(odometer / 1.5)) % 2 else -1
        x, tall = vanishing + side * 190 / depth, 110 / depth
        wide = 34 / depth
        draw.rectangle((x - wide, _HORIZON - tall, x + wide, _HORIZON + tall * 0.9), (134, 92, 62), _LINE)


def _people(draw: ImageDraw.ImageDraw, robot: Robot, unix_s: float) -> None:
    """Two shapes that walk through the view, of colours that belong to this robot."""
    tint = zlib.crc32(robot.device_id.encode())
    for number in range(2):
        phase = unix_s * (0.35 + 0.2 * number) + (tint % 97) + 3 * number
        x = SIZE[0] / 2 + 140 * math.sin(phase)
        size = 16 + 6 * math.cos(phase * 0.7)
        colour = ((tint >> 3) % 200 + 30, (tint >> (9 + number)) % 200 + 30, (tint >> 17) % 200 + 30)
        y = _HORIZON + 42 + 10 * number
        draw.ellipse((x - size / 2, y - 2.4 * size, x + size / 2, y - 1.4 * size), fill=(228, 190, 160))
        draw.rounded_rectangle((x - size * 0.7, y - 1.4 * size, x + size * 0.7, y + size), 6, fill=colour)


def _caption(draw: ImageDraw.ImageDraw, robot: Robot, unix_s: float) -> None:
    draw.rectangle((0, 0, SIZE[0], 22), fill=(20, 24, 30))
    draw.text((6, 3), robot.device_id, font=_font(14), fill=(255, 255, 255))
    draw.text((250, 3), clock_text(unix_s), font=_font(14), fill=(140, 230, 160))
    text = f"{robot.doing.value}  {robot.speed:.2f} m/s  {robot.battery:.0f} %"
    draw.text((6, SIZE[1] - 20), text, font=_font(13), fill=(255, 255, 255))
