"""What the command line programs of the packages share: commands, options, run folders, checkpoints, measuring."""
