"""Clouds in files of any common format: as the columns that a file has, the channels that one asks for, or x, y, z."""

from datasets.pointclouds.formats.channels import FIELDS, SUFFIXES, check_cloud, read_cloud
from datasets.pointclouds.formats.coordinates import read_coordinates

__all__ = ["FIELDS", "SUFFIXES", "check_cloud", "read_cloud", "read_coordinates"]
