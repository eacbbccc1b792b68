"""One file per revision, in order; what a revision did is never changed once it has shipped."""
