"""A device in a scikit-learn pipeline: search for words and units, then score.

python examples/sklearn_pipeline.py       # the golden model; DYADPROP_DEVICE=verilator takes the hardware itself
"""

from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from dyadprop.sklearn import Classifier

x, y = load_breast_cancer(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(x, y, random_state=0)

pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("reduce", PCA(12, random_state=0)),
        ("learn", Classifier(epochs=8, random_state=0)),  # device=None: $DYADPROP_DEVICE, or golden
    ]
)
search = GridSearchCV(pipeline, {"learn__bits": [8, 12], "learn__hidden": [(6,), (12,)]}, cv=3)
search.fit(train_x, train_y)
for setting, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    print(f"{setting['learn__bits']:2} bits, hidden {setting['learn__hidden']}: {score:.4f}")
best = search.best_estimator_["learn"]
print(f"best: {best.net_!r}")
print(f"test {search.score(test_x, test_y):.4f}, saturated: {best.saturations_}")
