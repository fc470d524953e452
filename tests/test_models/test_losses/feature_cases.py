"""Every registered feature loss, and maps for all of their tests."""
import torch

from tcal_det.models.losses import (CWDLoss, DPKLoss, FGDLoss,
                                    InformationFlowLoss, MGDLoss, PKDLoss,
                                    Scene, ScoreWeightedL2Loss)

OWN, OTHER = [3, 4], [5, 4]
SIZES = [(4, 6), (2, 3)]
# What makes each loss for the channels of student and teacher.
FEATURE_LOSSES = {
    'pkd': PKDLoss,
    'cwd': CWDLoss,
    'score_weighted': ScoreWeightedL2Loss,
    'mgd': MGDLoss,
    'fgd': FGDLoss,
    'dpk': DPKLoss,
    'flow': InformationFlowLoss,
}
# Has no arguments for channels, as it compares each network with itself.
WITHOUT_CHANNELS = {'flow'}
# Have parts that learn whatever the channels are.
LEARNING = {'mgd', 'fgd', 'dpk'}
# Draw numbers in each step.
DRAWING = {'mgd', 'dpk', 'flow'}
# Must learn to give 0 for equal maps.
NOT_ZERO_AT_EQUAL = {'mgd', 'dpk'}


def make_loss(name, own=OWN, other=OTHER, **arguments):
    """A loss in float64, the same for the same arguments."""
    if name not in WITHOUT_CHANNELS:
        arguments.update(
            student_channels=list(own), teacher_channels=list(other))
    if name == 'dpk':
        arguments.setdefault('patch_size', 2)
    torch.manual_seed(0)
    return FEATURE_LOSSES[name](**arguments).double()


def random_maps(channels, seed=0, sizes=SIZES, num_images=2, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(
            num_images, one, *size, generator=generator, dtype=torch.float64)
        for one, size in zip(channels, sizes)
    ]


def random_scene(seed=0, sizes=SIZES, num_images=2):
    """Scores in (0, 1), and two objects in each image but the last."""
    generator = torch.Generator().manual_seed(seed)
    scores = [
        torch.rand(
            num_images, 1, *size, generator=generator, dtype=torch.float64)
        for size in sizes
    ]
    boxes = torch.tensor([[.1, .2, .55, .9], [.4, .1, .6, .3]])
    return Scene(scores, [boxes] * (num_images - 1) + [boxes[:0]])


def restart(loss):
    """Let the next call draw what the first one did."""
    for name, buffer in loss.named_buffers():
        if name.endswith('draws'):
            buffer.zero_()
        elif name == 'similarity':
            buffer.fill_(loss.start_similarity)


def value_of(loss, student, teacher, scene=None):
    """The loss of the first step."""
    restart(loss)
    return loss(student, teacher, scene or random_scene())
