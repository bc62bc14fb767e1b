"""Manage the files of a running study: context and ledger, claims of processes, pieces of a searchlight."""
