"""The cortical surface: meshes, discs on them, and maps and labels in GIFTI files."""
