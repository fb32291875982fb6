"""What training, evaluation and prediction share: configs, checkpoints, devices, logs."""
