"""What can be shown, in words: for messages and the help, which must not load what opens it."""

ACCEPTED = (
    "a recon3d run, a splat (.safetensors, .ply, .spz, .splat), a cloud (.bin, .npy, .pcd, .ply, .las), a folder of "
    "clouds or in KITTI's layout, boxes (.json, KITTI's .txt), or the folder of a scene's photos"
)
