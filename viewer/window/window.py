"""The window: a picture that is drawn when something changed, and controls beside it.

Pictures come from :mod:`viewer.drawing`, as those of ``--shot`` do, so a splat looks as whoever opened it renders it
(on the GPU where that is done there), and no driver is needed. Open3D's own ``gaussianSplat`` material is not used: on
software Vulkan (Open3D 0.20, llvmpipe) whole tiles of its pictures are wrong, others each time, so that a trained scene
agrees with the rasteriser to 30 to 33 dB only, and a picture takes some fifty times as long. It also knows harmonics up
to degree 2 and needs a driver for Vulkan.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
import open3d.visualization.gui as gui

from datasets.errors import InputError
from datasets.pictures import save_picture
from viewer.reading import Contents
from viewer.stage import Stage
from viewer.viewpoint import Viewpoint
from viewer.window.panel import layer_controls, make_combobox, make_slider, row

PANEL = 17  # widths of a letter
LOOK_AGAIN = 2.0  # seconds between looks at whether a splat's file is new
HELP = (
    "Drag: orbit\nRight or Shift: move\nCtrl: look around\nWheel: nearer\nW A S D Q E: fly\n"
    "R T B: start, top, bird\n[ ]: frame   K: keep view\nDouble-click: pick, measure\nEscape: close"
)
DOUBLE_CLICK = 0.4  # seconds
REDRAW_FOR = 0.5  # seconds for which the window is shown again: the toolkit uploads a picture after it drew the old


class Window:
    """One window on a stage.

    Args:
        stage: what it shows.
        size: (width, height) in pixels.
        folder: where screenshots and paths are written.
    """

    def __init__(self, stage: Stage, size: tuple[int, int], folder: Path) -> None:
        self.stage, self.folder = stage, folder
        title = " · ".join(layer.name for layer in stage.contents.layers[:3]) or "view3d"
        self.window = gui.Application.instance.create_window(f"{title} - view3d", *size)
        self._pointer: tuple[int, int] | None = None  # where it was last seen to go
        self._mouse: tuple[int, int] | None = None  # while a button is held
        self._clicked, self._looked = 0.0, time.monotonic()
        self._shown_size = (0, 0)
        self._redraw_until = 0.0
        self.picture = gui.ImageWidget(_image(np.zeros((16, 16, 3), np.uint8)))
        self.picture.set_on_mouse(self._on_mouse)
        self.note = gui.Label(" " * 28)
        self.panel = self._make_panel()
        self.window.add_child(self.picture)
        self.window.add_child(self.panel)
        self.window.set_on_layout(self._on_layout)
        self.window.set_on_key(self._on_key)
        self.window.set_on_tick_event(self._on_tick)

    def area(self) -> tuple[int, int]:
        """(width, height) of the picture in pixels."""
        frame = self.picture.frame
        return max(frame.width, 1), max(frame.height, 1)

    def say(self, text: str) -> None:
        """A line below the controls."""
        self.note.text = text
        self.window.post_redraw()

    def _make_panel(self) -> gui.Widget:
        em = self.window.theme.font_size
        panel = gui.ScrollableVert(0.5 * em, gui.Margins(0.5 * em, 0.5 * em, 0.5 * em, 0.5 * em))
        stage = self.stage
        if stage.contents.frames > 1:
            panel.add_child(
                row("frame", make_slider(0, stage.contents.frames - 1, stage.frame, stage.show_frame, True), em)
            )
        for layer in stage.contents.layers:
            panel.add_child(layer_controls(stage, layer, em))
        if (cameras := stage.contents.cameras) is not None:
            box = gui.Combobox()
            for i in range(len(cameras.cameras)):
                box.add_item(f"{i}: {cameras.files[i].path.name}" if cameras.files else str(i))
            box.set_on_selection_changed(lambda _, index: stage.look_through(index))
            panel.add_child(row("photo", box, em))
            panel.add_child(row("blend", make_slider(0.0, 1.0, 0.0, self._set_blend), em))
            panel.add_child(row("compare", make_combobox(("blend", "difference"), "blend", self._set_compare), em))
        for text, action in (
            ("Screenshot", self._save_shot),
            ("Keep view", self._keep),
            ("Save path", self._save_path),
        ):
            button = gui.Button(text)
            button.set_on_clicked(action)
            panel.add_child(button)
        panel.add_child(self.note)
        panel.add_child(gui.Label(HELP))
        return panel

    def _on_layout(self, context: gui.LayoutContext) -> None:
        whole = self.window.content_rect
        width = min(round(PANEL * context.theme.font_size), whole.width // 2)
        self.picture.frame = gui.Rect(whole.x, whole.y, whole.width - width, whole.height)
        self.panel.frame = gui.Rect(whole.get_right() - width, whole.y, width, whole.height)
        self.stage.stale = True

    def _on_tick(self) -> bool:
        """Draw what changed; True where the window is to be shown again."""
        now = time.monotonic()
        if now - self._looked > LOOK_AGAIN:
            self._looked = now
            try:
                if self.stage.refresh():
                    self.say("read again")
            except InputError as error:
                self.say(str(error))
        if not self.stage.settle() and self._shown_size == self.area():
            return now < self._redraw_until
        self._shown_size = self.area()
        try:
            self.picture.update_image(_image(self.stage.picture(*self._shown_size)))
            self._redraw_until = time.monotonic() + REDRAW_FOR
        except InputError as error:  # a photo or a moment whose file cannot be used
            self.stage.stale = False
            self.say(str(error))
        return True

    def _on_mouse(self, event: gui.MouseEvent) -> gui.Widget.EventCallbackResult:
        kinds = gui.MouseEvent.Type
        height = self.area()[1]
        if event.type == kinds.MOVE:
            self._pointer = (event.x, event.y)
            return gui.Widget.EventCallbackResult.IGNORED
        if event.type == kinds.BUTTON_DOWN:
            # A press is told with the place of now, which on a busy machine is later than where the button went down.
            self._mouse = self._pointer or (event.x, event.y)
            if time.monotonic() - self._clicked < DOUBLE_CLICK:
                frame = self.picture.frame
                found = self.stage.pick(self._mouse[0] - frame.x, self._mouse[1] - frame.y)
                self.say(self.stage.measured() if found is not None else "nothing there")
            self._clicked = time.monotonic()
        elif event.type == kinds.BUTTON_UP:
            self._mouse = None
        elif event.type == kinds.DRAG and self._mouse is not None:
            dx, dy = (event.x - self._mouse[0]) / height, (event.y - self._mouse[1]) / height
            self._mouse = self._pointer = (event.x, event.y)
            moves = event.is_button_down(gui.MouseButton.RIGHT) or event.is_modifier_down(gui.KeyModifier.SHIFT)
            looks = event.is_button_down(gui.MouseButton.MIDDLE) or event.is_modifier_down(gui.KeyModifier.CTRL)
            self.stage.drag(dx, dy, "move" if moves else "look" if looks else "orbit")
        elif event.type == kinds.WHEEL:
            self.stage.wheel(event.wheel_dy)
        else:
            return gui.Widget.EventCallbackResult.IGNORED
        self.window.post_redraw()
        return gui.Widget.EventCallbackResult.CONSUMED

    def _on_key(self, event: gui.KeyEvent) -> bool:
        if event.type != gui.KeyEvent.Type.DOWN or not 0 < int(event.key) < 128:
            return False
        name = chr(int(event.key)).lower()
        if event.key == gui.KeyName.ESCAPE:
            self.window.close()
            return True
        if name == "k":
            self._keep()
        elif not self.stage.key(name):
            return False
        self.window.post_redraw()
        return True

    def _set_blend(self, share: float) -> None:
        self.stage.blend, self.stage.stale = share, True

    def _set_compare(self, way: str) -> None:
        self.stage.compare, self.stage.stale = way, True

    def _save_shot(self) -> None:
        path = _free(self.folder / "view.png")
        save_picture(path, self.stage.picture(*self.area()))
        self.say(path.name)

    def _keep(self) -> None:
        self.say(f"{self.stage.keep_view()} views kept")

    def _save_path(self) -> None:
        path = _free(self.folder / "path.json")
        try:
            self.stage.save_path(path, *self.area())
        except InputError as error:
            self.say(str(error))
        else:
            self.say(path.name)


def show(contents: Contents, size: tuple[int, int], frame: int = 0, start: Viewpoint | None = None) -> None:
    """Open a window and return when it is closed; screenshots and paths go to the working directory."""
    gui.Application.instance.initialize()
    Window(Stage(contents, frame, start), size, Path.cwd())
    gui.Application.instance.run()


def _image(pixels: np.ndarray) -> o3d.geometry.Image:
    buffer: Any = np.ascontiguousarray(pixels)
    return o3d.geometry.Image(buffer)


def _free(path: Path) -> Path:
    """``path``, or with the first number that no file has."""
    number, found = 2, path
    while found.exists():
        found = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return found
