"""Predictions for a file, written whole or not at all."""
from typing import List

from mmdet.evaluation import DumpDetResults
from mmengine.fileio import dump
from mmengine.logging import print_log

from tcal_det.fileio import replaced_atomically


class AtomicDumpDetResults(DumpDetResults):
    """mmdet's DumpDetResults, which leaves no half-written file.

    Args:
        out_file_path (str): File to write; ends with .pkl or .pickle.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
    """

    def compute_metrics(self, results: List[dict]) -> dict:
        """Write the predictions of all ranks.

        Args:
            results (list[dict]): Predictions, one for each image.

        Returns:
            dict: Empty.

        Raises:
            InvalidValueError: If the system does not let it be written.
        """
        with replaced_atomically(self.out_file_path) as temporary:
            dump(results, temporary, file_format='pkl')
        print_log(
            f'predictions written: {self.out_file_path}', logger='current')
        return {}
