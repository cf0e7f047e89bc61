"""Point clouds with boxes: one file per layout on disk, augmentation, and a LiDAR simulator."""
