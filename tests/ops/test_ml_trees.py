"""Tree ensembles, against a walk of one sample through one tree at a time, and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from tests.ops.ml_harness import TRANSFORMS, check_ml, check_ort, check_refused, transformed

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
HOLDS = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
FEATURES = 4


class Leaf(list):
    """Votes: pairs of target and weight."""


def grow(rng, depth, targets, modes=MODES, votes=1):
    """A random tree: a leaf, or (feature, mode, threshold, NaN goes to yes, yes, no)."""
    if depth == 0 or rng.random() < 0.2:
        chosen = rng.choice(targets, votes, replace=False)
        return Leaf((int(t), float(np.float32(rng.normal()))) for t in chosen)
    feature, threshold = int(rng.integers(FEATURES)), float(rng.integers(-3, 4)) / 2
    head = (feature, str(rng.choice(modes)), threshold, bool(rng.integers(2)))
    return (*head, *(grow(rng, depth - 1, targets, modes, votes) for _ in range(2)))


def forest(seed, *, trees=5, depth=4, targets=3, **kwargs):
    rng = np.random.default_rng(seed)
    return [grow(rng, depth, targets, **kwargs) for _ in range(trees)]


def reach(tree, row):
    while not isinstance(tree, Leaf):
        feature, mode, threshold, nan_yes, yes, no = tree
        x = float(row[feature])
        holds = nan_yes if np.isnan(x) else HOLDS[MODES.index(mode)](x, threshold)
        tree = yes if holds else no
    return tree


def naive(trees, x, targets, aggregate="SUM"):
    out = np.zeros((len(x), targets))
    for i, row in enumerate(x):
        votes = [vote for tree in trees for vote in reach(tree, row)]
        for target in range(targets):
            weights = [w for t, w in votes if t == target] or [0.0]
            total = {"MIN": min, "MAX": max}.get(aggregate, sum)(weights)
            out[i, target] = total / (len(trees) if aggregate == "AVERAGE" else 1)
    return out


def attributes(trees, votes, *, tree_ids=None, tensors=False):
    """The lists of versions 1 and 3; `votes` is "class" or "target"."""
    names = ("treeids", "nodeids", "featureids", "modes", "values", "missing_value_tracks_true")
    nodes = {f"nodes_{name}": [] for name in (*names, "truenodeids", "falsenodeids")}
    ballots = {f"{votes}_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}

    def put(tree, number, index):
        leaf = isinstance(tree, Leaf)
        row = (0, "LEAF", 0.0, 0) if leaf else (tree[0], tree[1], tree[2], int(tree[3]))
        for name, value in zip(names, (number, index, *row), strict=True):
            nodes[f"nodes_{name}"].append(value)
        at, end = len(nodes["nodes_treeids"]) - 1, index + 1
        children = [0, 0]
        nodes["nodes_truenodeids"].append(0)
        nodes["nodes_falsenodeids"].append(0)
        for t, w in tree if leaf else ():
            for name, value in zip(
                ("treeids", "nodeids", "ids", "weights"), (number, index, t, w), strict=True
            ):
                ballots[f"{votes}_{name}"].append(value)
        for side, child in enumerate(() if leaf else tree[4:]):
            children[side] = end
            end = put(child, number, end)
        nodes["nodes_truenodeids"][at], nodes["nodes_falsenodeids"][at] = children
        return end

    for number, tree in zip(tree_ids or range(len(trees)), trees, strict=True):
        put(tree, number, 0)
    attrs = {**nodes, **ballots}
    for name in ("nodes_values", f"{votes}_weights") if tensors else ():
        attrs[f"{name}_as_tensor"] = numpy_helper.from_array(np.array(attrs.pop(name)), name)
    return attrs


def samples(count=40, dtype=np.float32, seed=0, nan=True):
    x = np.random.default_rng(seed).integers(-4, 5, (count, FEATURES)) / (
        1 if dtype in (np.int32, np.int64) else 2
    )
    if nan and np.dtype(dtype).kind == "f":
        x[::7, 1] = np.nan
    return x.astype(dtype)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("seed", range(4))
def test_regressor(seed, aggregate):
    trees, x = forest(seed, votes=1 + seed % 3), samples()
    base = [0.5, -0.25, 2.0] if seed % 2 else []
    attrs = {**attributes(trees, "target"), "n_targets": 3, "aggregate_function": aggregate}
    attrs |= {"base_values": base} if base else {}
    expected = (naive(trees, x, 3, aggregate) + np.array(base or [0])).astype(np.float32)
    check_ml("TreeEnsembleRegressor", [x], attrs, oracle=lambda _: expected)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("targets", [1, 3])
def test_regressor_as_in_onnxruntime(targets, aggregate):
    trees = forest(11, targets=targets, modes=("BRANCH_LEQ", "BRANCH_GT"))
    base = {"base_values": [0.5, -0.25, 2.0][:targets]}
    attrs = {**attributes(trees, "target"), "n_targets": targets, "aggregate_function": aggregate, **base}
    check_ort("TreeEnsembleRegressor", [samples()], attrs)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
@pytest.mark.parametrize(("version", "tensors"), [(1, False), (3, True), (3, False), (5, True)])
def test_regressor_types_and_versions(version, tensors, dtype):
    trees, x = forest(5), samples(dtype=dtype)
    attrs = {**attributes(trees, "target", tensors=tensors), "n_targets": 3}
    expected = naive(trees, x, 3).astype(np.float32)
    check_ml("TreeEnsembleRegressor", [x], attrs, version=version, oracle=lambda _: expected)


def test_thresholds_of_float64_are_not_rounded():
    tree = (0, "BRANCH_LT", 0.1, False, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]))
    x = np.array([[0.1], [0.1 - 1e-12]])
    attrs = {**attributes([tree], "target", tensors=True), "n_targets": 1}
    expected = np.float32([[2], [1]])
    check_ml("TreeEnsembleRegressor", [x], attrs, version=3, oracle=lambda _: expected)


@pytest.mark.parametrize("name", TRANSFORMS[:4])
@pytest.mark.parametrize("targets", [1, 3])
def test_regressor_transforms(targets, name):
    trees, x = forest(2, targets=targets), samples()
    attrs = {**attributes(trees, "target"), "n_targets": targets, "post_transform": name}
    expected = transformed(naive(trees, x, targets), name)
    expected[np.isnan(expected)] = 0.5  # ONNX Runtime and onnx.reference: all zeros are spread evenly
    check_ml("TreeEnsembleRegressor", [x], attrs, oracle=lambda _: expected.astype(np.float32))


FORMS = {
    "a leaf alone": ([Leaf([(0, 0.5)])], None),
    "a leaf without a vote": ([(0, "BRANCH_LT", 0.0, True, Leaf(), Leaf([(1, 2.0)]))], None),
    "a target twice in a leaf": ([Leaf([(1, 0.5), (1, 0.25)])], None),
    "trees numbered at will": (forest(9, trees=3), [7, 2, 100]),
}


@pytest.mark.parametrize(
    "x", [samples(3), samples(1), samples(0), samples(2)[0]], ids=["3", "1", "0", "vector"]
)
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, x):
    trees, tree_ids = FORMS[form]
    attrs = {**attributes(trees, "target", tree_ids=tree_ids), "n_targets": 3}
    expected = np.zeros((len(x.reshape(-1, FEATURES)), 3))
    for i, row in enumerate(x.reshape(-1, FEATURES)):
        for target, weight in (vote for tree in trees for vote in reach(tree, row)):
            expected[i, target] += weight
    check_ml("TreeEnsembleRegressor", [x], attrs, oracle=lambda _: expected.astype(np.float32))


def test_nodes_in_any_order():
    """The root is the node that is nobody's child, not the first one."""
    attrs = attributes(forest(4, trees=3), "target")
    order = np.random.default_rng(1).permutation(len(attrs["nodes_treeids"]))
    shuffled = {k: [v[i] for i in order] if k.startswith("nodes_") else v for k, v in attrs.items()}
    x, expected = samples(), naive(forest(4, trees=3), samples(), 3).astype(np.float32)
    check_ml("TreeEnsembleRegressor", [x], {**shuffled, "n_targets": 3}, oracle=lambda _: expected)


