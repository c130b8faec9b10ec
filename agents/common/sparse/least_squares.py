"""Weighted least squares on subsets of columns, for many members and targets at once.

Every member e of an ensemble weighs the rows its own way. All that its fits need is

    G_e = Theta' diag(w_e) Theta       B_e = Theta' diag(w_e) Y

formed once in float64, by one product of matrices for all members. Each subset of columns is then a
small system, solved by a Cholesky factorization in a batch. Columns are scaled to unit norm for
that, which changes no solution. Where columns depend on one another so nearly that the squared
condition of G spoils the result, the problem is solved by orthogonal factorizations of the weighted
rows instead (A. Bjorck, Numerical Methods for Least Squares Problems, 1996, sections 2.2 and 2.7);
coefficients that the data leave undetermined then are the smallest possible in norm.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.agents.common.sparse.optimizer import check_data

SMALLEST_PIVOT = 1e-9
"""Of a unit column's square, what must be left once the columns before it are projected out."""

BLOCK = 2**21
"""Numbers that a block of the product may hold: small enough for a processor's cache."""


class LeastSquares:
    """The regression problems of all members and targets, numbered member by member.

    Args:
        theta: Values of the features.
        targets: What the features are to add up to.
        weights: Weights of the rows, at least 0, for every member; None for one member that counts
            every row once.
        columns: Features every member may use; None for all. Columns of zeros are left out.

    Attributes:
        num_targets: Number of targets.
        gram: G_e of the unit columns.
        moment: B_e of the unit columns, one row a problem.
        energy: Weighted sum of squares of the target of each problem.
        count: Sum of the weights of each problem's member.
        scale: Norms of the columns of each problem's member.
        allowed: Columns each problem may use.

    Raises:
        ValueError: A shape, a weight or a number is not allowed; the message names the rows.
    """

    def __init__(
        self,
        theta: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        columns: Tensor | None = None,
    ) -> None:
        check_data(theta, targets, weights, columns)
        self._theta, self._targets = theta.double(), targets.double().to(theta.device)
        rows, features = theta.shape
        self.num_targets = targets.shape[1]
        self.is_batch = weights is not None or columns is not None
        if weights is None:
            members = 1 if columns is None else len(columns)
            self._weights = self._theta.new_ones((1, rows)).expand(members, rows)
            gram = products(self._theta, self._targets, None).expand(members, -1, -1)
        else:
            self._weights = weights.to(self._theta)
            gram = products(self._theta, self._targets, self._weights)
        if not gram.isfinite().all():
            raise ValueError("theta, targets: got numbers whose squares overflow; rescale them")
        square = gram[:, :features, :features]
        norms = square.diagonal(dim1=1, dim2=2).sqrt()
        self._norms = torch.where(norms > 0, norms, 1.0)
        self.gram = square / self._norms[:, :, None] / self._norms[:, None, :]
        mixed = gram[:, features:, :features] / self._norms[:, None, :]
        self.moment = mixed.flatten(0, 1)
        self.energy = gram[:, features:, features:].diagonal(dim1=1, dim2=2).flatten()
        every = self._all_problems
        self.count = self._weights.sum(1)[every // self.num_targets]
        self.scale = self._norms[every // self.num_targets]
        allowed = norms > 0
        if columns is not None:
            allowed = allowed & columns.to(theta.device)
        self.allowed = allowed[every // self.num_targets]

    @property
    def _all_problems(self) -> Tensor:
        total = len(self._norms) * self.num_targets
        return torch.arange(total, device=self._theta.device)

    def arrange(self, values: Tensor) -> Tensor:
        """Gives values of the problems the axes of members, if there are any, and targets."""
        shape = (-1,) if self.is_batch else ()
        return values.reshape(*shape, self.num_targets, *values.shape[1:])

    def solve(
        self,
        problems: Int64[Tensor, " problems"],
        support: Bool[Tensor, "problems features"],
        ridge: float,
    ) -> Float[Tensor, "problems features"]:
        """Minimizes sum_i w_i (y_i - theta_i c)^2 + ridge |c|^2 over the c of each support.

        Args:
            problems: Numbers of the problems.
            support: The columns each may use.
            ridge: Weight of the squared coefficients, which are those of the columns as given.
        """
        scale = self.scale[problems]
        matrix = self.gram[problems // self.num_targets]
        matrix = matrix + torch.diag_embed(ridge / scale**2)
        right = torch.where(support, self.moment[problems], 0.0)
        factor, pivots = factorize(matrix, support)
        solution = torch.cholesky_solve(right[..., None], factor)[..., 0]
        doubtful = ~(pivots.amin(1) > SMALLEST_PIVOT)
        if doubtful.any():
            again = self._solve_by_rows(problems[doubtful], support[doubtful], ridge)
            solution[doubtful] = again * scale[doubtful]
        return solution / scale

    def _solve_by_rows(self, problems: Tensor, support: Tensor, ridge: float) -> Tensor:
        """Solves problems without squaring their condition."""
        features = support.shape[1]
        member, target = problems // self.num_targets, problems % self.num_targets
        members, place = member.unique(return_inverse=True)
        triangles = torch.stack([self._triangle(int(m)) for m in members])[place].cpu()
        matrix = triangles[:, :, :features]
        right = triangles[torch.arange(len(problems)), :, features + target.cpu()]
        scale = self.scale[problems].cpu()
        matrix = torch.cat([matrix, torch.diag_embed(ridge**0.5 / scale)], 1)
        right = torch.cat([right, torch.zeros_like(scale)], 1)
        matrix = matrix * support[:, None].cpu()
        left, values, right_t = torch.linalg.svd(matrix, full_matrices=False)
        smallest = max(matrix.shape[1:]) * torch.finfo(values.dtype).eps * values[:, :1]
        used = (values > smallest)[..., None]
        projected = torch.where(used, left.mT @ right[..., None] / values[..., None], 0.0)
        found = right_t.mT @ projected / scale[..., None]
        # Among all minimizers, which differ by what the matrix maps to zero, the smallest.
        free = torch.where(used, 0.0, right_t).mT / scale[..., None]
        found = found - free @ torch.linalg.lstsq(free, found, driver="gelsd").solution
        return found[..., 0].to(support.device) * support

    def _triangle(self, member: int) -> Tensor:
        """R of the weighted rows of features and targets: the same problem with few rows."""
        rows = torch.cat([self._theta / self._norms[member], self._targets], 1)
        return torch.linalg.qr(self._weights[member].sqrt()[:, None] * rows, mode="r").R


def factorize(
    matrix: Float[Tensor, "problems features features"], support: Bool[Tensor, "problems features"]
) -> tuple[Float[Tensor, "problems features features"], Float[Tensor, "problems features"]]:
    """Factorizes the rows and columns of each support, with the unit matrix in the others' place.

    Returns:
        The Cholesky factors, and the squares of their diagonals over those of the matrix; a matrix
        that is not positive definite gets pivots of zero.
    """
    both = support[:, :, None] & support[:, None, :]
    unit = torch.eye(support.shape[1], dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(both, matrix, unit)
    factor, info = torch.linalg.cholesky_ex(matrix)
    diagonal = factor.diagonal(dim1=1, dim2=2)
    pivots = diagonal**2 / matrix.diagonal(dim1=1, dim2=2)
    return factor, torch.where(info[:, None] == 0, pivots, 0.0)


def products(theta: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Returns [Theta Y]' diag(w_e) [Theta Y], but for its products of two different targets.

    Args:
        theta: (rows, features) in float64.
        targets: (rows, targets) in float64.
        weights: (members, rows) in float64, or None for ones.
    """
    features, width = theta.shape[1], theta.shape[1] + targets.shape[1]
    right = torch.cat([theta, targets], 1)
    members = 1 if weights is None else len(weights)
    result = theta.new_zeros((members * features, width))
    left = theta.T.contiguous()
    block = max(1, BLOCK // (members * features))
    for begin in range(0, len(theta), block):
        rows = slice(begin, begin + block)
        weighted = left[None, :, rows]
        if weights is not None:
            weighted = weighted * weights[:, None, rows]
        result.addmm_(weighted.flatten(0, 1), right[rows])
    result = result.view(members, features, width)
    squares = targets.square()
    energy = squares.sum(0)[None] if weights is None else weights @ squares
    below = torch.cat([result[:, :, features:].mT, torch.diag_embed(energy)], 2)
    return torch.cat([result, below], 1)
