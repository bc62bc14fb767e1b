"""Group maps against nilearn: sign-flip max-t, cluster mass and TFCE over a brain of 30,000 voxels.

12 participants, one thread, CPU time, median of the rounds, contenders in turn. nilearn runs as its users call it
(`non_parametric_inference` on images) and on the array alone (`permuted_ols`, which leaves reading images out). With 12
participants 4,096 sign patterns exist: 5,000 flips mean all of them here, drawn ones there; p must agree to Monte Carlo
error. Cluster mass and TFCE race at `--cluster-flips` there, for they take nilearn long, and at more here.

TFCE is the exact integral here and 100 steps there; there the step's width, a hundredth of each flip's own highest t,
is left out of the sum, which makes it another statistic: its p are compared after the same is done to ours.

    python benchmarks/sign_flip.py [--rounds 5] [--flips 5000] [--cluster-flips 40]
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from collections.abc import Callable
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from clock import cpu_seconds, in_turn  # noqa: E402
from nilearn.glm.second_level import non_parametric_inference  # noqa: E402
from nilearn.maskers import NiftiMasker  # noqa: E402
from nilearn.mass_univariate import permuted_ols  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from brainmap.rsa.group.enhancement import Enhancement, tfce  # noqa: E402
from brainmap.rsa.group.maps import group_test  # noqa: E402
from brainmap.rsa.group.places import grid_neighbors  # noqa: E402
from brainmap.rsa.inference.sign_flips import sign_flip_test  # noqa: E402

N, SHAPE, CLUSTER_P = 12, (31, 31, 31), 0.001


def planted() -> tuple[np.ndarray[Any, Any], list[nib.Nifti1Image]]:
    """Smooth noise with a strong and a weak place in it, as an array and as images."""
    rng = np.random.default_rng(0)
    x = np.stack([gaussian_filter(rng.normal(size=SHAPE), 1) for _ in range(N)])
    x /= x.std()
    x[:, 4:8, 4:8, 4:8] += 1.5
    x[:, 18:26, 18:26, 18:26] += 0.5
    affine = np.diag([3.0, 3, 3, 1])
    return x.reshape(N, -1), [nib.Nifti1Image(one.astype(np.float32), affine) for one in x]


def quiet(work: Callable[[], Any]) -> Callable[[], Any]:
    """nilearn's warnings are not what is raced."""

    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()

    return run


def race(title: str, contenders: dict[str, Callable[[], Any]], rounds: int, flips: dict[str, int]) -> None:
    """Run in turn and print medians, per flip too where the numbers of flips differ."""
    times = in_turn(contenders, rounds)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    own = seconds["brainmap"] / flips["brainmap"]
    print(title)
    for name, found in seconds.items():
        each = found / flips[name]
        ratio = "" if name == "brainmap" else f": {each / own:.1f} x"
        print(f"  {name:34} {found:7.2f} s, {1e3 * each:8.3f} ms a flip{ratio}", flush=True)


def compare(name: str, ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], flips: int) -> None:
    """Print how far p are apart, beside what chance allows."""
    error = 4.5 * np.sqrt(np.maximum(ours * (1 - ours), 1 / flips) / flips) + 1 / flips
    off = np.abs(ours - theirs)
    within = "within" if (off <= error).all() else "NOT within"
    print(f"  {name}: largest difference of corrected p {off.max():.4f}, {within} 4.5 Monte Carlo errors", flush=True)


def max_t(x: Any, images: Any, mask: Any, given: Any) -> None:
    """The race of the issue: ours at all 4,096 patterns counts as the 5,000 flips asked for."""
    flips = given.flips
    design = pd.DataFrame({"intercept": np.ones(N)})
    contenders: dict[str, Callable[[], Any]] = {
        "brainmap": lambda: group_test(images, permutations=flips, mask=mask),
        "brainmap, flips drawn, array": lambda: sign_flip_test(
            x, permutations=min(flips, 2**N - 1), rng=np.random.default_rng(0)
        ),
        "nilearn non_parametric_inference": quiet(
            lambda: non_parametric_inference(
                images,
                design_matrix=design,
                mask=mask,
                model_intercept=True,
                n_perm=flips,
                two_sided_test=False,
                random_state=0,
                n_jobs=1,
                verbose=0,
            )
        ),
        "nilearn permuted_ols, array": quiet(
            lambda: permuted_ols(
                np.ones((N, 1)),
                x,
                model_intercept=False,
                two_sided_test=False,
                n_perm=flips,
                random_state=0,
                n_jobs=1,
            )
        ),
    }
    every = dict.fromkeys(contenders, flips)
    race(f"sign-flip max-t, {N} participants, {x.shape[1]:,} voxels, {flips} flips", contenders, given.rounds, every)
    ours = np.asarray(contenders["brainmap"]().p_corrected.dataobj).ravel()
    theirs = 10 ** -contenders["nilearn permuted_ols, array"]()["logp_max_t"][0]
    compare("p", ours, theirs, flips)


