"""Draws life.svg and states.svg beside itself: python docs/pictures/draw.py

One file serves light and dark pages: its colours are variables, and the viewer's colour scheme chooses. The numbers are
medians of the runs in docs/bench.png, in milliseconds.
"""

from html import escape
from pathlib import Path

STYLE = """
svg { --ink: #1f2328; --soft: #59636e; --wait: #8c959f; --panel: #f6f8fa; --edge: #d1d9e0; --bad: #c3202b; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6edf3; --soft: #9ea7b3; --wait: #6e7681; --panel: #1b2129; --edge: #3a424c; --bad: #ff7b72; }
}
text { font: 14px system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); } .small { font-size: 13px; } .title { font-size: 19px; font-weight: 600; }
.bold { font-weight: 600; } .on { fill: #fff; font-weight: 600; } .bad { fill: var(--bad); }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.panel { fill: var(--panel); stroke: var(--edge); } .lane { stroke: var(--edge); }
.waits { stroke: var(--wait); stroke-dasharray: 1 6; stroke-width: 2.5; stroke-linecap: round; }
.arrow { stroke: var(--soft); stroke-width: 1.7; fill: none; marker-end: url(#head); }
.ends { stroke: var(--bad); stroke-width: 1.7; fill: none; marker-end: url(#end); }
#head path { fill: var(--soft); } #end path { fill: var(--bad); }
"""
HEAD = (
    '<marker id="{}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L10 5 L0 10 z"/></marker>'
)
# With white words on them, and on both kinds of page.
COLOURS = {
    "caller": "#57606a",
    "watch": "#8250a8",
    "fork": "#5a4a9c",
    "isolate": "#3a62a8",
    "import": "#25778c",
    "initialise": "#1a7f64",
    "thaw": "#2f7d3a",
    "handler": "#9a6700",
    "still": "#3d6f94",
    "dead": "#a40e26",
}


class Picture:
    """Shapes and words, in the order in which they are drawn."""

    def __init__(self, name, width, height, title):
        self.name, self.width, self.height, self.title = name, width, height, title
        self.parts = []

    def text(self, x, y, words, classes=""):
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{classes}">{escape(words)}</text>')

    def box(self, x, y, width, height, colour):
        fill = f'fill="{COLOURS[colour]}"' if colour in COLOURS else f'class="{colour}"'
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" {fill}/>')

    def path(self, line, classes):
        self.parts.append(f'<path d="{line}" class="{classes}"/>')

    def svg(self):
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(self.title)}">'
        lines = [
            head,
            f"<title>{escape(self.title)}</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{HEAD.format('head')}{HEAD.format('end')}</defs>",
            *self.parts,
            "</svg>\n",
        ]
        return "\n".join(lines)


class Start:
    """A panel with the bars of one kind of start, a lane for each who has a part in it."""

    LANE, BAR, NAMES, HEAD = 52, 38, 28, 56

    def __init__(self, picture, y, headline, lanes):
        title, what, took = headline
        self.picture, self.lanes = picture, {name: y + self.HEAD + self.LANE * i for i, name in enumerate(lanes)}
        self.end = y + self.HEAD + self.LANE * len(lanes) + 6
        picture.box(6, y, picture.width - 12, self.end - y, "panel")
        picture.text(self.NAMES, y + 35, title, "title")
        picture.text(146, y + 34, what, "soft")
        picture.text(picture.width - 28, y + 35, took, "title end")
        for name, top in self.lanes.items():
            picture.path(f"M{self.NAMES} {top} H{picture.width - 28}", "lane")
            picture.text(self.NAMES, top + 31, name, "bold")

    def bar(self, lane, span, colour, words, took=""):
        left, right = span
        top = self.lanes[lane] + 7
        self.picture.box(left, top, right - left, self.BAR, colour)
        lines = [words, took] if took else [words]
        for i, line in enumerate(lines):
            y = top + (24 if len(lines) == 1 else 16 + 16 * i)
            self.picture.text((left + right) / 2, y, line, "on small middle")

    def middle(self, lane):
        return self.lanes[lane] + 7 + self.BAR / 2

    def waits(self, lane, left, right):
        self.picture.path(f"M{left + 8} {self.middle(lane):g} H{right - 8}", "waits")

    def down(self, x, lane, to, right):
        """An arrow from the foot of a bar, down and to the right."""
        self.picture.path(f"M{x} {self.lanes[lane] + 7 + self.BAR} V{self.middle(to):g} H{right - 2}", "arrow")

    def up(self, left, lane, to, x):
        """An arrow from the end of a bar, to the right and up."""
        self.picture.path(f"M{left} {self.middle(lane):g} H{x} V{self.lanes[to] + 9 + self.BAR}", "arrow")


