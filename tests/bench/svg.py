# SPDX-License-Identifier: Apache-2.0
"""A line chart as SVG: two axes, a grid, some lines with points, a legend. No library is needed to draw or to see it."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 62, 76
LETTER = 6.4  # about the width of one in the legend
NOTE_LETTERS = 125  # that fit below the chart
COLORS = ["#1f5fa8", "#c1440e", "#2e7d32", "#7b4ba0", "#8a6d00", "#555555"]
FONT = 'font-family="sans-serif" fill="#222222"'


class Line:
    """`points` are (x, y), or (x, y, least, most) to show a spread."""

    def __init__(self, name, points, dashed=False):
        self.name, self.points, self.dashed = name, list(points), dashed


def _steps(most, count=6):
    """Round numbers from 0 to at least `most`."""
    size = 1e-6
    while True:
        for factor in (1, 2, 2.5, 5):
            if factor * size * count >= most:
                step = factor * size
                return [step * i for i in range(count + 1) if step * (i - 1) < most]
        size *= 10


class Chart:
    """`notes`: lines below it, such as the command that made it."""

    def __init__(self, title, x_name, y_name, lines, notes=()):
        self.title, self.x_name, self.y_name, self.notes = title, x_name, y_name, notes
        self.lines = [line for line in lines if line.points]
        self.x_steps = _steps(max(point[0] for line in self.lines for point in line.points) or 1)
        self.y_steps = _steps(max(max(point[1:]) for line in self.lines for point in line.points) or 1)

    def _x(self, value):
        return LEFT + value / self.x_steps[-1] * (WIDTH - LEFT - RIGHT)

    def _y(self, value):
        return HEIGHT - BOTTOM - value / self.y_steps[-1] * (HEIGHT - TOP - BOTTOM)

    def _text(self, x, y, text, size=12, anchor="middle", more=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {FONT} {more}>{escape(text)}</text>'

    @staticmethod
    def _rule(x1, y1, x2, y2, color="#dddddd"):
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'

    def _axes(self):
        out = []
        for value in self.x_steps:
            x = self._x(value)
            out += [self._rule(x, TOP, x, HEIGHT - BOTTOM), self._text(x, HEIGHT - BOTTOM + 16, f"{value:g}")]
        for value in self.y_steps:
            y = self._y(value)
            out += [self._rule(LEFT, y, WIDTH - RIGHT, y), self._text(LEFT - 6, y + 4, f"{value:g}", anchor="end")]
        out += [self._rule(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#222222"),
                self._rule(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "#222222"),
                self._text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 34, self.x_name),
                self._text(18, (TOP + HEIGHT - BOTTOM) / 2, self.y_name,
                           more=f'transform="rotate(-90 18 {(TOP + HEIGHT - BOTTOM) / 2:.1f})"'),
                self._text(LEFT, 22, self.title, size=15, anchor="start")]
        for number, note in enumerate(self.notes):
            shown = note if len(note) <= NOTE_LETTERS else note[: NOTE_LETTERS - 1] + "…"
            out.append(self._text(LEFT, HEIGHT - 8 - 14 * (len(self.notes) - 1 - number), shown, size=10, anchor="start"))
        return out

    def _draw(self, line, color):
        places = [(self._x(point[0]), self._y(point[1])) for point in line.points]
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>']
        for point, (x, y) in zip(line.points, places):
            if len(point) == 4:
                out.append(self._rule(x, self._y(point[2]), x, self._y(point[3]), color))
            if not line.dashed:
                out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>')
        return out

    def render(self):
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">',
               *(f"<desc>{escape(note)}</desc>" for note in self.notes),
               f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *self._axes()]
        x, y = LEFT, TOP - 14
        for number, line in enumerate(self.lines):
            color = COLORS[number % len(COLORS)]
            out += [*self._draw(line, color), self._rule(x, y - 4, x + 22, y - 4, color),
                    self._text(x + 27, y, line.name, anchor="start")]
            x += 27 + LETTER * len(line.name) + 20
        return "\n".join([*out, "</svg>", ""])