def clusters(x: Any, images: Any, mask: Any, given: Any) -> None:
    """Cluster mass and TFCE at fewer flips there, all of them here."""
    few, many = given.cluster_flips, 2**N
    masker = NiftiMasker(mask, standardize=None).fit()
    neighbors = grid_neighbors(np.ones(SHAPE))
    for kind in ("cluster-mass", "tfce"):
        settings: dict[str, Any] = {"tfce": True} if kind == "tfce" else {"threshold": CLUSTER_P}
        drawn = 512 if kind == "tfce" else 2048
        enhancement = Enhancement(kind=kind, neighbors=neighbors, cluster_p=CLUSTER_P)  # type: ignore[arg-type]

        def ours(n: int = drawn, enhancement: Any = enhancement) -> Any:
            rng = np.random.default_rng(0)
            return sign_flip_test(x, permutations=n, rng=rng, enhancement=enhancement, threads=1)

        def theirs(settings: Any = settings) -> Any:
            return permuted_ols(
                np.ones((N, 1)),
                x,
                model_intercept=False,
                two_sided_test=False,
                n_perm=few,
                random_state=0,
                n_jobs=1,
                masker=masker,
                **settings,
            )

        contenders = {"brainmap": ours, "nilearn permuted_ols": quiet(theirs)}
        race(
            f"{kind}, {N} participants, {x.shape[1]:,} voxels",
            contenders,
            min(given.rounds, 3),
            {"brainmap": drawn, "nilearn permuted_ols": few},
        )
        found = quiet(theirs)()
        if kind == "cluster-mass":
            whole = ours(many)
            inside = whole.enhanced > 0
            compare("p of clusters", whole.p_corrected[inside], 10 ** -found["logp_max_mass"].ravel()[inside], few)
        else:
            _compare_tfce(x, neighbors, found, few)


def _compare_tfce(x: Any, neighbors: Any, found: Any, few: int) -> None:
    """The maps to the error of 100 steps; p of the same statistic, TFCE in units of the highest t."""
    observed = sign_flip_test(x, permutations=1, rng=np.random.default_rng(0)).statistic
    seconds, exact = cpu_seconds(lambda: tfce(np.maximum(observed, 0), neighbors))
    stepped = found["tfce"].ravel() * observed.max() / 100
    r = float(np.corrcoef(exact, stepped)[0, 1])
    most = stepped.max() / exact.max()
    print(f"  one map {1e3 * seconds:.1f} ms; r with 100 steps {r:.6f}, their largest value {most:.4f} of ours")
    rng, tops = np.random.default_rng(1), []
    for _ in range(200):
        flipped = x * rng.choice([-1.0, 1.0], size=(N, 1))
        t = flipped.mean(axis=0) / (flipped.std(axis=0, ddof=1) / np.sqrt(N))
        tops.append(tfce(np.maximum(t, 0), neighbors).max() / t.max())
    scaled = exact / observed.max()
    ours = (1 + (np.array(tops)[:, None] >= scaled).sum(axis=0)) / 201
    compare("p of TFCE in units of the highest t", ours, 10 ** -found["logp_max_tfce"].ravel(), few)


def main() -> None:
    """Max-t against both routes of nilearn, then cluster mass and TFCE a flip; corrected p of both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flips", type=int, default=5000)
    parser.add_argument("--cluster-flips", type=int, default=40)
    given = parser.parse_args()
    x, images = planted()
    mask = nib.Nifti1Image(np.ones(SHAPE, np.uint8), images[0].affine)
    max_t(x, images, mask, given)
    clusters(x, images, mask, given)


if __name__ == "__main__":
    main()
