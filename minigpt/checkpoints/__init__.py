"""From a name to a model: find → fetch → config → tensors → model, one module each, in that order."""
