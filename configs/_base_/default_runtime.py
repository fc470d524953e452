_base_ = 'mmdet::_base_/default_runtime.py'

# Checkpoints appear under their name only when whole.
default_hooks = dict(checkpoint=dict(type='tcal_det.AtomicCheckpointHook'))