def test_more_pairs_of_sample_and_tree_than_one_block():
    trees, x = forest(6, trees=700, depth=2), samples(200)
    attrs = {**attributes(trees, "target"), "n_targets": 3}
    expected = naive(trees, x, 3).astype(np.float32)
    check_ml("TreeEnsembleRegressor", [x], attrs, oracle=lambda _: expected, atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMS[:4])
@pytest.mark.parametrize(
    "labels", [{"classlabels_int64s": [7, -1, 3]}, {"classlabels_strings": ["b", "a", ""]}], ids=str
)
@pytest.mark.parametrize("votes", [1, 3])
def test_classifier(votes, labels, name):
    trees, x = forest(3, votes=votes), samples()
    base = [0.5, -0.25, 0.125]
    attrs = {**attributes(trees, "class"), **labels, "post_transform": name, "base_values": base}
    scores = naive(trees, x, 3) + np.array(base)
    names = next(iter(labels.values()))
    chosen = np.array(
        [names[i] for i in scores.argmax(axis=1)], object if isinstance(names[0], str) else np.int64
    )
    expected = [chosen, transformed(scores, name).astype(np.float32)]
    check_ml("TreeEnsembleClassifier", [x], attrs, outputs=2, oracle=lambda _: expected)


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_classifier_as_in_onnxruntime(name, version):
    trees, x = forest(13, votes=3, trees=4, modes=("BRANCH_LT",)), samples()
    attrs = {**attributes(trees, "class"), "classlabels_strings": ["b", "a", "c"], "post_transform": name}
    check_ort("TreeEnsembleClassifier", [x], attrs, outputs=2, version=version)


