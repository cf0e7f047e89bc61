"""Clouds in files of any common format: as the columns that a file has, or as the channels that one asks for."""

from datasets.pointclouds.formats.channels import FIELDS, SUFFIXES, read_cloud

__all__ = ["FIELDS", "SUFFIXES", "read_cloud"]
