"""Project points onto a plane: principal components, and t-SNE."""

# N points, C dimensions

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import HarmonixrError

Points = npt.NDArray[np.float64]


class ProjectionError(HarmonixrError):
    """The points cannot be projected onto a plane."""


def pca(points_NC: npt.ArrayLike) -> tuple[Points, tuple[float, float]]:
    """Return the first two principal components [N, 2], and the share of the variance that each explains.

    The entry of each axis with the largest absolute value is positive, so the picture does not flip.
    """
    centred = _centred(points_NC)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    plane = left[:, :2] * singular[:2]
    plane *= np.sign(plane[np.abs(plane).argmax(axis=0), range(2)])
    shares = singular**2 / max(float((singular**2).sum()), 1e-12)
    return plane, (float(shares[0]), float(shares[1]))


def tsne(points_NC: npt.ArrayLike, *, perplexity: float = 12.0) -> Points:
    """Return the points' t-SNE projection [N, 2] (van der Maaten and Hinton 2008, by scikit-learn).

    It starts from the principal components (Kobak and Berens 2019), so the same points give the same picture. Raises
    ProjectionError for fewer points than three times the perplexity, where the result means nothing.
    """
    from sklearn.manifold import TSNE

    centred = _centred(points_NC)
    if len(centred) < 3 * perplexity:
        raise ProjectionError(
            f"t-SNE of {len(centred)} points with perplexity {perplexity:g}: give at least {3 * perplexity:g} points"
        )
    projection = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", method="exact", random_state=0)
    plane: Points = projection.fit_transform(centred)
    return plane


def _centred(points_NC: npt.ArrayLike) -> Points:
    points = np.asarray(points_NC, dtype=np.float64)
    if points.ndim != 2 or len(points) < 3 or points.shape[1] < 2:
        raise ProjectionError(f"points of shape {points.shape} have no plane; give at least 3 of 2 or more dimensions")
    centred: Points = points - points.mean(axis=0)
    return centred
