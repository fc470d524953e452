"""Binary divergence between the objectness of two RPNs."""
from tcal_det.registry import MODELS
from .logit_binary_kl_div_loss import LogitBinaryKLDivLoss


@MODELS.register_module()
class RPNDistillationLoss(LogitBinaryKLDivLoss):
    r"""KL divergence between the objectness of teacher and student.

    The loss is :func:`logit_binary_kl_div` with K = 1 on the anchors that the
    student's RPN is trained on. The sampler of the student selects them (256
    per image by default in mmdet), and the student's RPN loss determines their
    weights and the divisor. The teacher's RPN runs once on feature maps that
    are already computed.

    The teacher's objectness is not calibrated: a calibrator is fitted to the
    classification head and is not valid for the RPN. Boxes of the RPN are not
    distilled; for the boxes of the RoI head see :class:`BoxDistillationLoss`.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Sampled anchors that enter the loss, see
            :class:`LogitLoss`; applied to each level. Defaults to 'all'.

    Reference:
        Chen et al., "Learning Efficient Object Detection Models with
        Knowledge Distillation", NIPS 2017, section 3, for the soft targets of
        the RPN;
        Kim et al., arXiv 2508.20224, for the form of the divergence.
    """
