"""Networks: the zoo, checkpoints of anybody, exported programs, training and controls."""
