"""What the library costs, beside what anyone would otherwise call: each benchmark asserts the answer it times."""

OURS = "memgen_eval"  # the method whose seconds the others are compared with
