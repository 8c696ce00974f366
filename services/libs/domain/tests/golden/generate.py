"""Writes metrics.json: random evaluations and what scikit-learn says of them.

    python3 -m venv venv && venv/bin/pip install scikit-learn==1.9.1
    venv/bin/python services/libs/domain/tests/golden/generate.py
"""

import json
import pathlib
import warnings

import numpy as np
from sklearn import metrics

CLASSES = [0, 1, 2]
rng = np.random.default_rng(2026)


def evaluation(images, sharpness, classes, ties):
    """Labels drawn from some classes, and probabilities that know them more or less."""
    actual = rng.choice(classes, images)
    logits = rng.normal(size=(images, 3)) + sharpness * np.eye(3)[actual]
    if ties:
        logits = logits.round()
    powers = np.exp(logits)
    return actual, (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def calibration_error(actual, probabilities, bins=15):
    """Guo et al. (2017), equation 3."""
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == actual
    error = 0.0
    for edge in range(bins):
        inside = (confidence > edge / bins) & (confidence <= (edge + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def case(actual, probabilities):
    predicted = probabilities.argmax(1)
    of_classes = metrics.precision_recall_fscore_support(actual, predicted, labels=CLASSES, zero_division=0)
    average = lambda kind: metrics.precision_recall_fscore_support(
        actual, predicted, labels=CLASSES, average=kind, zero_division=0
    )[:3]
    wide = probabilities.astype(np.float64)
    present = lambda label: 0 < (actual == label).sum() < len(actual)
    return {
        "actual": actual.tolist(),
        "probabilities": [[float(value) for value in row] for row in probabilities],
        "confusion": metrics.confusion_matrix(actual, predicted, labels=CLASSES).tolist(),
        "accuracy": metrics.accuracy_score(actual, predicted),
        "classes": np.transpose(of_classes).tolist(),
        "macro_average": average("macro"),
        "weighted_average": average("weighted"),
        "log_loss": metrics.log_loss(actual, wide / wide.sum(1, keepdims=True), labels=CLASSES),
        "calibration_error": calibration_error(actual, probabilities),
        "roc_auc": [
            metrics.roc_auc_score(actual == label, wide[:, label]) if present(label) else None for label in CLASSES
        ],
    }


def main():
    warnings.simplefilter("error")
    cases = []
    for number in range(24):
        images = int(rng.integers(1, 60))
        classes = [[0, 1, 2], [0, 2], [1]][0 if number < 18 else number % 3]
        cases.append(case(*evaluation(images, rng.uniform(0, 3), classes, ties=number % 2 == 1)))
    text = json.dumps(cases).replace('{"actual"', '\n{"actual"') + "\n"
    pathlib.Path(__file__).with_name("metrics.json").write_text(text)


main()
