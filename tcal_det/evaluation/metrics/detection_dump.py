"""Dump of predictions to a file that is written atomically."""
from typing import List

from mmdet.evaluation import DumpDetResults
from mmengine.fileio import dump
from mmengine.logging import print_log

from tcal_det.fileio import atomic_output_file


class AtomicDumpDetResults(DumpDetResults):
    """Variant of mmdet's DumpDetResults that writes the file atomically.

    Args:
        out_file_path (str): Path of the output file, ending with .pkl or
            .pickle.
        collect_device (str): Device on which the results of all ranks are
            collected, 'cpu' or 'gpu'. Defaults to 'cpu'.
    """

    def compute_metrics(self, results: List[dict]) -> dict:
        """Write the predictions of all ranks.

        Args:
            results (list[dict]): Predictions, one for each image.

        Returns:
            dict: Empty dict, as there are no metrics.

        Raises:
            InvalidValueError: If the file cannot be written.
        """
        with atomic_output_file(self.out_file_path) as temporary:
            dump(results, temporary, file_format='pkl')
        print_log(
            f'predictions written: {self.out_file_path}', logger='current')
        return {}
