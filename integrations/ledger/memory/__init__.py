"""The ledger in the memory of one process: for tests of programs that use prelabel, and of prelabel itself."""
