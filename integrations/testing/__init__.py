"""Test a program that uses prelabel without Redis, worker or model."""
