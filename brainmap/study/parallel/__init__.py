"""Distribute the work of a study over job arrays and Dask workers."""
