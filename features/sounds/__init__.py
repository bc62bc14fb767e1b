"""Load and transform sounds: files, batches, intervals, voicing, spectrograms, cochleagrams and augmentation."""
