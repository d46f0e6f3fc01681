"""Many dimensions onto the plane: principal components, and t-SNE. Knows nothing of what the points are."""

# N points, C dimensions

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import HarmonixrError

Points = npt.NDArray[np.float64]
_STEPS, _EARLY_STEPS, _EXAGGERATION = 750, 250, 12.0


class ProjectionError(HarmonixrError):
    """These points cannot be laid out on a plane."""


def pca(points_NC: npt.ArrayLike) -> tuple[Points, tuple[float, float]]:
    """Return the points' first two principal components [N, 2], and the share of the variance each explains.

    The larger end of each axis by absolute value is made positive, so that the picture does not flip.
    """
    centred = _centred(points_NC)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    plane = left[:, :2] * singular[:2]
    plane *= np.sign(plane[np.abs(plane).argmax(axis=0), range(2)])
    shares = singular**2 / max(float((singular**2).sum()), 1e-12)
    return plane, (float(shares[0]), float(shares[1]))


def tsne(points_NC: npt.ArrayLike, *, perplexity: float = 12.0) -> Points:
    """Return the points laid out by t-SNE [N, 2] (van der Maaten and Hinton 2008, algorithm 1, all pairs).

    It begins from the principal components, not at random (Kobak and Berens 2019): the same points give the same
    picture. Raises ProjectionError for fewer points than three times the perplexity, where it means nothing.
    """
    centred = _centred(points_NC)
    if len(centred) < 3 * perplexity:
        raise ProjectionError(
            f"t-SNE of {len(centred)} points with perplexity {perplexity:g}: give at least {3 * perplexity:g} points"
        )
    likeness = _joint(_squared_distances(centred), perplexity)
    plane, _ = pca(centred)
    plane *= 1e-2 / plane[:, 0].std()
    velocity, gains = np.zeros_like(plane), np.ones_like(plane)
    rate = max(len(centred) / _EXAGGERATION, 50.0)
    for step in range(_STEPS):
        exaggerated = likeness * (_EXAGGERATION if step < _EARLY_STEPS else 1.0)
        gradient = _gradient(exaggerated, plane)
        # Jacobs 1988's gains, as in the authors' own code.
        gains = np.clip(np.where(np.sign(gradient) == np.sign(velocity), gains * 0.8, gains + 0.2), 0.01, None)
        velocity = (0.5 if step < _EARLY_STEPS else 0.8) * velocity - rate * gains * gradient
        plane += velocity
        plane -= plane.mean(axis=0)
    return plane


def _centred(points_NC: npt.ArrayLike) -> Points:
    points = np.asarray(points_NC, dtype=np.float64)
    if points.ndim != 2 or len(points) < 3 or points.shape[1] < 2:
        raise ProjectionError(f"points of shape {points.shape} have no plane; give at least 3 of 2 or more dimensions")
    centred: Points = points - points.mean(axis=0)
    return centred


def _squared_distances(points: Points) -> Points:
    norms = (points**2).sum(axis=1)
    squared: Points = np.maximum(norms[:, None] + norms[None, :] - 2 * points @ points.T, 0)
    np.fill_diagonal(squared, 0)
    return squared


def _joint(squared: Points, perplexity: float) -> Points:
    """Return the joint probabilities of equation 1, each point's width found by bisection for the perplexity."""
    count = len(squared)
    low, high = np.zeros(count), np.full(count, np.inf)
    precision = 1 / np.maximum(np.median(squared, axis=1), 1e-12)
    for _ in range(60):
        weight = np.exp(-(squared - _nearest(squared)) * precision[:, None])
        np.fill_diagonal(weight, 0)
        share = weight / weight.sum(axis=1, keepdims=True)
        entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=1)
        is_wide = entropy > np.log(perplexity)
        low, high = np.where(is_wide, precision, low), np.where(is_wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + np.where(np.isinf(high), 0, high)) / 2)
    joint: Points = (share + share.T) / (2 * count)
    return np.maximum(joint, 1e-12)


def _nearest(squared: Points) -> Points:
    """Return each point's squared distance to its nearest other, as a column: subtracting it avoids underflow."""
    others = squared + np.diag(np.full(len(squared), np.inf))
    nearest: Points = others.min(axis=1, keepdims=True)
    return nearest


def _gradient(likeness: Points, plane: Points) -> Points:
    """Return the gradient of equation 5."""
    student = 1 / (1 + _squared_distances(plane))
    np.fill_diagonal(student, 0)
    pull = (likeness - student / student.sum()) * student
    gradient: Points = 4 * (pull.sum(axis=1)[:, None] * plane - pull @ plane)
    return gradient
