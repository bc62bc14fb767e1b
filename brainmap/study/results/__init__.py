"""What lies on disk while a study is computed: context and ledger, claims of processes, pieces of a searchlight."""
