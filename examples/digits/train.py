"""Train a classifier of handwritten digits, so that any attempt can end at any moment and the next one goes on.

What makes it so: each checkpoint is written under another name and then renamed, hence whole or not there at all; it
holds everything that training needs (weights, the optimizer's moments, the state of the random numbers); and
Headframe names the newest one that can be read in HEADFRAME_RESUME_FROM.
"""

import gzip
import json
import os
import pickle
import time
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

EPOCHS = int(os.environ.get("EPOCHS", "40"))
FAIL_AFTER_EPOCH = int(os.environ.get("FAIL_AFTER_EPOCH", "0"))
CHECKPOINT_EVERY = 5  # epochs
ATTEMPT = int(os.environ.get("HEADFRAME_ATTEMPT", "1"))
CHECKPOINTS = Path(os.environ.get("HEADFRAME_CHECKPOINTS", "ckpt"))
OUTPUTS = Path(os.environ.get("HEADFRAME_OUTPUTS", "out"))


def save(model: MLPClassifier, epoch: int) -> None:
    """Write the checkpoint of an epoch: complete on disk before it gets its name."""
    place = CHECKPOINTS / f"epoch-{epoch:03}.pkl.gz"
    part = place.with_name(place.name + ".tmp")
    with open(part, "wb") as file:
        with gzip.open(file, "wb", compresslevel=1) as packed:
            pickle.dump((model, epoch), packed)
        file.flush()
        os.fsync(file.fileno())
    part.replace(place)


def load() -> tuple[MLPClassifier, int]:
    """The model and the last epoch that it was trained for: from a checkpoint, or fresh."""
    newest = os.environ.get("HEADFRAME_RESUME_FROM")
    if newest is None:
        return MLPClassifier(hidden_layer_sizes=(96,), batch_size=32, random_state=7), 0
    with gzip.open(newest, "rb") as packed:
        model, epoch = pickle.load(packed)
    print(f"attempt {ATTEMPT} resumes after epoch {epoch}, from {Path(newest).name}")
    return model, epoch


def main() -> None:
    for folder in (CHECKPOINTS, OUTPUTS):
        folder.mkdir(exist_ok=True)
    pretended = " (pretended)" if os.environ.get("HEADFRAME_FAKE_GPUS") else ""
    print(f"attempt {ATTEMPT} on GPU {os.environ.get('CUDA_VISIBLE_DEVICES') or 'none'}{pretended}")
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.data / 16, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    model, done = load()
    with open(OUTPUTS / "metrics.jsonl", "a") as metrics:
        for epoch in range(done + 1, EPOCHS + 1):
            began = time.monotonic()
            model.partial_fit(train_x, train_y, classes=range(10))
            accuracy = model.score(test_x, test_y)
            row = {
                "step": epoch, "attempt": ATTEMPT, "loss": round(float(model.loss_), 5),
                "test_accuracy": round(accuracy, 5), "seconds": round(time.monotonic() - began, 4),
            }  # fmt: skip
            print(json.dumps(row), file=metrics, flush=True)
            print(f"epoch {epoch:3}/{EPOCHS}  loss {row['loss']:.4f}  test accuracy {accuracy:.3f}")
            if epoch % CHECKPOINT_EVERY == 0 or epoch == EPOCHS:
                save(model, epoch)
            if ATTEMPT == 1 and epoch == FAIL_AFTER_EPOCH:
                raise RuntimeError(f"the failure that FAIL_AFTER_EPOCH={FAIL_AFTER_EPOCH} asks for")
    result = {"test_accuracy": model.score(test_x, test_y), "epochs": EPOCHS, "attempts": ATTEMPT}
    (OUTPUTS / "result.json").write_text(json.dumps(result) + "\n")
    print(f"done: test accuracy {result['test_accuracy']:.3f} on {len(test_y)} digits that it never saw")


if __name__ == "__main__":
    main()