def life():
    """Who does what, when an event comes in: time goes to the right."""
    me, watcher, zygote, inside = "your thread", "supervisor", "zygote", "environment"
    picture = Picture("life.svg", 860, 730, "The life of an invocation: cold, frozen and warm, and who does what")

    cold = Start(
        picture, 6, ("Cold", "none is there: one is forked from the zygote", "2.25 ms"), [me, watcher, zygote, inside]
    )
    cold.bar(me, (146, 212), "caller", "event")
    cold.waits(me, 212, 752)
    cold.bar(me, (752, 832), "caller", "answer")
    cold.down(178, me, zygote, 218)
    cold.bar(zygote, (218, 318), "fork", "fork", "0.85")
    cold.down(268, zygote, inside, 322)
    cold.bar(inside, (322, 398), "isolate", "isolate", "0.26")
    cold.bar(inside, (402, 478), "import", "import", "0.29")
    cold.bar(inside, (482, 582), "initialise", "initialise", "0.59")
    cold.bar(inside, (586, 732), "handler", "your handler", "0.16")
    cold.bar(watcher, (218, 732), "watch", "watches: the clock, memory, whether it is alive")
    cold.up(732, inside, me, 792)

    frozen = Start(
        picture,
        cold.end + 12,
        ("Frozen", "one is kept and stands still, the default", "0.22 ms"),
        [me, watcher, inside],
    )
    frozen.bar(me, (146, 212), "caller", "event")
    frozen.waits(me, 212, 752)
    frozen.bar(me, (752, 832), "caller", "answer")
    frozen.down(178, me, inside, 218)
    frozen.bar(inside, (218, 318), "thaw", "thaw", "0.02")
    frozen.bar(inside, (322, 732), "handler", "your handler", "0.13")
    frozen.bar(watcher, (322, 732), "watch", "watches: the clock, memory, whether it is alive")
    frozen.up(732, inside, me, 792)

    warm = Start(
        picture,
        frozen.end + 12,
        ("Warm", "one is kept and awake: Host(freeze=False)", "0.18 ms"),
        [me, watcher, inside],
    )
    warm.bar(me, (146, 212), "caller", "event")
    warm.waits(me, 212, 752)
    warm.bar(me, (752, 832), "caller", "answer")
    warm.down(178, me, inside, 218)
    warm.bar(inside, (218, 732), "handler", "your handler", "0.13")
    warm.bar(watcher, (218, 732), "watch", "watches: the clock, memory, whether it is alive")
    warm.up(732, inside, me, 792)

    picture.text(
        28,
        warm.end + 30,
        "Milliseconds: medians of 200 runs with 1,769 MB on 2 CPUs (bench.png); the bars are not to scale.",
        "soft small",
    )
    picture.text(
        28,
        warm.end + 50,
        "Forks that were made and isolated ahead of need are parked: from one, a cold start takes 0.35 ms.",
        "soft small",
    )
    picture.height = warm.end + 64
    return picture


def states():
    """What an environment is, and what makes it something else."""
    picture = Picture("states.svg", 860, 470, "The states of an environment, and what moves it from one to the other")
    width, height = 124, 58
    places = {
        "parked": (24, 96, "still", "ahead of need"),
        "init": (240, 96, "initialise", "is initialised"),
        "busy": (474, 96, "handler", "has an event"),
        "ready": (474, 268, "thaw", "waits, awake"),
        "frozen": (240, 268, "still", "waits, stopped"),
        "dead": (708, 268, "dead", "is no more"),
    }
    picture.path("M86 38 V92", "arrow")
    picture.text(98, 62, "the keeper of the", "small soft")
    picture.text(98, 79, "stock makes one", "small soft")
    picture.path("M302 38 V92", "arrow")
    picture.text(314, 62, "an event comes, and", "small soft")
    picture.text(314, 79, "none is idle", "small soft")
    picture.path("M148 125 H236", "arrow")
    picture.text(192, 115, "taken", "small middle soft")
    picture.path("M364 125 H470", "arrow")
    picture.text(417, 115, "initialised", "small middle soft")
    picture.path("M520 154 V264", "arrow")
    picture.text(512, 236, "answer", "small end soft")
    picture.path("M552 268 V158", "arrow")
    picture.text(560, 204, "event, if it is", "small soft")
    picture.text(560, 221, "not frozen", "small soft")
    picture.path("M474 297 H368", "arrow")
    picture.text(421, 287, "at once", "small middle soft")
    picture.text(421, 314, "or later", "small middle soft")
    picture.path("M302 268 C302 205 400 190 474 146", "arrow")
    picture.text(300, 212, "event: thawed", "small end soft")
    picture.text(300, 229, "in 0.02 ms", "small end soft")
    picture.path("M598 125 H770 V264", "ends")
    picture.text(612, 82, "over its time or memory, exit,", "small bad")
    picture.text(612, 99, "cancelled, nonsense sent,", "small bad")
    picture.text(612, 116, "reuse=False", "small bad")
    picture.path("M598 297 H704", "ends")
    picture.path("M302 326 V382 H770 V330", "ends")
    picture.text(536, 372, "idle_timeout_s, memory is short, close()", "small middle bad")
    picture.path("M240 140 H178 V420 H790 V330", "ends")
    picture.text(192, 410, "initialisation failed or took ten seconds: once more, in another one", "small bad")
    for name, (x, y, colour, what) in places.items():
        picture.box(x, y, width, height, colour)
        picture.text(x + width / 2, y + 25, name, "on middle")
        picture.text(x + width / 2, y + 44, what, "on small middle")
    picture.height = 440
    return picture


if __name__ == "__main__":
    for picture in (life(), states()):
        Path(__file__).with_name(picture.name).write_text(picture.svg(), encoding="utf-8")
