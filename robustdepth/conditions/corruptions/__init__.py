"""The 18 corruptions of the robustness benchmark, batched on the accelerator."""
