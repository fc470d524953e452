"""Checkpoints that a kill at any moment cannot lose."""
import os
import os.path as osp
from typing import Union

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from tcal_det.registry import HOOKS


class AtomicLocalBackend(LocalBackend):
    """Local files that appear under their name only when whole."""

    def put(self, obj: bytes, filepath: Union[str, os.PathLike]) -> None:
        """Write to a temporary name in the same folder, then rename."""
        temporary = f'{filepath}.tmp-{os.getpid()}'
        try:
            super().put(obj, temporary)
            os.replace(temporary, filepath)
        finally:
            if osp.exists(temporary):
                os.remove(temporary)


register_backend('tcal_det_atomic', AtomicLocalBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, which never leaves less than it found.

    Each file is written under a temporary name and renamed, and the oldest
    checkpoint is removed after the newest is whole; mmengine writes in place
    and removes first, so that with ``max_keep_ckpts=1`` a kill in between
    leaves nothing to resume from. Takes CheckpointHook's arguments; with
    ``backend_args`` other than the default the rename is that backend's
    affair.
    """

    def __init__(self, *args, **kwargs) -> None:
        # mmengine's older name for a choice of backend excludes the newer.
        if kwargs.get('file_client_args') is None:
            kwargs.setdefault('backend_args', dict(backend='tcal_det_atomic'))
        super().__init__(*args, **kwargs)

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        outdated = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            # Before saving, as the checkpoint itself carries this list.
            runner.message_hub.update_info('keep_ckpt_ids',
                                           list(self.keep_ckpt_ids))
        limit, self.max_keep_ckpts = self.max_keep_ckpts, -1
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = limit
        if outdated is not None and is_main_process():
            path = osp.join(self.out_dir, self.filename_tmpl.format(outdated))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
