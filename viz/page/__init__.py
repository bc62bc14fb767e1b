"""The page of a study: what it shows, its figures, its tables and its text."""
