"""Errors between arrays, as pure functions; what of them enters a training, and how, is said in methods/."""