def one_sided(weights, voted=0):
    """One tree: below 0 the first weight, else the second."""
    leaves = (Leaf([(voted, w)]) for w in weights)
    return attributes([(0, "BRANCH_LT", 0.0, False, *leaves)], "class")


TWO = np.array([[-1, 0, 0, 0], [1, 0, 0, 0]], np.float32)
SIDES = [
    ([0.25, 0.75], 0, "NONE", None),
    ([-0.25, 0.75], 0, "NONE", None),
    ([0.25, 0.75], 0, "NONE", [0.125]),
    ([-0.25, 0.75], 0, "LOGISTIC", None),
    ([-0.25, 0.75], 0, "LOGISTIC", [0.5]),
    ([0.25, 0.75], 1, "NONE", None),
    ([-0.25, 0.75], 1, "LOGISTIC", None),
    ([-0.25, 0.75], 1, "SOFTMAX", None),
]


@pytest.mark.parametrize(("weights", "voted", "name", "base"), SIDES)
@pytest.mark.parametrize(
    "labels", [{"classlabels_int64s": [7, 3]}, {"classlabels_strings": ["b", "a"]}], ids=str
)
def test_two_classes_by_the_votes_for_one(labels, weights, voted, name, base):
    attrs = {**one_sided(weights, voted), **labels, "post_transform": name}
    attrs |= {"base_values": base} if base else {}
    check_ort("TreeEnsembleClassifier", [TWO], attrs, outputs=2)


@pytest.mark.parametrize("name", ["SOFTMAX", "LOGISTIC"])
def test_two_classes_transformed_as_in_the_reference(name):
    attrs = {**one_sided([-0.25, 0.75]), "classlabels_int64s": [7, 3], "post_transform": name}
    s = np.array([[0.25, -0.25], [-0.75, 0.75]])
    expected = [np.array([7, 3]), transformed(s, name).astype(np.float32)]
    check_ml("TreeEnsembleClassifier", [TWO], attrs, outputs=2, oracle=lambda _: expected)


def test_two_classes_by_votes_for_both():
    tree = (0, "BRANCH_LT", 0.0, False, Leaf([(0, 0.75), (1, 0.25)]), Leaf([(0, 0.375), (1, 0.625)]))
    attrs = {**attributes([tree], "class"), "classlabels_int64s": [7, 3]}
    expected = [np.array([7, 3]), np.float32([[0.75, 0.25], [0.375, 0.625]])]
    check_ml("TreeEnsembleClassifier", [TWO], attrs, outputs=2, oracle=lambda _: expected)


