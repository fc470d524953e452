_base_ = 'mmdet::_base_/default_runtime.py'

# Writes checkpoints atomically.
default_hooks = dict(checkpoint=dict(type='tcal_det.AtomicCheckpointHook'))
