"""What the initialisers in :mod:`recon3d.initialise` are built from."""
