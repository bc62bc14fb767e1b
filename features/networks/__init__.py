"""Build, load, train and describe networks: the zoo, checkpoints, exported programs and controls."""
