"""Read the study file: its sections, its participants and their files, and its template."""
