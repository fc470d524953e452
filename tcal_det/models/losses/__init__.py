from .aekt_loss import AEKTLoss
from .atkd_loss import ATKDLoss
from .ats_loss import ATSLoss
from .ckd_loss import CKDLoss
from .cmkd_loss import CMKDLoss
from .dist_loss import DISTLoss
from .dkd_loss import DKDLoss
from .isats_loss import ISATSLoss
from .logit_binary_kl_div_loss import LogitBinaryKLDivLoss, logit_binary_kl_div
from .logit_kl_div_loss import LogitKLDivLoss, logit_kl_div
from .logit_loss import LogitLoss
from .logit_standardization_loss import LogitStandardizationLoss
from .mlld_loss import MLLDLoss
from .quality_focal_kd_loss import QualityFocalKDLoss, quality_focal_kd
from .sample_weight import SAMPLE_WEIGHT_MODES, sample_weight
from .wttm_loss import WTTMLoss

__all__ = [
    'AEKTLoss', 'ATKDLoss', 'ATSLoss', 'CKDLoss', 'CMKDLoss', 'DISTLoss',
    'DKDLoss', 'ISATSLoss', 'LogitBinaryKLDivLoss', 'LogitKLDivLoss',
    'LogitLoss', 'LogitStandardizationLoss', 'MLLDLoss', 'QualityFocalKDLoss',
    'SAMPLE_WEIGHT_MODES', 'WTTMLoss', 'logit_binary_kl_div', 'logit_kl_div',
    'quality_focal_kd', 'sample_weight'
]
