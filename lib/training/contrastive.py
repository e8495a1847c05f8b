"""SimCLR: two views of a jet are alike, and unlike all other jets of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import together
from lib.data.augment import Augment
from lib.data.tokens import Batch
from lib.data.views import TwoViews
from lib.models.vit import JetViT
from lib.training.objectives import OBJECTIVES, resting


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Normalised temperature-scaled cross-entropy (SimCLR, arXiv:2002.05709, eq. 1).

    z of both views (B, D) each, normalised; every view has to find its partner among the 2B - 1
    others: the mean over all 2B of -log(exp(z·z'/T) / Σ_{other} exp(z·z_other/T)). Of a step that
    several processes make, B jets are here, and the others are those of all.

    Returns:
        the loss, and the share of views that are nearest to their partner."""
    a, b = (F.normalize(x.float(), dim=1) for x in (a, b))
    (z, first), (others, _) = together.gathered(a), together.gathered(b)
    own = torch.arange(first, first + len(a), device=z.device)
    own = torch.cat([own, own + len(z)])
    similarity = torch.cat([a, b]) @ torch.cat([z, others]).T / temperature
    similarity = similarity.scatter(1, own.unsqueeze(1), -torch.inf)
    partner = own.roll(len(a))
    match = (similarity.detach().argmax(1) == partner).float().mean()
    return F.cross_entropy(similarity, partner), match


@OBJECTIVES.register("simclr")
class SimCLR(nn.Module):
    """A head on the backbone is trained with ``nt_xent`` between two views of each jet.

    Args:
        dim: outputs of the projection head (linear, ReLU, linear), which is thrown away.
        temperature: T of ``nt_xent``.
        summary: let the projection see the model's fixed summary as well. Its multiplicities and
            energies alone tell the jets of a batch apart, and the blocks learn nothing."""

    shown, model_type = ("match",), JetViT
    whole_batches = True  # the loss depends on how many jets are compared

    def __init__(self, model: JetViT, dim: int = 128, temperature: float = 0.5,
                 summary: bool = False) -> None:
        super().__init__()
        self.model, self.temperature, self.summary = resting(model), temperature, summary
        width = model.config.pooled if summary else model.config.learned
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))

    @staticmethod
    def views(augment: Augment | None, damage: Augment) -> tuple[TwoViews, TwoViews]:
        if augment is None:
            raise ValueError("objective='simclr' compares two views: give an augment, e.g. 'ours'")
        return TwoViews(augment), TwoViews(augment)

    def loss(self, batch: Batch, output: None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent; parts: ``match``, see ``nt_xent``, and ``chance``, the loss of a guess.
        ValueError for one view only, or one jet only."""
        if batch.other is None:
            raise ValueError("SimCLR needs two views of each jet: give the settings an augment")
        if len(batch.tokens) < 2:
            raise ValueError("SimCLR compares jets with each other: a batch needs two or more")
        views = (self.model.features(t, self.summary) for t in (batch.tokens, batch.other))
        with torch.autocast(batch.tokens.features.device.type, enabled=False):
            loss, match = nt_xent(*(self.projection(x.float()) for x in views), self.temperature)
        chance = torch.tensor(2.0 * len(batch.tokens) * together.size() - 1).log()
        return loss, {"match": match, "chance": chance}