# TreeEnsemble, version 5.


def split(trees, dtype):
    """The lists of version 5: inner nodes and leaves apart."""
    nodes = {name: [] for name in ("modes", "splits", "featureids", "missing_value_tracks_true")}
    links = {f"{side}{what}": [] for side in ("true", "false") for what in ("nodeids", "leafs")}
    leaves, members, roots = [], [], []

    def put(tree):
        if isinstance(tree, Leaf):
            leaves.append(tree[0])
            return len(leaves) - 1, 1
        at = len(nodes["modes"])
        wanted = tree[2] if isinstance(tree[2], tuple) else None
        mode = 6 if wanted is not None else MODES.index(tree[1])
        for name, value in zip(
            nodes, (mode, 0.0 if mode == 6 else tree[2], tree[0], int(tree[3])), strict=True
        ):
            nodes[name].append(value)
        if wanted is not None:
            members.append((*wanted, np.nan))
        for column in links.values():
            column.append(0)
        for side, child in zip(("true", "false"), tree[4:], strict=True):
            links[f"{side}nodeids"][at], links[f"{side}leafs"][at] = put(child)
        return at, 0

    for tree in trees:
        alone = isinstance(tree, Leaf)
        roots.append(put((0, "BRANCH_LT", 0.0, False, tree, tree) if alone else tree)[0])
    tensors = {
        "nodes_modes": np.array(nodes.pop("modes"), np.uint8),
        "nodes_splits": np.array(nodes.pop("splits"), dtype),
        "leaf_weights": np.array([w for _, w in leaves], dtype),
    }
    if members:
        tensors["membership_values"] = np.array([v for s in members for v in s], dtype)
    return {
        "tree_roots": roots,
        "leaf_targetids": [t for t, _ in leaves],
        **{f"nodes_{name}": column for name, column in {**nodes, **links}.items()},
        **{name: numpy_helper.from_array(array, name) for name, array in tensors.items()},
    }


