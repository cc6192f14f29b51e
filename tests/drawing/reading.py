"""What the tests of drawings share: reading an SVG as a viewer does."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

from minirnn.drawing.canvas import plain, width

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    """Return the root of a drawing, which must be XML."""
    root = ET.fromstring(svg)
    assert root.tag == SVG + "svg"
    return root


def panels(svg):
    """Return a drawing of a module without what is drawn of the inside of a step."""
    root = parsed(svg)
    for group in [child for child in root if child.get("class") == "inside"]:
        root.remove(group)
    return ET.tostring(root, encoding="unicode")


def texts(svg):
    """Return every line of text in a drawing."""
    return ["".join(t.itertext()) for t in parsed(svg).iter(SVG + "text")]


def viewbox(svg):
    x, y, w, h = map(float, parsed(svg).get("viewBox").split())
    return x, y, x + w, y + h


def placed_texts(svg):
    """Return (text, left, top, right, bottom) of every line, groups taken into account."""
    return [
        (text, x + dx, y + dy, right + dx, bottom + dy)
        for element, dx, dy in _moved(parsed(svg), 0.0, 0.0)
        if element.tag == SVG + "text"
        for text, x, y, right, bottom in [_extent(element)]
    ]


def boxes(svg, style):
    """Return (left, top, right, bottom) of every box of a style."""
    found = []
    for element, dx, dy in _moved(parsed(svg), 0.0, 0.0):
        if element.tag == SVG + "rect" and element.get("class") == style:
            x, y, w, h = (float(element.get(name)) for name in ("x", "y", "width", "height"))
            found.append((x + dx, y + dy, x + w + dx, y + h + dy))
    return found


def dots(svg):
    """Return the points at which a line divides."""
    circles = [(e, dx, dy) for e, dx, dy in _moved(parsed(svg), 0.0, 0.0) if e.tag == SVG + "circle"]
    return [(float(e.get("cx")) + dx, float(e.get("cy")) + dy) for e, dx, dy in circles]


def crossed(svg):
    """Return the texts that an upright or level stretch of a line goes through."""
    stretches = []
    for element, dx, dy in _moved(parsed(svg), 0.0, 0.0):
        if element.get("class") == "line":
            points = _numbers(element.get("d"), dx, dy)
            stretches += [(*map(min, a, b), *map(max, a, b)) for a, b in pairwise(points)]
    return [
        text
        for text, left, top, right, bottom in placed_texts(svg)
        for x, y, x_end, y_end in stretches
        if x < right and left < x_end + 0.1 and y < bottom and top < y_end + 0.1
    ]


def heads(svg):
    """Check every line: its corners are round, and its head is isosceles on it; return (where it begins, tip, way).

    The way is "up", "left", "right" or "" for what slants.
    """
    found, points = [], []
    for element, dx, dy in _moved(parsed(svg), 0.0, 0.0):
        if element.get("class") == "line":
            points = _numbers(element.get("d"), dx, dy)
            for a, c, b in re.findall(r"L(\S+) Q(\S+) (\S+)", element.get("d")):
                ((a, *_), (c, *_), (b, *_)) = (_numbers(p, 0, 0) for p in (a, c, b))
                assert abs(math.dist(a, c) - math.dist(c, b)) < 0.2 < math.dist(a, c) < 9.2
        elif element.tag == SVG + "polygon":
            tip, a, b = _numbers(element.get("points"), dx, dy)
            middle, end = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), points[-1]
            assert abs(math.dist(tip, a) - math.dist(tip, b)) < 0.2
            assert abs(math.dist(tip, middle) - 8) < 0.2
            assert abs(math.dist(a, b) - 8) < 0.2
            assert abs(math.dist(tip, end) - 7) < 0.2
            assert math.dist(middle, end) < 1.2  # the line ends within its head
            assert math.dist(tip, points[-2]) > math.dist(end, points[-2]) - 0.2
            x, y = tip[0] - middle[0], tip[1] - middle[1]
            way = "up" if y < -7.8 else "right" if x > 7.8 else "left" if x < -7.8 else ""
            found.append((points[0], tip, way))
    return found


def _numbers(text, dx, dy):
    return [(float(x) + dx, float(y) + dy) for x, y in re.findall(r"([-\d.]+),([-\d.]+)", text)]


def overlapping(areas):
    """Return the pairs of areas (name, left, top, right, bottom) that cover each other by more than a pixel."""
    pairs = [(a, b) for i, a in enumerate(areas) for b in areas[i + 1 :]]
    return [
        (a[0], b[0])
        for a, b in pairs
        if min(a[3], b[3]) - max(a[1], b[1]) > 1 and min(a[4], b[4]) - max(a[2], b[2]) > 1
    ]


def _moved(element, dx, dy):
    for child in element:
        x, y = dx, dy
        if move := re.fullmatch(r"translate\((.+),(.+)\)", child.get("transform", "")):
            x, y = dx + float(move[1]), dy + float(move[2])
        yield child, x, y
        if child.tag == SVG + "g":
            yield from _moved(child, x, y)


def _extent(element):
    size, x, y = (float(element.get(name)) for name in ("font-size", "x", "y"))
    w = sum(width(plain(span.text), float(span.get("font-size", size))) for span in element)
    left = x - {"start": 0.0, "middle": w / 2, "end": w}[element.get("text-anchor")]
    return "".join(element.itertext()), left, y - 0.75 * size, left + w, y + 0.2 * size
