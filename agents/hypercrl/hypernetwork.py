"""Hypernetworks: networks that generate the dynamics network of a task from its embedding.

    w_t = w_0 + h(e_t; theta)

J. von Oswald et al., "Continual learning with hypernetworks", ICLR 2020, arXiv:1906.00695; for
dynamics Y. Huang et al., ICRA 2021, arXiv:2009.11997. The base weights w_0 and the encoding of the
embedding by cosine and sine are those of J. J. Gonzalez Ortiz et al., "Magnitude invariant
parametrizations improve hypernetwork learning", ICLR 2024, arXiv:2304.07645.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from separatrix.agents.hypercrl.config import HypernetworkConfig
from separatrix.agents.hypercrl.networks import TaskNetworks
from separatrix.agents.hypercrl.target import TargetShape


class Hypernetwork(TaskNetworks):
    """A fully connected network (ELU) from the embedding of a task to all weights of its network.

    With members, its last layer is `members` times as large. With chunks, a second embedding says
    which of the chunks of the weights is generated, by one last layer for all.

    Args:
        shape: See `TaskNetworks`.
        members: See `TaskNetworks`.
        seed: See `TaskNetworks`.
        config: Sizes and variants.

    Attributes:
        embeddings: One for each task.
        base: w_0, (members, parameters); without base weights the biases of the last layer, which
            start at zero. None with chunks and without base weights.
    """

    def __init__(
        self, shape: TargetShape, members: int, seed: int, config: HypernetworkConfig
    ) -> None:
        super().__init__(shape, members, seed)
        self.config = config
        generator = self.generator(0)
        total = members * shape.parameters
        self._chunks = -(-total // config.chunk_size) if config.chunk_size else 1
        encoded = config.embedding_size * (2 if config.encoding == "constant_norm" else 1)
        self.embeddings = nn.ParameterList()
        self.chunk_embeddings: nn.Parameter | None = None
        if config.chunk_size:
            drawn = torch.randn((self._chunks, config.chunk_embedding_size), generator=generator)
            self.chunk_embeddings = nn.Parameter(drawn)
            encoded += config.chunk_embedding_size
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in pairwise((encoded, *config.layers)):
            weight = torch.empty((before, after))
            nn.init.xavier_uniform_(weight, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(after)))
        self.output = nn.Parameter(self._initial_output(generator))
        start = shape.initial(members, generator)
        self.base: nn.Parameter | None = None
        if config.base_weights != "none" or not config.chunk_size:
            self.base = nn.Parameter(start if config.base_weights != "none" else start * 0)

    def add_task(self) -> None:
        """Draws the embedding of a new task; freezes what only the first task may change."""
        config = self.config
        drawn = torch.randn(config.embedding_size, generator=self.generator(self.tasks + 1))
        self.embeddings.append(nn.Parameter(drawn.to(self.output)))
        super().add_task()
        if self.base is not None and config.base_weights == "frozen":
            self.base.requires_grad_(self.tasks == 1)

    def forward(self, tasks: Sequence[int]) -> Float[Tensor, "tasks members parameters"]:
        """Generates the weights of the networks of some tasks, all in one batch."""
        embeddings = torch.stack([self._embedding(task) for task in tasks])
        generated = (self.trunk(embeddings) @ self.output).flatten(1)
        rows = generated[:, : self.members * self.shape.parameters]
        rows = rows.unflatten(1, (self.members, self.shape.parameters))
        return rows if self.base is None else rows + self.base

    def _embedding(self, task: int) -> Tensor:
        """Returns an embedding, to which no gradient flows after its task unless it is plastic."""
        embedding: Tensor = self.embeddings[task]
        learned = self.config.plastic_embeddings or task == self.tasks - 1
        return embedding if learned else embedding.detach()

    def trunk(
        self, embeddings: Float[Tensor, "tasks embedding"]
    ) -> Float[Tensor, "tasks chunks hidden"]:
        """Evaluates all layers but the last."""
        values = embeddings
        if self.config.encoding == "constant_norm":
            # Angles in (0, pi / 2): cosine and sine have the norm sqrt(embedding_size) together.
            angle = math.pi / 2 * values.sigmoid()
            values = torch.cat((angle.cos(), angle.sin()), 1)
        values = values[:, None].expand(-1, self._chunks, -1)
        if self.chunk_embeddings is not None:
            chunks = self.chunk_embeddings.expand(len(values), -1, -1)
            values = torch.cat((values, chunks), 2)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            values = nn.functional.elu(values @ weight + bias)
        return values

    def common_parameters(self) -> list[nn.Parameter]:
        """Returns all weights but the embeddings of tasks."""
        named = self.named_parameters()
        return [p for name, p in named if not name.startswith("embeddings.") and p.requires_grad]

    def task_parameters(self, task: int) -> list[nn.Parameter]:
        """Returns the embedding of a task."""
        return [self.embeddings[task]]

    @torch.no_grad()
    def _initial_output(self, generator: torch.Generator) -> Tensor:
        """Draws the last layer: normal, with a deviation for each generated weight."""
        shape, initialization = self.shape, self.config.initialization
        hidden = self.config.layers[-1]
        if initialization == "hyperfan":
            # A generated weight is a sum of `hidden` products: its variance is the last layer's
            # times the squared norm of the values before, measured here over embeddings.
            drawn = torch.randn((256, self.config.embedding_size), generator=generator)
            norm = self.trunk(drawn).square().sum(-1).mean().sqrt()
            deviations = shape.deviations() / norm
        else:
            parts = []
            for count in shape.counts:
                if initialization == "xavier":
                    variance = 2 / (hidden + count)
                else:
                    variance = 2 / count
                parts.append(torch.full((count,), math.sqrt(variance)))
            deviations = torch.cat(parts)
        if self.config.chunk_size:
            # Every chunk uses the same last layer, whatever weights it holds.
            deviation = deviations.square().mean().sqrt()
            return deviation * torch.randn((hidden, self.config.chunk_size), generator=generator)
        deviations = deviations.repeat(self.members)
        return deviations * torch.randn((hidden, len(deviations)), generator=generator)
