"""dyadprop.sklearn among scikit-learn's own tools."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import dyadprop as dp
from tests.loops.needed import needed

needed("sklearn")

from sklearn.base import clone  # noqa: E402 - behind the skip
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris  # noqa: E402 - behind the skip
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split  # noqa: E402 - behind the skip
from sklearn.pipeline import make_pipeline  # noqa: E402 - behind the skip
from sklearn.preprocessing import PolynomialFeatures  # noqa: E402 - behind the skip
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402 - behind the skip

from dyadprop.sklearn import Classifier, Regressor  # noqa: E402 - behind the skip


@parametrize_with_checks([Classifier(epochs=12, random_state=0), Regressor(epochs=12, random_state=0)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("update", ["host", "device"])
@pytest.mark.parametrize("bits", [16, 8])
def test_a_classifier_learns(bits, update):
    x, y = load_breast_cancer(return_X_y=True)
    names = np.array(["bad", "good"])[y]
    a, b, c, d = train_test_split(x, names, random_state=0)
    model = Classifier((16,), bits=bits, update=update, epochs=20, random_state=0).fit(a, c)
    assert model.score(b, d) > 0.95
    assert list(model.classes_) == ["bad", "good"]
    assert model.predict_proba(b).shape == (len(b), 2)
    np.testing.assert_array_equal(model.decision_function(b) > 0, model.predict(b) == "good")
    assert model.net_.layer_formats(1).weight.width == bits
    assert len(model.loss_curve_) == model.n_iter_ == 20
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


def test_a_regressor_learns_and_takes_several_targets():
    x, y = load_diabetes(return_X_y=True)
    a, b, c, d = train_test_split(x, y, random_state=0)
    model = Regressor((8,), epochs=15, learning_rate=0.01, random_state=0).fit(a, c)
    assert model.score(b, d) > 0.3
    both = Regressor((8,), epochs=15, learning_rate=0.01, random_state=0).fit(a, np.stack([c, -c], 1))
    assert both.predict(b).shape == (len(b), 2)
    assert both.score(b, np.stack([d, -d], 1)) > 0.3


def test_pipelines_searches_and_processes():
    x, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(PolynomialFeatures(2), Classifier(epochs=15, random_state=0, device="golden"))
    grid = {"classifier__hidden": [(4,), (8, 8)]}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=2).fit(x, y)
    assert len(search.cv_results_["params"]) == 2
    assert search.best_score_ > 0.9
    scores = cross_val_score(clone(pipeline), x, y, cv=2, n_jobs=2)
    assert scores.min() > 0.85


def test_a_fitted_estimator_is_pickled_and_says_the_same():
    x, y = load_iris(return_X_y=True)
    model = Classifier(epochs=10, random_state=3).fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.decision_function(x), model.decision_function(x))
    repeated = clone(model).fit(x, y)
    np.testing.assert_array_equal(repeated.decision_function(x), model.decision_function(x))


def test_the_device_computes_it():
    x, y = load_iris(return_X_y=True)
    for name in ("golden", "float"):
        model = Classifier((4,), device=name, bits=12, epochs=2, batch_size=32, random_state=0).fit(x, y)
        with dp.open(name, model.net_) as device:
            device.load(model.params_)
            expected = device.predict((x - model.mean_) / model.scale_).outputs
        np.testing.assert_array_equal(model.decision_function(x), expected)
        lsb = model.net_.layer_formats(2).activation.lsb
        assert np.all(expected % lsb == 0) == (name == "golden")  # words or real numbers
    with pytest.raises(dp.RangeError, match=r"^device 'none' is of no known kind"):
        Classifier(device="none", epochs=1).fit(x, y)
    with pytest.raises(dp.RangeError, match=r"^update is 'both'; allowed are host and device$"):
        Classifier(update="both").fit(x, y)
    with pytest.raises(dp.RangeError, match=r"^epochs is 0; allowed are whole numbers from 1 to 2147483647$"):
        Classifier(epochs=0).fit(x, y)


def test_saturation_is_told_where_asked():
    x, y = load_iris(return_X_y=True)
    model = Classifier((4,), bits=6, epochs=2, random_state=0).fit(x, y)
    x = x.copy()
    x[0] = 1e4
    model.on_saturation = "raise"
    with pytest.raises(dp.SaturationError, match="values were limited to their format: 4 of activation in stage 0"):
        model.predict(x)
