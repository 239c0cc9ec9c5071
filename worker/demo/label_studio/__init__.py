"""A real Label Studio for the demo and the tests: installed once, started at need."""
