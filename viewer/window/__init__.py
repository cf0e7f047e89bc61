"""The window on a desktop, made with Open3D's toolkit."""

from viewer.window.window import show

__all__ = ["show"]
