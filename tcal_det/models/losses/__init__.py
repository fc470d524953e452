from .aekt_loss import AEKTLoss
from .atkd_loss import ATKDLoss
from .ats_loss import ATSLoss
from .box_distillation_loss import BoxDistillationLoss
from .box_loss import BoxLoss
from .ckd_loss import CKDLoss
from .cmkd_loss import CMKDLoss
from .cwd_loss import CWDLoss
from .dist_loss import DISTLoss
from .dkd_loss import DKDLoss
from .dpk_loss import DPKLoss
from .feature_loss import FeatureLoss, Scene
from .fgd_loss import FGDLoss
from .igdm_loss import IGDMLoss
from .information_flow_loss import InformationFlowLoss
from .isats_loss import ISATSLoss
from .kdiga_loss import KDIGALoss
from .localization_distillation_loss import (LocalizationDistillationLoss,
                                             edge_kl_div)
from .logit_binary_kl_div_loss import LogitBinaryKLDivLoss, logit_binary_kl_div
from .logit_kl_div_loss import LogitKLDivLoss, logit_kl_div
from .logit_loss import LogitLoss
from .logit_standardization_loss import LogitStandardizationLoss
from .mgd_loss import MGDLoss
from .mlld_loss import MLLDLoss
from .pkd_loss import PKDLoss
from .pretraining_state_loss import PretrainingStateLoss
from .quality_focal_kd_loss import QualityFocalKDLoss, quality_focal_kd
from .rpn_distillation_loss import RPNDistillationLoss
from .sample_weight import SAMPLE_WEIGHT_MODES, sample_weight
from .score_weighted_l2_loss import ScoreWeightedL2Loss
from .wttm_loss import WTTMLoss

__all__ = [
    'AEKTLoss', 'ATKDLoss', 'ATSLoss', 'BoxDistillationLoss', 'BoxLoss',
    'CKDLoss', 'CMKDLoss', 'CWDLoss', 'DISTLoss', 'DKDLoss', 'DPKLoss',
    'FGDLoss', 'FeatureLoss', 'IGDMLoss', 'ISATSLoss', 'InformationFlowLoss',
    'KDIGALoss', 'LocalizationDistillationLoss', 'LogitBinaryKLDivLoss',
    'LogitKLDivLoss', 'LogitLoss', 'LogitStandardizationLoss', 'MGDLoss',
    'MLLDLoss', 'PKDLoss', 'PretrainingStateLoss', 'QualityFocalKDLoss',
    'RPNDistillationLoss', 'SAMPLE_WEIGHT_MODES', 'Scene',
    'ScoreWeightedL2Loss', 'WTTMLoss', 'edge_kl_div', 'logit_binary_kl_div',
    'logit_kl_div', 'quality_focal_kd', 'sample_weight'
]
