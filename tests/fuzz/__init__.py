"""A mutation fuzzer over every reader of files: ``python -m fuzz --reader npz --executions 200000`` inside tests/."""
