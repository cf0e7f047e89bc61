"""Scenes and point clouds shared by both halves: cameras, images, depth, points, boxes, and their on-disk formats."""
