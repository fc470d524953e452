"""Save checkpoints so that a killed run can always be resumed."""
import os
import os.path as osp
from typing import List, Union

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from tcal_det.engine.training_state import read_training_state
from tcal_det.errors import InvalidValueError, UserError
from tcal_det.fileio import (atomic_output_path, remove_leftovers,
                             write_text_atomically)
from tcal_det.registry import HOOKS


class AtomicLocalBackend(LocalBackend):
    """Backend for local files that are written atomically."""

    def put(self, obj: bytes, filepath: Union[str, os.PathLike]) -> None:
        """Write to a temporary name in the same folder, then rename.

        Args:
            obj (bytes): Content of the file.
            filepath (str or PathLike): Path of the file.

        Raises:
            InvalidValueError: If the file cannot be written.
        """
        try:
            with atomic_output_path(str(filepath)) as temporary:
                super().put(obj, temporary)
        except OSError as error:
            raise InvalidValueError(
                f'checkpoint {str(filepath)!r} cannot be written: {error}; '
                'the previous checkpoint is complete: free disk space, and '
                'continue with --resume') from None


register_backend('tcal_det_atomic', AtomicLocalBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook with atomic writes.

    Each file is written under a temporary name and then renamed, and the
    oldest checkpoint is removed only after the newest is complete. mmengine
    writes in place and removes first, so that with ``max_keep_ckpts=1`` a
    kill in between leaves no checkpoint to resume from. Temporary files and
    outdated checkpoints of a killed run are removed when training starts in
    its folder again. The arguments are those of CheckpointHook. If
    ``backend_args`` are given, that backend is used instead, and files are
    neither renamed nor cleaned up.
    """

    def __init__(self, *args, **kwargs) -> None:
        # mmengine allows only one of the two arguments that choose a backend.
        if kwargs.get('file_client_args') is None:
            kwargs.setdefault('backend_args', dict(backend='tcal_det_atomic'))
        super().__init__(*args, **kwargs)

    def before_train(self, runner) -> None:
        """Remove the files that a killed run has left in the folder."""
        super().before_train(runner)
        if (not is_main_process()
                or not isinstance(self.file_backend, AtomicLocalBackend)
                or not osp.isdir(self.out_dir)):
            return
        removed = remove_leftovers(self.out_dir) + self._remove_outdated()
        if removed:
            runner.logger.info('Removed files that a killed run left in '
                               f'{self.out_dir}: {", ".join(removed)}')

    def _remove_outdated(self) -> List[str]:
        """Remove outdated checkpoints that a killed run did not remove.

        The resumed checkpoint lists the checkpoints that are kept. If the
        list is as long as the limit allows, older checkpoints are outdated.
        Without a list the run keeps all checkpoints, or has not written any.
        """
        listed = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        if (not listed or len(listed) < self.max_keep_ckpts
                or self.interval < 1):
            return []
        # Only steps at which this run saves: other files are not its own.
        names = [
            self.filename_tmpl.format(step) for step in range(
                self.save_begin or self.interval, min(listed), self.interval)
        ]
        outdated = sorted(set(names) & set(os.listdir(self.out_dir)))
        if not outdated or not all(map(self._is_complete, listed)):
            return []
        for name in outdated:
            self.file_backend.remove(osp.join(self.out_dir, name))
        return outdated

    def _is_complete(self, step: int) -> bool:
        try:
            read_training_state(self._path(step))
        except UserError:
            return False
        return True

    def _path(self, step: int) -> str:
        return osp.join(self.out_dir, self.filename_tmpl.format(step))

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        outdated = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            # Before saving, because the checkpoint itself stores this list.
            runner.message_hub.update_info('keep_ckpt_ids',
                                           list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            file_client_args=self.file_client_args,
            backend_args=self.backend_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args)
        if not is_main_process():
            return
        write_text_atomically(
            osp.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        if outdated is not None:
            path = self._path(outdated)
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):
                # DeepSpeed's checkpoints are folders.
                self.file_backend.rmtree(path)
