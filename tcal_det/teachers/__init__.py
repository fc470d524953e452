"""A teacher on data: its logits, its calibration, several of them ranked."""
