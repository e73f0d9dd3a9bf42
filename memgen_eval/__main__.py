"""``python -m memgen_eval``."""

from memgen_eval.cli import entry

if __name__ == "__main__":
    entry()
