"""Oriented boxes: overlap and suppression, in plain torch on any device.

A box is seven numbers: x, y, z of its centre, length, width, height, and yaw counter-clockwise from +x.
"""

from detection.boxes.overlap import iou_3d, iou_3d_aligned, iou_bev, iou_bev_aligned
from detection.boxes.suppression import rotated_nms

__all__ = ["iou_3d", "iou_3d_aligned", "iou_bev", "iou_bev_aligned", "rotated_nms"]
