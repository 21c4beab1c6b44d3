"""Models at run time: loading, checking of inputs, plans by shapes, threads."""
