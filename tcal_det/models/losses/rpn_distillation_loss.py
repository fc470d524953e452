"""Binary divergence of the objectness of two RPNs."""
from tcal_det.registry import MODELS
from .logit_binary_kl_div_loss import LogitBinaryKLDivLoss


@MODELS.register_module()
class RPNDistillationLoss(LogitBinaryKLDivLoss):
    r"""A student's RPN learns the objectness of its teacher's.

    :func:`logit_binary_kl_div` with K = 1 on the anchors that the student's
    RPN trained on: its sampler chooses them (mmdet's usual: 256 of an image),
    its own loss gives their weights and what they are divided by. The
    teacher's RPN is run once on the maps that the teacher has anyway.

    The teacher's objectness arrives as it is: a calibrator is fitted to the
    head that tells classes apart, and knows nothing of the RPN. Boxes of the
    RPN are not distilled; those of the RoI head are by
    :class:`BoxDistillationLoss`.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Anchors that count among those sampled, as in
            :class:`LogitLoss`, within a level. Defaults to 'all'.

    Reference: Chen et al., "Learning Efficient Object Detection Models with
    Knowledge Distillation", NIPS 2017, section 3: soft targets for the RPN;
    Kim et al., arXiv 2508.20224, for the form of the divergence.
    """
