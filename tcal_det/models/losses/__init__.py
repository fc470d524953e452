from .aekt_loss import AEKTLoss
from .atkd_loss import ATKDLoss
from .ckd_loss import CKDLoss
from .cmkd_loss import CMKDLoss
from .cwd_loss import CWDLoss
from .dist_loss import DISTLoss
from .dkd_loss import DKDLoss
from .feature_loss import FeatureLoss, Scene
from .igdm_loss import IGDMLoss
from .kdiga_loss import KDIGALoss
from .logit_binary_kl_div_loss import LogitBinaryKLDivLoss, logit_binary_kl_div
from .logit_kl_div_loss import LogitKLDivLoss, logit_kl_div
from .logit_loss import LogitLoss
from .mlld_loss import MLLDLoss
from .pkd_loss import PKDLoss
from .pretraining_state_loss import PretrainingStateLoss
from .quality_focal_kd_loss import QualityFocalKDLoss, quality_focal_kd
from .sample_weight import SAMPLE_WEIGHT_MODES, sample_weight
from .score_weighted_l2_loss import ScoreWeightedL2Loss
from .wttm_loss import WTTMLoss

__all__ = [
    'AEKTLoss', 'ATKDLoss', 'CKDLoss', 'CMKDLoss', 'CWDLoss', 'DISTLoss',
    'DKDLoss', 'FeatureLoss', 'IGDMLoss', 'KDIGALoss', 'LogitBinaryKLDivLoss',
    'LogitKLDivLoss', 'LogitLoss', 'MLLDLoss', 'PKDLoss', 'QualityFocalKDLoss',
    'PretrainingStateLoss', 'SAMPLE_WEIGHT_MODES', 'Scene',
    'ScoreWeightedL2Loss', 'WTTMLoss', 'logit_binary_kl_div', 'logit_kl_div',
    'quality_focal_kd', 'sample_weight'
]
