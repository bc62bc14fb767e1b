"""Brain patterns as conditions x runs x voxels: how they are read, normalized and screened."""
