"""The command ``view3d``: a window, a picture, a video, or a page of what is given."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from viewer.accepted import ACCEPTED

EXAMPLES = """examples:
  view3d RUN                                 a window with the splat of a fit and its cameras
  view3d 000123.bin label_2/000123.txt       a sweep with its boxes
  view3d RUN --shot out.png --view photo:3   a picture, without a display
  view3d splat.spz --turntable out.mp4       a video around it
  view3d RUN --html out.html                 one file that shows it in any browser
  view3d RUN --web                           the same page, served to this machine's browser
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nAll options: {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """All options."""
    made = _Parser(
        prog="view3d",
        description="Show splats, point clouds, boxes, cameras and photos, together in one world.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("paths", nargs="+", type=Path, metavar="RUN_OR_FILE", help=f"what to show: {ACCEPTED}")
    ways = made.add_mutually_exclusive_group()
    ways.add_argument("--shot", type=Path, metavar="OUT.png", help="write a picture and end")
    ways.add_argument("--turntable", type=Path, metavar="OUT.mp4", help="write a video around it and end")
    ways.add_argument("--html", type=Path, metavar="OUT.html", help="write one self-contained page and end")
    ways.add_argument("--web", action="store_true", help="serve the page until Ctrl-C")
    made.add_argument(
        "--view", metavar="VIEW", help="top, bev, behind (the photos), photo:N, or JSON with eye, target, up, fov"
    )
    made.add_argument(
        "--size", default="1280x720", metavar="WxH", help="of picture, video or window (default 1280x720)"
    )
    made.add_argument("--frame", type=int, default=0, metavar="N", help="moment of a sequence that comes first")
    made.add_argument("--frames", type=int, default=120, metavar="N", help="frames of the turntable (default 120)")
    made.add_argument("--fps", type=int, default=30, metavar="N", help="frames a second of the turntable (default 30)")
    made.add_argument("--score", type=float, default=0.0, metavar="S", help="hide what has a lower score")
    made.add_argument("--columns", type=int, metavar="N", help="float32 values a point in .bin files (else guessed)")
    made.add_argument("--host", default="127.0.0.1", metavar="IP", help="address to serve at (default 127.0.0.1)")
    made.add_argument("--port", type=int, default=8080, metavar="N", help="port to serve at; 0 takes a free one")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code: 0, 1 for input that cannot be used, 2 for a wrong command line."""
    arguments = parser().parse_args(argv)
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", arguments.size)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1 <= size[0] <= 16384 and 1 <= size[1] <= 16384):
        parser().error(f"--size is {arguments.size!r}: give it as 1280x720, at most 16384 a side")
    if not math.isfinite(arguments.score):
        parser().error(f"--score is {arguments.score}: give a number")

    # Before torch is loaded: its threads must sleep between tasks, not spin on the cores that drawing needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from datasets.errors import InputError

    try:
        return _show(arguments, size)
    except (InputError, OSError) as error:
        print(f"view3d: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("view3d: interrupted", file=sys.stderr)
        return 130


def _show(arguments: argparse.Namespace, size: tuple[int, int]) -> int:
    """Open what is given and show it the way that is asked for."""
    from datasets.errors import InputError
    from viewer.reading import open_all
    from viewer.shots import check_frame, shot, turntable
    from viewer.splats import installed_openers
    from viewer.views import named_viewpoint

    windowed = not (arguments.shot or arguments.turntable or arguments.html or arguments.web)
    if windowed and sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        # Without a display Open3D would end the program.
        raise InputError("there is no display for a window: use --shot OUT.png, --html OUT.html or --web")
    contents = open_all(arguments.paths, installed_openers(), columns=arguments.columns, score=arguments.score)
    check_frame(contents, arguments.frame)
    start = named_viewpoint(contents, arguments.view, size[0] / size[1])
    if arguments.shot:
        shot(contents, arguments.shot, size, arguments.view, arguments.frame)
        print(arguments.shot)
    elif arguments.turntable:
        turntable(contents, arguments.turntable, size, arguments.view, arguments.frames, arguments.fps)
        print(arguments.turntable)
    elif arguments.html:
        from viewer.page import write_html

        write_html(contents, arguments.html, start, arguments.frame)
        print(arguments.html)
    elif arguments.web:
        from viewer.page import serve

        serve(contents, arguments.host, arguments.port, start, arguments.frame)
    else:
        from viewer.window import show

        show(contents, size, arguments.frame, start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
