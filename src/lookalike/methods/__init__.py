"""Methods, one page each, and the contract between them and training."""
