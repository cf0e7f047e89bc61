"""Splat files: what a fitted scene is kept in, and what other viewers open."""

from recon3d.splats.errors import SplatError
from recon3d.splats.files import SUFFIXES, load_splat, save_splat
from recon3d.splats.splat import Splat

__all__ = ["SUFFIXES", "Splat", "SplatError", "load_splat", "save_splat"]