@pytest.mark.parametrize("aggregate", range(4))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("seed", range(3))
def test_tree_ensemble(seed, dtype, aggregate):
    trees, x = [*forest(seed + 20), Leaf([(2, 0.5)])], samples(dtype=dtype)
    attrs = {**split(trees, dtype), "n_targets": 3, "aggregate_function": aggregate}
    expected = naive(trees, x, 3, AGGREGATES[aggregate]).astype(dtype)
    rtol = 2e-3 if dtype == np.float16 else 1e-5
    check_ml("TreeEnsemble", [x], attrs, version=5, oracle=lambda _: expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("aggregate", range(4))
def test_tree_ensemble_as_in_onnxruntime(aggregate):
    trees = forest(31, modes=("BRANCH_LEQ",))
    attrs = {**split(trees, np.float32), "n_targets": 3, "aggregate_function": aggregate}
    check_ort("TreeEnsemble", [samples()], attrs, version=5)


@pytest.mark.parametrize("number", range(4))
def test_tree_ensemble_transforms(number):
    trees, x = forest(32, targets=2), samples(nan=False)
    attrs = {**split(trees, np.float32), "n_targets": 2, "post_transform": number}
    expected = transformed(naive(trees, x, 2), TRANSFORMS_BY_NUMBER[number])
    expected[np.isnan(expected)] = 0.5
    check_ml("TreeEnsemble", [x], attrs, version=5, oracle=lambda _: expected.astype(np.float32))


TRANSFORMS_BY_NUMBER = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_membership(closed):
    def leaf(w):
        return Leaf([(0, w)])

    inner = (1, "", (5.0,), True, leaf(1.0), leaf(2.0))
    trees = [
        (0, "", (1.5, -2.0, 7.0), False, inner, leaf(3.0)),
        (2, "BRANCH_GTE", 0.5, False, leaf(10.0), leaf(20.0)),
    ]
    x = np.float32([[1.5, 5, 1], [-2, 4, 0], [7, np.nan, 0.5], [1, 5, 1], [np.nan, 5, 0], [5, 1.5, np.nan]])
    attrs = {**split(trees, np.float32), "n_targets": 1}
    if not closed:
        values = numpy_helper.to_array(attrs["membership_values"])[:-1]
        attrs["membership_values"] = numpy_helper.from_array(values)
    expected = np.float32([[11], [22], [11], [13], [23], [23]])
    check_ml("TreeEnsemble", [x], attrs, version=5, oracle=lambda _: expected)


LEAF = attributes([(1, "BRANCH_LT", 0.0, False, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]))], "target")
CLASSES = {"classlabels_int64s": [1, 2, 3]}
ERRORS = [
    ({"nodes_modes": ["BRANCH_LESS", "LEAF", "LEAF"]}, "'nodes_modes': 'BRANCH_LESS' is not known"),
    ({"nodes_values": [0.0]}, "'nodes_values': expected 3, got 1"),
    ({"nodes_truenodeids": [5, 0, 0]}, "'nodes_truenodeids': tree 0 has no node 5"),
    ({"nodes_nodeids": [0, 1, 1]}, "expected each node of a tree once, got tree 0, node 1"),
    ({"nodes_falsenodeids": [0, 0, 0]}, "that form a cycle"),
    ({"target_nodeids": [1, 9]}, "'target_nodeids': tree 0 has no node 9"),
    ({"target_treeids": [0, 4]}, "tree 4 has no node 2"),
    ({"target_ids": [0, 3]}, "expected votes for targets in [0, 1), got 3"),
    ({"nodes_featureids": [-1, 0, 0]}, "'nodes_featureids': expected indices, got -1"),
    ({"nodes_featureids": [4, 0, 0]}, "expected 5 features or more, got float32[2, 4]"),
    ({"base_values": [1.0, 2.0]}, "'base_values': expected 1, got 2"),
    ({"aggregate_function": "MEAN"}, "'aggregate_function' = 'MEAN', expected one of AVERAGE, SUM, MIN, MAX"),
    ({"post_transform": "EXP"}, "'post_transform' = 'EXP'"),
]


@pytest.mark.parametrize(("changed", "message"), ERRORS)
def test_errors_of_the_regressor(changed, message):
    check_refused("TreeEnsembleRegressor", [TWO], {**LEAF, "n_targets": 1, **changed}, message)


def test_errors_of_the_classifier():
    attrs = one_sided([1.0, 2.0])
    check_refused("TreeEnsembleClassifier", [TWO], attrs, "classlabels_strings, got none", outputs=2)
    wrong = {**attrs, **CLASSES, "base_values": [1.0]}
    check_refused("TreeEnsembleClassifier", [TWO], wrong, "'base_values': expected 3, got 1", outputs=2)


SPLIT = split([(0, "BRANCH_LT", 0.0, False, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]))], np.float32)
ERRORS_5 = [
    ({"nodes_truenodeids": [2]}, "'nodes_truenodeids': 2 is outside [0, 2)"),
    ({"nodes_trueleafs": [0], "nodes_truenodeids": [0]}, "that form a cycle"),
    ({"tree_roots": [1]}, "'tree_roots': 1 is outside [0, 1)"),
    (
        {"nodes_modes": numpy_helper.from_array(np.array([6], np.uint8))},
        "'membership_values': expected 1 sets, got none",
    ),
    (
        {"nodes_modes": numpy_helper.from_array(np.array([7], np.uint8))},
        "'nodes_modes': expected 0 to 6, got 7",
    ),
    ({"aggregate_function": 4}, "'aggregate_function' = 4, expected 0 to 3"),
    ({"post_transform": 5}, "'post_transform' = 5, expected 0 to 4"),
    ({"leaf_targetids": [0, 1]}, "expected votes for targets in [0, 1), got 1"),
]


@pytest.mark.parametrize(("changed", "message"), ERRORS_5)
def test_errors_of_version_5(changed, message):
    check_refused("TreeEnsemble", [TWO], {**SPLIT, "n_targets": 1, **changed}, message, version=5)
