"""What the verdict says of copies that are upside down, with the features of SSCD.

``python -m benchmarks.sscd_verdict FOLDER OUTPUT.json`` with the folder that holds `cifar-10-batches-py`; some
minutes. Needs the extra `sscd`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import processor
from memgen_eval import __version__, evaluate
from memgen_eval.data.sources import load_images

NUM_TRAIN, NUM_SAMPLES, NUM_COPIES, NUM_TEST = 1_500, 310, 60, 490


def main(folder: str, output: str) -> None:
    """Judge 310 unseen images, and the same where 60 of them are training images upside down."""
    train, unseen = (load_images(name, argument=name, data_dir=folder).array() for name in ("cifar10", "cifar10:test"))
    train, samples = train[:NUM_TRAIN], unseen[:NUM_SAMPLES]
    copies = np.concatenate([train[:NUM_COPIES, :, ::-1], samples[NUM_COPIES:]])
    test = unseen[NUM_SAMPLES : NUM_SAMPLES + NUM_TEST]

    def told(images: NDArray[Any]) -> dict[str, Any]:
        report = evaluate(images, train=train, test=test, metrics="memorization", features="sscd")
        assert report.verdict is not None
        return asdict(report.verdict)

    record = {
        "command": f"python -m benchmarks.sscd_verdict FOLDER {Path(output).name}",
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor().name,
        "version": __version__,
        "60 copies upside down": told(copies),
        "unseen images": told(samples),
    }
    Path(output).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
