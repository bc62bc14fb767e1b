"""Job arrays and Dask: shares of the work, the scheduler and its workers."""
