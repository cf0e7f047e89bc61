"""The controls beside the picture, made from what each layer says can be set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import open3d.visualization.gui as gui

from viewer.layers import Choice, Layer
from viewer.stage import Stage


def layer_controls(stage: Stage, layer: Layer, em: float) -> gui.Widget:
    """A fold with the layer's visibility and settings."""
    fold = gui.CollapsableVert(layer.name, 0.25 * em, gui.Margins(0.5 * em, 0, 0, 0.5 * em))
    tick = gui.Checkbox("visible")
    tick.checked = layer.visible

    def set_value(name: str, value: Any) -> None:
        setattr(layer, name, value)
        stage.stale = True

    tick.set_on_checked(lambda shown: set_value("visible", shown))
    fold.add_child(tick)
    for setting in layer.settings:
        if isinstance(setting, Choice):
            name, options = setting.name, setting.options
            box = make_combobox(options, getattr(layer, name), partial(set_value, name))
            fold.add_child(row(name, box, em))
        else:
            name = setting.name
            slider = make_slider(setting.low, setting.high, getattr(layer, name), partial(set_value, name))
            fold.add_child(row(name, slider, em))
    return fold


def make_combobox(options: Sequence[str], current: str, changed: Callable[[str], None]) -> gui.Combobox:
    """A choice that calls ``changed`` with the option."""
    box = gui.Combobox()
    for option in options:
        box.add_item(option)
    box.selected_text = current
    box.set_on_selection_changed(lambda text, _: changed(text))
    return box


def make_slider(low: float, high: float, value: float, changed: Any, whole: bool = False) -> gui.Slider:
    """A slider that calls ``changed`` with its value."""
    slider = gui.Slider(gui.Slider.INT if whole else gui.Slider.DOUBLE)
    slider.set_limits(low, high)
    slider.double_value = value
    slider.set_on_value_changed(lambda x: changed(int(x) if whole else float(x)))
    return slider


def row(label: str, widget: gui.Widget, em: float) -> gui.Widget:
    """A widget behind its name."""
    made = gui.Horiz(0.5 * em)
    made.add_child(gui.Label(f"{label:<7}"))
    made.add_child(widget)
    return made
