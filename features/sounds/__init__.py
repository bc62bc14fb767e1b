"""Audio in: files, batches, intervals, voicing, spectrograms, cochleagrams and augmentation."""
